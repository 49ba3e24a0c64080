"""A small HTTP server of range queries that answers, or fails to, as the plan of the tick says."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from urllib.parse import parse_qsl

from tests.support.soak.faults import Reply

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_DRIP_SECONDS = 0.02

Answering = Callable[[Mapping[str, str]], Reply]


class FaultServer:
    """Serves on one port of loopback; `stop` and `start` are those of a server that restarts."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering
        self._connections: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._listening: socket.socket | None = None
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen, on the port of before."""
        if self._listening is None:
            self._listening = socket.create_server(("127.0.0.1", self.port))
            self.port = int(self._listening.getsockname()[1])
            threading.Thread(target=self._serve, args=[self._listening], daemon=True).start()

    def stop(self) -> None:
        """Refuse connections and end those that there are."""
        if self._listening is not None:
            _close(self._listening)
            self._listening = None
        with self._lock:
            connections, threads = list(self._connections), list(self._threads)
        for connection in connections:
            _close(connection)
        for thread in threads:
            thread.join(1.0)

    def _serve(self, listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                thread = threading.Thread(target=self._talk, args=[connection], daemon=True)
                with self._lock:
                    self._connections.add(connection)
                    self._threads = [each for each in self._threads if each.is_alive()]
                    self._threads.append(thread)
                thread.start()

    def _talk(self, connection: socket.socket) -> None:
        with suppress(OSError):
            received = b""
            while (request := _receive(connection, received)) is not None:
                form, received = request
                if not _send(connection, self._answering(form)):
                    break
        with self._lock:
            self._connections.discard(connection)
        connection.close()


def _close(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


def _receive(connection: socket.socket, received: bytes) -> tuple[dict[str, str], bytes] | None:
    """The form of the next request and what came after it; None once the client has left."""
    while b"\r\n\r\n" not in received:
        piece = connection.recv(65536)
        if not piece:
            return None
        received += piece
    head, _, rest = received.partition(b"\r\n\r\n")
    found = _LENGTH.search(head)
    length = int(found[1]) if found else 0
    while len(rest) < length:
        rest += connection.recv(65536)
    target = head.split(b" ", 2)[1].partition(b"?")[2]
    form = dict(parse_qsl((rest[:length] or target).decode()))
    return form, rest[length:]


def _send(connection: socket.socket, reply: Reply) -> bool:
    """Send a reply; whether the connection stays."""
    if reply.hangs_up:
        return False
    if reply.silent:
        connection.recv(1)
        return False
    lines = [f"HTTP/1.1 {reply.status} Some reason", f"Content-Length: {len(reply.body)}"]
    lines += [f"{name}: {value}" for name, value in reply.headers]
    head = ("\r\n".join(lines) + "\r\n\r\n").encode()
    if reply.drips:
        connection.sendall(head)
        for each in reply.body:
            connection.settimeout(_DRIP_SECONDS)
            with suppress(TimeoutError):
                return bool(connection.recv(1)) and False  # the client has left
            connection.settimeout(None)
            connection.sendall(bytes([each]))
        return False
    connection.sendall(head + (reply.body[: len(reply.body) // 2] if reply.cut else reply.body))
    return not reply.cut

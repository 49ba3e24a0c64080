"""Keep-alive connections that a small request costs little.

urllib3 opens, keeps and closes the connections, with TLS and proxies. Requests and headers are
written and read here: `http.client` reads headers as those of e-mail and sends headers and body
apart, which takes longer than all else that a small request needs.
"""

from __future__ import annotations

import http.client
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from urllib3 import HTTPConnectionPool, HTTPResponse, HTTPSConnectionPool
from urllib3.connection import HTTPConnection
from urllib3.exceptions import ProxyError
from urllib3.util.proxy import connection_requires_http_tunnel

from promad.prometheus.deadline import Limit

_LONGEST_LINE = 2**16
_MOST_LINES = 100
_END_OF_HEADERS = b"\r\n\r\n"
_LAST_LINES = frozenset({b"\r\n", b"\n", b""})
_CONTINUE = 100
_WITHOUT_BODY = frozenset({204, 304})


@dataclass(frozen=True)
class Request:
    """One request; `target` is its path and query, or the whole URL for a proxy that forwards it.

    `headers` are all there are but the length of the body; `scheme` is that of the server.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes | None
    scheme: str = "http"

    def encode(self) -> bytes:
        """The request as it is sent."""
        lines = [f"{self.method} {self.target} HTTP/1.1", *map(": ".join, self.headers.items())]
        if self.body is not None:
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + (self.body or b"")


class Response(http.client.HTTPResponse):
    """A response of which the status and the headers are read.

    `release` has to be called in the end; it keeps the connection if the body was read completely.
    """

    headers: dict[str, str]  # type: ignore[assignment]
    pool: HTTPConnectionPool
    connection: HTTPConnection
    connected: socket.socket
    _at_hand = 0
    _decoded: HTTPResponse | None = None

    def begin(self) -> None:
        """Read the status and the headers; their names are in lower case from now on."""
        self.status, lines = _CONTINUE, [""]
        while self.status == _CONTINUE:
            lines = self._read_lines()
            self._read_status_line(lines[0])
        self.headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            self.headers[name.lower()] = value.strip()
        self.chunked = self.headers.get("transfer-encoding", "").lower() == "chunked"
        self.chunk_left = None
        self.length = None if self.chunked else self._find_length()
        known = self.chunked or self.length is not None
        self.will_close = self._check_close() or not known  # type: ignore[attr-defined]

    def _read_lines(self) -> list[str]:
        """The lines before the next empty one; mostly they come in one piece."""
        buffered = self.fp.peek()
        end = buffered.find(_END_OF_HEADERS)
        if end >= 0:
            self._at_hand = len(buffered) - end - len(_END_OF_HEADERS)
            return self.fp.read(end + len(_END_OF_HEADERS)).decode("latin-1")[:-4].split("\r\n")
        lines = []
        while (line := self.fp.readline(_LONGEST_LINE + 1)) not in _LAST_LINES:
            lines.append(line.decode("latin-1").rstrip("\r\n"))
            if len(line) > _LONGEST_LINE:
                raise http.client.LineTooLong("header line")
            if len(lines) > _MOST_LINES:
                raise http.client.HTTPException(f"more than {_MOST_LINES} header lines")
        if not lines:
            raise http.client.RemoteDisconnected("connection closed without a response")
        return lines

    def _read_status_line(self, line: str) -> None:
        version, _, rest = line.partition(" ")
        status, _, self.reason = rest.partition(" ")
        if not (version.startswith("HTTP/1.") and status.isdecimal() and len(status) == 3):
            raise http.client.BadStatusLine(line)
        self.version, self.status = (10 if version == "HTTP/1.0" else 11), int(status)

    def _find_length(self) -> int | None:
        """The length of the body; None if it ends with the connection."""
        if self.status in _WITHOUT_BODY:
            return 0
        said = self.headers.get("content-length", "").partition(",")[0]
        return int(said) if said.isdecimal() else None

    @property
    def is_at_hand(self) -> bool:
        """Whether the whole body came with the headers, so that no reading of it waits."""
        return self.length is not None and self.length <= self._at_hand

    def read_piece(self, most: int) -> bytes:
        """At most so many bytes of the body, as it was before compression; empty at its end.

        Raises:
            OSError, http.client.HTTPException, urllib3.exceptions.HTTPError: if it breaks off.
        """
        if "content-encoding" in self.headers:
            self._decoded = self._decoded or HTTPResponse(
                body=self, headers=self.headers, status=self.status, preload_content=False
            )
            return self._decoded.read(most)
        piece = self.read(most)
        if not piece and self.length:
            raise http.client.IncompleteRead(b"", self.length)
        return piece

    def shut_down(self) -> None:
        """End whatever is read from the connection."""
        self.connected.shutdown(socket.SHUT_RDWR)

    def release(self) -> None:
        """Give the connection back; it is closed if there may be more to read from it."""
        if not self.isclosed():
            self.close()
            self.connection.close()
        self.pool._put_conn(self.connection)


def _exchange(connected: socket.socket, request: Request, seconds: float) -> Response:
    """Send a request and read the headers of the response, in `seconds` as a whole.

    The limit takes the place of the socket's timeout, which costs a system call at each wait. It is
    set again for a body that is still to come.
    """
    if connected.gettimeout() is not None:
        connected.settimeout(None)
    response = Response(connected, method=request.method)
    response.connected = connected
    with Limit(seconds, response.shut_down) as limit:
        try:
            with suppress(BrokenPipeError, ConnectionResetError):  # it may have replied before
                connected.sendall(request.encode())
            response.begin()
        except (OSError, http.client.HTTPException):
            response.close()
            if limit.is_over:
                raise TimeoutError from None
            raise
    if limit.is_over:  # what looks like the end of the headers is that of the connection
        response.close()
        raise TimeoutError
    if not response.is_at_hand:
        connected.settimeout(seconds)
    return response


class Pool(HTTPConnectionPool):
    """A pool that asks by itself, without the costs of what is never used."""

    def ask(self, request: Request, connect_seconds: float, seconds: float) -> Response:
        """The response to a request, sent once.

        Raises:
            TimeoutError: if there is none in `seconds`.
            OSError, http.client.HTTPException, urllib3.exceptions.HTTPError: if there is none.
        """
        connection: Any = self._get_conn()
        try:
            self._connect(connection, request.scheme, connect_seconds)
            response = _exchange(connection.sock, request, seconds)
        except BaseException as error:
            lacks_proxy = connection.proxy and not connection.has_connected_to_proxy
            connection.close()
            self._put_conn(None)
            if lacks_proxy and isinstance(error, Exception):
                raise ProxyError("no connection to the proxy", error) from error
            raise
        if response.will_close:
            connection.close()  # the response keeps the socket until its end
        response.pool, response.connection = self, connection
        return response

    def _connect(self, connection: Any, scheme: str, seconds: float) -> None:
        if not connection.is_closed:
            return
        connection.timeout = seconds
        if connection_requires_http_tunnel(self.proxy, self.proxy_config, scheme):
            self._prepare_proxy(connection)
        else:
            connection.connect()


class _TlsPool(Pool, HTTPSConnectionPool):
    """The same over TLS."""


POOLS = {"http": Pool, "https": _TlsPool}
"""By scheme what urllib3 makes pools of."""

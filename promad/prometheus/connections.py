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
from http import HTTPStatus
from typing import Any

from urllib3 import HTTPConnectionPool, HTTPHeaderDict, HTTPResponse, HTTPSConnectionPool
from urllib3.connection import HTTPConnection
from urllib3.exceptions import ProxyError
from urllib3.util.proxy import connection_requires_http_tunnel

from promad.prometheus.deadline import end_after

_LONGEST_LINE = 2**16
_MOST_HEADERS = 100
_ENDS_OF_HEADERS = frozenset({b"\r\n", b"\n", b""})


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

    headers: HTTPHeaderDict  # type: ignore[assignment]
    reason: str
    pool: HTTPConnectionPool
    connection: HTTPConnection
    connected: socket.socket
    _decoded: HTTPResponse | None = None

    def begin(self) -> None:
        """Read the status and the headers, which takes the place of what `http.client` does."""
        status = int(HTTPStatus.CONTINUE)
        while status == HTTPStatus.CONTINUE:
            version, status, reason = self._read_status()  # type: ignore[attr-defined]
            self.headers = self._read_headers()
        if not version.startswith("HTTP/"):
            raise http.client.UnknownProtocol(version)
        self.status, self.reason = status, reason.strip()
        self.version = 10 if version in {"HTTP/1.0", "HTTP/0.9"} else 11
        self.chunked = self.headers.get("transfer-encoding", "").lower() == "chunked"
        self.chunk_left = None
        self.length = None if self.chunked else self._find_length()
        known = self.chunked or self.length is not None
        self.will_close = self._check_close() or not known  # type: ignore[attr-defined]

    def _read_headers(self) -> HTTPHeaderDict:
        headers = HTTPHeaderDict()
        for _ in range(_MOST_HEADERS + 1):
            line = self.fp.readline(_LONGEST_LINE + 1)
            if len(line) > _LONGEST_LINE:
                raise http.client.LineTooLong("header line")
            if line in _ENDS_OF_HEADERS:
                return headers
            name, _, value = line.decode("latin-1").partition(":")
            headers.add(name, value.strip())
        raise http.client.HTTPException(f"got more than {_MOST_HEADERS} headers")

    def _find_length(self) -> int | None:
        """The length of the body; None if it ends with the connection."""
        if self.status in {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}:
            return 0
        said = self.headers.get("content-length", "").partition(",")[0]
        return int(said) if said.isdecimal() else None

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


def _read_head(connected: socket.socket, method: str, seconds: float) -> Response:
    """The response to a request; `seconds` is for the status and the headers as a whole."""
    with end_after(seconds, lambda: connected.shutdown(socket.SHUT_RDWR)) as is_over:
        response = Response(connected, method=method)
        try:
            response.begin()
        except (OSError, http.client.HTTPException):
            response.close()
            if is_over():
                raise TimeoutError from None
            raise
        if is_over():  # what looks like the end of the headers is that of the connection
            response.close()
            raise TimeoutError
    response.connected = connected
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
            connection.sock.settimeout(seconds)
            with suppress(BrokenPipeError, ConnectionResetError):  # it may have replied before
                connection.sock.sendall(request.encode())
            response = _read_head(connection.sock, request.method, seconds)
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

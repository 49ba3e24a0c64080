"""Time limits of each connection, and a limit on the number of connections."""

from __future__ import annotations

import asyncio
import math
import resource
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Protocol

import h11
import structlog
from uvicorn.protocols.http.h11_impl import H11Protocol

from promad.http_server.rate_limit import RateLimit

log = structlog.get_logger()

OnClose = Callable[[str], None]
"""Is called with the reason of every connection that the server closes early."""

TOO_MANY, MADE_ROOM, SLOW_REQUEST, SLOW_RESPONSE, TLS_HANDSHAKE = CLOSE_REASONS = (
    "too_many",
    "made_room",
    "slow_request",
    "slow_response",
    "tls_handshake",
)

MOST_CONNECTIONS = 512
HEADER_SECONDS = 10.0
BODY_SECONDS = 20.0
"""Longer than an application allows, so that it can answer first."""
WRITE_SECONDS = 10.0
LEAST_WRITTEN = 64 * 1024
"""Bytes of a response that a client has to take every `WRITE_SECONDS`."""
IDLE_SECONDS = 75.0
"""Longer than the interval of most scrapes."""

_REFUSAL = b"too many connections - retry later\n"
_REFUSED = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"retry-after: 5\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b"
) % (len(_REFUSAL), _REFUSAL)


class Phase(StrEnum):
    """What a connection waits for: its client, in all phases but `ANSWERING`."""

    IDLE = "idle"
    HEADERS = "headers"
    BODY = "body"
    ANSWERING = "answering"
    WRITING = "writing"


def find_connection_limit() -> int:
    """At most half of the file descriptors that the process may open."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = descriptors == resource.RLIM_INFINITY
    return MOST_CONNECTIONS if unlimited else max(1, min(MOST_CONNECTIONS, descriptors // 2))


class Connection(Protocol):
    """An open connection, as the pool knows it."""

    def close_early(self, reason: str) -> None:
        """Close the connection at once, whether or not all is sent."""


class ConnectionPool:
    """The open connections. At the limit, a new one replaces the one that waits longest."""

    def __init__(self, most: int, on_close: OnClose) -> None:
        self.most = most
        self.on_close = on_close
        self._open: set[Connection] = set()
        self._waiting: dict[Connection, None] = {}
        self._warnings = RateLimit(1, 60.0)

    def admit(self, connection: Connection) -> bool:
        """Whether a new connection may stay: only if not all others are being answered."""
        if len(self._open) >= self.most:
            self._warn()
            longest = next(iter(self._waiting), None)
            if longest is None:
                self.on_close(TOO_MANY)
                return False
            longest.close_early(MADE_ROOM)
            self.remove(longest)
        self._open.add(connection)
        return True

    def set_waiting(self, connection: Connection, waiting: bool) -> None:
        """The connection waits for its client from now on, or does not any more."""
        self._waiting.pop(connection, None)
        if waiting and connection in self._open:
            self._waiting[connection] = None

    def remove(self, connection: Connection) -> None:
        """The connection is closed."""
        self._open.discard(connection)
        self._waiting.pop(connection, None)

    def _warn(self) -> None:
        if self._warnings.admit():
            log.warning("too many HTTP connections", limit=self.most)


class TimedProtocol(H11Protocol):
    """HTTP over one connection, which is closed if its client is too slow.

    A client has a time limit for the headers of each request, for its body, and for reading the
    response.
    """

    def __init__(self, *arguments: Any, pool: ConnectionPool, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._pool = pool
        self._phase: Phase | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._unsent = math.inf

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self._pool.admit(self):
            self._enter(Phase.HEADERS)
        else:
            transport.write(_REFUSED)
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_timer()
        self._pool.remove(self)

    def data_received(self, data: bytes) -> None:
        if not self.transport.is_closing():
            super().data_received(data)
            self._follow()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._follow()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._follow()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unsent = math.inf
        self._follow()

    def close_early(self, reason: str) -> None:
        """Close the connection at once, whether or not all is sent."""
        self._stop_timer()
        self._pool.on_close(reason)
        self.transport.abort()

    def _follow(self) -> None:
        """Start the timer of a phase when it begins."""
        phase = self._find_phase()
        if phase is not self._phase:
            self._enter(phase)

    def _find_phase(self) -> Phase:
        if self.transport.get_write_buffer_size():
            return Phase.WRITING
        if self.conn.their_state is h11.SEND_BODY:
            return Phase.BODY
        if self.conn.their_state is not h11.IDLE:
            return Phase.ANSWERING
        cycle: object = self.cycle  # None before the first request
        begun = cycle is None or self.conn.trailing_data[0]
        return Phase.HEADERS if begun else Phase.IDLE

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        self._pool.set_waiting(self, phase is not Phase.ANSWERING)
        self._stop_timer()
        if phase is Phase.WRITING:
            self._unsent = self.transport.get_write_buffer_size()
            self._start_timer(WRITE_SECONDS, self._check_writing)
        elif phase is Phase.HEADERS:
            self._start_timer(HEADER_SECONDS, self._end_request)
        elif phase is Phase.BODY:
            self._start_timer(BODY_SECONDS, self._end_request)
        elif phase is Phase.IDLE:
            self._start_timer(IDLE_SECONDS, self.transport.close)

    def _end_request(self) -> None:
        self.close_early(SLOW_REQUEST)

    def _check_writing(self) -> None:
        """Close the connection unless the client has taken enough since the last check."""
        unsent = self.transport.get_write_buffer_size()
        if unsent == 0:
            self._phase = None
            self._follow()
        elif unsent > self._unsent - LEAST_WRITTEN:
            self.close_early(SLOW_RESPONSE)
        else:
            self._unsent = unsent
            self._start_timer(WRITE_SECONDS, self._check_writing)

    def _start_timer(self, seconds: float, act: Callable[[], None]) -> None:
        self._timer = self.loop.call_later(seconds, act)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

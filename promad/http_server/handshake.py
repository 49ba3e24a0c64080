"""The TLS handshake of a connection: it counts as a connection, and has a time limit of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from promad.http_server.connections import TLS_HANDSHAKE, ConnectionPool
from promad.http_server.tls import Tls

HANDSHAKE_SECONDS = 10.0
_CLOSE_SECONDS = 30.0
"""How long a client may take to read the rest of a response and to confirm the end."""


class TlsHandshake(asyncio.Protocol):
    """A new connection, until `make_http` makes what speaks HTTP over it.

    What the client sends right after its part of the handshake is kept for that.
    """

    def __init__(
        self,
        make_http: Callable[[], asyncio.Protocol],
        tls: Tls,
        pool: ConnectionPool,
        connections: set[Any],
    ) -> None:
        self._make_http = make_http
        self._tls = tls
        self._pool = pool
        self._connections = connections
        self._early = bytearray()
        self._http: asyncio.Protocol | None = None
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin the handshake, unless there are too many connections."""
        self._transport = transport
        if not self._pool.admit(self):
            transport.abort()
            return
        self._pool.set_waiting(self, True)
        self._connections.add(self)
        transport.pause_reading()
        self._task = asyncio.get_running_loop().create_task(self._shake_hands(transport))

    def data_received(self, data: bytes) -> None:
        """Keep what comes before the connection is handed over."""
        if self._http is None:
            self._early += data
        else:
            self._http.data_received(data)

    def eof_received(self) -> bool | None:
        """The client sends no more."""
        return None if self._http is None else self._http.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        if self._http is not None:
            self._http.connection_lost(exc)

    def close_early(self, reason: str) -> None:
        """Close the connection at once."""
        self._pool.on_close(reason)
        self.shutdown()

    def shutdown(self) -> None:
        """Close the connection at once: the server ends."""
        if self._transport is not None:
            self._transport.abort()

    async def _shake_hands(self, transport: asyncio.Transport) -> None:
        secure: asyncio.Transport | None = None
        try:
            secure = await asyncio.get_running_loop().start_tls(
                transport,
                self,
                self._tls.context,
                server_side=True,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=_CLOSE_SECONDS,
            )
        except OSError:  # also what TLS and the time limit raise
            self._pool.on_close(TLS_HANDSHAKE)
        finally:
            self._pool.remove(self)
            self._connections.discard(self)
        if secure is None or secure.is_closing():
            return
        if self._tls.allows(secure.get_extra_info("peercert")):
            self._hand_over(secure)
        else:
            self._pool.on_close(TLS_HANDSHAKE)
            secure.abort()

    def _hand_over(self, transport: asyncio.Transport) -> None:
        self._http = self._make_http()
        transport.set_protocol(self._http)
        self._http.connection_made(transport)
        if self._early:
            self._http.data_received(bytes(self._early))

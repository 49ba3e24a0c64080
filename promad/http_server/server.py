"""The socket that is listened on, and the thread that serves it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from promad.errors import PromadError
from promad.http_server.connections import (
    IDLE_SECONDS,
    ConnectionPool,
    OnClose,
    TimedProtocol,
    find_connection_limit,
)
from promad.http_server.drain import DrainMiddleware
from promad.http_server.handshake import TlsHandshake
from promad.http_server.library_log import forward_library_logs
from promad.http_server.tls import Tls

_SHUTDOWN_SECONDS = 2
_BACKLOG = 128
"""Connections that are accepted at once, before any of them counts towards the limit."""


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to the address; an empty host means every interface, port 0 a free port.

    Raises:
        PromadError: if the address is in use or not allowed.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # named, so that asyncio knows it for TCP and sends small answers without delay
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        bound.listen(_BACKLOG)
    except (OSError, OverflowError) as error:
        bound.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise PromadError(
            f"cannot listen on {host}:{port} ({reason}) — free the port, or set another with "
            "exporter_port or --web.listen-address"
        ) from None
    return bound


def _make_protocol(
    pool: ConnectionPool, find_tls: Callable[[], Tls | None], **options: Any
) -> asyncio.Protocol:
    """What speaks to a new client; `options` are uvicorn's."""
    make_http = partial(TimedProtocol, pool=pool, **options)
    tls = find_tls()
    if tls is None:
        return make_http()
    return TlsHandshake(make_http, tls, pool, options["server_state"].connections)


class WebServer:
    """An application served on a bound socket until it is stopped."""

    def __init__(
        self,
        app: ASGIApp,
        bound: socket.socket,
        on_close: OnClose = lambda reason: None,
        find_tls: Callable[[], Tls | None] = lambda: None,
    ) -> None:
        """Serve `app`; `find_tls` is asked once for each new connection."""
        pool = ConnectionPool(find_connection_limit(), on_close)
        protocol: Any = partial(_make_protocol, pool, find_tls)
        config = uvicorn.Config(
            DrainMiddleware(app),
            http=protocol,
            ws="none",
            backlog=_BACKLOG,
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_keep_alive=int(IDLE_SECONDS),
            timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
            server_header=False,
            proxy_headers=False,  # the address of a client is that of its connection
        )
        self._bound = bound
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, name="web", daemon=True)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._bound.getsockname()[1])

    def start(self) -> None:
        """Start to serve."""
        forward_library_logs()
        self._thread.start()

    def stop(self) -> None:
        """Finish requests in flight, for two seconds at most, and close."""
        self._server.should_exit = True
        self._thread.join(_SHUTDOWN_SECONDS + 1)
        self._bound.close()

    def _serve(self) -> None:
        serving: Any = self._server.serve(sockets=[self._bound])
        asyncio.run(serving)

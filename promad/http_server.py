"""An HTTP server in its own thread, which closes connections without a request."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from promad.errors import PromadError

_SILENCE_SECONDS = 10.0
_SHUTDOWN_SECONDS = 2


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
        bound.listen(128)
    except (OSError, OverflowError) as error:
        bound.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise PromadError(
            f"cannot listen on {host}:{port} ({reason}) — free the port, or set another with "
            "exporter_port or --web.listen-address"
        ) from None
    return bound


class _ImpatientProtocol(H11Protocol):
    """Closes a connection on which no request has arrived whole within ten seconds."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.loop.call_later(_SILENCE_SECONDS, self._close_if_silent)

    def _close_if_silent(self) -> None:
        heard: object = self.cycle
        if heard is None:
            self.transport.close()


class WebServer:
    """An application served on a bound socket until it is stopped."""

    def __init__(self, app: Starlette, bound: socket.socket) -> None:
        config = uvicorn.Config(
            app,
            http=_ImpatientProtocol,
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_keep_alive=75,
            timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
            server_header=False,
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
        self._thread.start()

    def stop(self) -> None:
        """Finish requests in flight, for two seconds at most, and close."""
        self._server.should_exit = True
        self._thread.join(_SHUTDOWN_SECONDS + 1)
        self._bound.close()

    def _serve(self) -> None:
        serving: Any = self._server.serve(sockets=[self._bound])
        asyncio.run(serving)

"""Security headers of every response, and HEAD as GET without the body."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS: Mapping[str, str] = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
}
"""A page, which may load scripts and styles, sets a policy of its own instead."""


class HeadersMiddleware:
    """Adds `HEADERS` that a response does not set itself; turns HEAD into GET."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        if scope.get("method") == "HEAD":
            scope = {**scope, "method": "GET"}  # the server leaves the body out
        await self._app(scope, receive, send_with_headers)

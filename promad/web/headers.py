"""What every answer says to a browser, and HEAD, which is GET without the body."""

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
"""An answer that needs more of the browser, as a page does, has headers of its own in place."""


class HeadersMiddleware:
    """Sends `HEADERS` where an answer does not have its own; asks for GET where HEAD was asked."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        if scope.get("method") == "HEAD":
            scope = {**scope, "method": "GET"}  # the server leaves the body out
        await self._app(scope, receive, send_with_headers)

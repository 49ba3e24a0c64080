"""The path below which everything is served, as with Prometheus's --web.route-prefix."""

from __future__ import annotations

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from promad.web.headers import HEADERS
from promad.web.problems import respond_with_problem


class RoutePrefix:
    """Serves `app` below `prefix`, such as `/promad`; `/` redirects there."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        await self._choose(scope)({**scope, "root_path": self._prefix}, receive, send)

    def _choose(self, scope: Scope) -> ASGIApp:
        path: str = scope["path"]
        if path.startswith(f"{self._prefix}/"):
            return self._app
        if path in {"", "/", self._prefix}:
            query = scope["query_string"].decode("latin-1")
            target = f"{self._prefix}/{'?' if query else ''}{query}"
            return RedirectResponse(target, 308, HEADERS)
        detail = f"{path[:80]} does not exist — everything is below {self._prefix}/"
        return respond_with_problem(404, detail, HEADERS)

"""`/-/reload`: an endpoint that changes something, so it is off unless it is enabled.

A page of another site can let a browser send a POST request here, with the password that the
browser knows. Browsers say where a request comes from, and such requests are refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from promad.web.limits import RequestQueue

WAITING = 3


def create_lifecycle_routes(ask_reload: Callable[[], Future[str]] | None) -> list[BaseRoute]:
    """`POST` and `PUT /-/reload`; 403 for everyone without `ask_reload`."""
    queue = RequestQueue(1, WAITING, "reload")

    async def post_reload(request: Request) -> Response:
        if ask_reload is None:
            raise HTTPException(
                403, "the lifecycle API is off — start promad with --web.enable-lifecycle"
            )
        _refuse_other_sites(request)
        async with queue.join() as turn, turn:
            error = await asyncio.wrap_future(ask_reload())
        if error:
            return PlainTextResponse(f"reload failed: {error}\n", 500)
        return PlainTextResponse("promad reloaded its configuration.\n")

    return [Route("/-/reload", post_reload, methods=["POST", "PUT"])]


def _refuse_other_sites(request: Request) -> None:
    """Refuse what a browser sends for a page of another origin; other clients send neither header.

    Raises:
        HTTPException: 403.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    same_site = site is None or site in {"same-origin", "none"}
    same_origin = origin is None or urlsplit(origin).netloc == request.headers.get("host")
    if not (same_site and same_origin):
        raise HTTPException(403, "sent by a page of another site — use promad reload or curl")

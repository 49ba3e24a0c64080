"""`/-/reload`: an endpoint that changes something, so it is off unless it is enabled.

A page of another site can let a browser send a POST request here, with the password that the
browser knows. Browsers say where a request comes from, and such requests are refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from promad.web.limits import RequestQueue
from promad.web.origin import refuse_other_sites

WAITING = 3


def create_lifecycle_routes(ask_reload: Callable[[], Future[str]] | None) -> list[BaseRoute]:
    """`POST` and `PUT /-/reload`; 403 for everyone without `ask_reload`."""
    queue = RequestQueue(1, WAITING, "reload")

    async def post_reload(request: Request) -> Response:
        if ask_reload is None:
            raise HTTPException(
                403, "the lifecycle API is off — start promad with --web.enable-lifecycle"
            )
        refuse_other_sites(request, "promad reload or curl")
        async with queue.join() as turn, turn:
            error = await asyncio.wrap_future(ask_reload())
        if error:
            return PlainTextResponse(f"reload failed: {error}\n", 500)
        return PlainTextResponse("promad reloaded its configuration.\n")

    return [Route("/-/reload", post_reload, methods=["POST", "PUT"])]

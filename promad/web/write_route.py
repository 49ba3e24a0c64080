"""The route of remote write. It is off by default, and what it needs is loaded if it is on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

if TYPE_CHECKING:
    from promad.detection.receiving import Receiver

WRITE_PATH = "/api/v1/write"
"""As of Prometheus."""


def create_write_routes(receiver: Receiver | None) -> list[BaseRoute]:
    """`POST /api/v1/write`; 404 for everyone without a receiver."""
    if receiver is None:
        return [Route(WRITE_PATH, _refuse, methods=["POST"])]
    from promad.web.remote_write import make_endpoint  # 3 MB, for nothing where promad polls

    return [Route(WRITE_PATH, make_endpoint(receiver), methods=["POST"])]


async def _refuse(request: Request) -> Response:
    raise HTTPException(
        404,
        "the remote-write receiver is off — start promad with --web.enable-remote-write-receiver",
    )

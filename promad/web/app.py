"""The application behind the metrics port."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from urllib.parse import parse_qs

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from promad.exporter import Snapshot
from promad.web.landing import landing_page

Snapshots = Callable[[], Sequence[Snapshot]]


def build_app(
    registry: CollectorRegistry, snapshots: Snapshots, is_ready: Callable[[], bool]
) -> Starlette:
    """`/metrics`, `/`, `/-/healthy` and `/-/ready`; anything else is 404. GET and HEAD alike."""

    def metrics(request: Request) -> Response:
        names = parse_qs(request.url.query).get("name[]")
        chosen = registry.restricted_registry(names) if names else registry
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(chosen), media_type=None, headers={"content-type": content_type})

    def landing(request: Request) -> Response:
        headers = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"}
        return HTMLResponse(landing_page(snapshots()), headers=headers)

    def healthy(request: Request) -> Response:
        return PlainTextResponse("promad is Healthy.\n")

    def ready(request: Request) -> Response:
        if is_ready():
            return PlainTextResponse("promad is Ready.\n")
        return PlainTextResponse("promad is not ready: no answer from Prometheus yet.\n", 503)

    return Starlette(
        routes=[
            Route("/metrics", metrics),
            Route("/", landing),
            Route("/-/healthy", healthy),
            Route("/-/ready", ready),
        ],
        middleware=[Middleware(GZipMiddleware, compresslevel=1)],
    )

"""The application behind the metrics port: metrics, health, the page and the REST API."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING

from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

import promad
from promad.detection.running_detector import Detectors
from promad.web import (
    events_api,
    groups_api,
    incidents_api,
    markers_api,
    peers_api,
    scoring_api,
    shards_api,
    state_api,
)
from promad.web.docs import create_docs_routes
from promad.web.group_changes import GroupChanges
from promad.web.headers import HeadersMiddleware
from promad.web.lifecycle import create_lifecycle_routes
from promad.web.limits import RequestQueue
from promad.web.metrics import ScrapeAnswers
from promad.web.page import create_page_routes
from promad.web.problems import HANDLERS
from promad.web.scoring_process import Scorer, score_here
from promad.web.shard_forwarding import create_forwarding_router
from promad.web.write_route import create_write_routes

if TYPE_CHECKING:
    from promad.detection.receiving import Receiver
    from promad.shards import OtherShards

SCORED_AT_ONCE = 2
WAITING = 6
"""Eight bodies of at most 8 MiB limit the memory that requests can take."""

_LIVE_APIS = (groups_api, peers_api, events_api, incidents_api, markers_api, shards_api)


def build_app(
    registry: CollectorRegistry,
    served: Detectors,
    is_ready: Callable[[], bool],
    now: Callable[[], float] = time.time,
    find_trouble: Callable[[], str] = str,
    score: Scorer = score_here,
    ask_reload: Callable[[], Future[str]] | None = None,
    live: bool = True,
    receiver: Receiver | None = None,
    shards: OtherShards | None = None,
) -> FastAPI:
    """The application on the metrics port; HEAD works wherever GET does.

    Args:
        served: the running detectors, none while the daemon starts.
        is_ready: whether every detector has received samples from its server.
        now: unix seconds.
        find_trouble: what keeps the daemon from detecting; empty if nothing does.
        score: answers requests to score; see `ScoringProcess`.
        ask_reload: reloads, and yields the error; without it `/-/reload` is off.
        live: whether the groups are monitored; else there is nothing to show of them, no page, and
            of the API the loaded bundles and scoring alone.
        receiver: takes samples by remote write; without it `/api/v1/write` is off.
        shards: the other shards; None for a daemon that has all groups.
    """
    app = FastAPI(
        title="promad",
        version=promad.__version__,
        description="Finds anomalies in Prometheus metrics and names the metrics that cause them.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        routes=[
            *_create_monitoring_routes(registry, served if live else list, is_ready, find_trouble),
            *create_lifecycle_routes(ask_reload),
            *create_write_routes(receiver),
            *create_docs_routes(),
            *(create_page_routes() if live else ()),
        ],
        middleware=[
            Middleware(HeadersMiddleware),
            Middleware(GZipMiddleware, compresslevel=1),
        ],
        exception_handlers=HANDLERS,
    )
    app.state.served, app.state.now = served, now
    app.state.score = score
    app.state.shards = shards
    app.state.group_changes = GroupChanges(shards.process if shards else None)
    app.state.shard_queue = RequestQueue(shards_api.AT_ONCE, shards_api.WAITING, "shard")
    app.state.scoring_queue = RequestQueue(SCORED_AT_ONCE, WAITING)
    for api in (state_api, scoring_api, *(_LIVE_APIS if live else ())):
        app.include_router(api.router)
    if live:
        app.include_router(create_forwarding_router())
    return app


def description() -> str:
    """The OpenAPI description in JSON, as at `/openapi.json`."""
    return json.dumps(build_app(CollectorRegistry(), list, lambda: False).openapi(), indent=2)


def _create_monitoring_routes(
    registry: CollectorRegistry,
    served: Detectors,
    is_ready: Callable[[], bool],
    find_trouble: Callable[[], str],
) -> list[BaseRoute]:
    """`/metrics`, `/-/healthy` and `/-/ready`."""
    answers = ScrapeAnswers(registry)

    def get_metrics(request: Request) -> Response:
        snapshots = [detector.snapshot() for detector in served()]
        return answers.answer(snapshots, request)

    def get_health(request: Request) -> Response:
        if trouble := find_trouble():
            return PlainTextResponse(f"promad is not healthy: {trouble}.\n", 503)
        return PlainTextResponse("promad is Healthy.\n")

    def get_readiness(request: Request) -> Response:
        if is_ready():
            return PlainTextResponse("promad is Ready.\n")
        return PlainTextResponse("promad is not ready: no response from Prometheus yet.\n", 503)

    return [
        Route("/metrics", get_metrics),
        Route("/-/healthy", get_health),
        Route("/-/ready", get_readiness),
    ]

"""The simulated Prometheus on a loopback port: the part of its HTTP API that promad uses."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from promad.http_server import WebServer, listen
from promad.simulation.answers import answer_instant, answer_range, error_answer
from promad.simulation.exposition import format_exposition
from promad.simulation.fleet import Fleet
from promad.simulation.host import Host
from promad.simulation.scraper import SCRAPE_INTERVAL, Scraper
from promad.simulation.selection import BadDataError
from promad.simulation.targets import HostTarget

Clock = Callable[[], float]
Answer = Callable[[Mapping[str, str], Scraper, float], str]

QUERIES: dict[str, Answer] = {
    "/api/v1/query": answer_instant,
    "/api/v1/query_range": answer_range,
}

BUILD = {
    "version": "2.42.0-simulated",
    "revision": "",
    "branch": "",
    "buildUser": "",
    "buildDate": "",
    "goVersion": "",
}


def simulation_app(
    hosts: Host | Fleet, clock: Clock, scrape_interval: float = SCRAPE_INTERVAL
) -> Starlette:
    """An ASGI application that answers for a host or a fleet at `clock`'s now in unix seconds."""
    target = hosts if isinstance(hosts, Fleet) else HostTarget(hosts)
    scraper = Scraper(target, scrape_interval)
    queries = [
        Route(path, _query_endpoint(answer, scraper, clock), methods=["GET", "POST"])
        for path, answer in QUERIES.items()
    ]
    return Starlette(
        routes=[
            *queries,
            Route("/metrics", _metrics_endpoint(scraper, clock)),
            Route("/api/v1/status/buildinfo", _buildinfo),
            Route("/-/ready", _ready),
        ]
    )


def _metrics_endpoint(scraper: Scraper, clock: Clock) -> Callable[..., object]:
    """What the hosts expose now, all on one page."""

    async def endpoint(_: Request) -> Response:
        body = await run_in_threadpool(format_exposition, scraper.target, clock())
        return Response(body, media_type="text/plain; version=0.0.4; charset=utf-8")

    return endpoint


def _query_endpoint(answer: Answer, scraper: Scraper, clock: Clock) -> Callable[..., object]:
    async def endpoint(request: Request) -> Response:
        parameters = dict(request.query_params)
        parameters.update(parse_qsl((await request.body()).decode(errors="replace")))
        try:
            body = await run_in_threadpool(answer, parameters, scraper, clock())
        except BadDataError as error:
            return Response(error_answer(error), 400, media_type="application/json")
        return Response(body, media_type="application/json")

    return endpoint


async def _buildinfo(_: Request) -> Response:
    body = json.dumps({"status": "success", "data": BUILD}, separators=(",", ":"))
    return Response(body, media_type="application/json")


async def _ready(_: Request) -> Response:
    return PlainTextResponse("Prometheus Server is Ready.\n")


class SimulationServer:
    """Serves hosts in a background thread: `with SimulationServer(fleet, clock) as url: ...`.

    Its `/metrics` has the hosts' values of now, for a real Prometheus to scrape.

    Args:
        hosts: what is scraped: a host, or a fleet.
        clock: the server's now in unix seconds; it may run faster than real time.
        port: on 127.0.0.1; 0 takes any free one.
        scrape_interval: seconds between two samples.

    Raises:
        PromadError: if the port is taken.
    """

    def __init__(
        self,
        hosts: Host | Fleet,
        clock: Clock = time.time,
        port: int = 0,
        scrape_interval: float = SCRAPE_INTERVAL,
    ) -> None:
        app = simulation_app(hosts, clock, scrape_interval)
        self._server = WebServer(app, listen("127.0.0.1", port))

    def start(self) -> str:
        """Begin to answer; returns the server's URL."""
        self._server.start()
        return f"http://127.0.0.1:{self._server.port}"

    def stop(self) -> None:
        """Stop answering, within a few seconds."""
        self._server.stop()

    def __enter__(self) -> str:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

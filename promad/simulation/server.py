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
from promad.simulation.host import Host
from promad.simulation.selection import BadDataError

Clock = Callable[[], float]
Answer = Callable[[Mapping[str, str], Host, float], str]

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


def simulation_app(host: Host, clock: Clock) -> Starlette:
    """An ASGI application that answers for `host`; `clock` gives its now in unix seconds."""
    queries = [
        Route(path, _query_endpoint(answer, host, clock), methods=["GET", "POST"])
        for path, answer in QUERIES.items()
    ]
    return Starlette(
        routes=[*queries, Route("/api/v1/status/buildinfo", _buildinfo), Route("/-/ready", _ready)]
    )


def _query_endpoint(answer: Answer, host: Host, clock: Clock) -> Callable[..., object]:
    async def endpoint(request: Request) -> Response:
        parameters = dict(request.query_params)
        parameters.update(parse_qsl((await request.body()).decode(errors="replace")))
        try:
            body = await run_in_threadpool(answer, parameters, host, clock())
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
    """Serves a host in a background thread: `with SimulationServer(host, clock) as url: ...`.

    Args:
        host: what is scraped.
        clock: the server's now in unix seconds; it may run faster than real time.
        port: on 127.0.0.1; 0 takes any free one.

    Raises:
        PromadError: if the port is taken.
    """

    def __init__(self, host: Host, clock: Clock = time.time, port: int = 0) -> None:
        self._server = WebServer(simulation_app(host, clock), listen("127.0.0.1", port))

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

"""The simulated Prometheus on a loopback port: the part of its HTTP API that promad uses."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from urllib.parse import parse_qsl

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

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

STOP_SECONDS = 1  # how long a request in flight may hold up `stop`


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
    """

    def __init__(self, host: Host, clock: Clock = time.time, port: int = 0) -> None:
        config = uvicorn.Config(
            simulation_app(host, clock),
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
        self._server = uvicorn.Server(config)
        self._port = port
        self._thread: threading.Thread | None = None

    def start(self) -> str:
        """Begin to answer; returns the server's URL.

        Raises:
            OSError: if the port is taken.
        """
        listener = socket.create_server(("127.0.0.1", self._port))
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, daemon=True
        )
        self._thread.start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    def stop(self) -> None:
        """Stop answering, within about a second; harmless when already stopped."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join()

    def __enter__(self) -> str:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

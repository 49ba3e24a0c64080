"""The HTTP server, over real sockets."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import requests
from prometheus_client import CollectorRegistry, Gauge
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from promad.errors import PromadError
from promad.http_server import WebServer, connections, listen
from promad.web.app import build_app


@dataclass
class RunningDetector:
    """A server under test."""

    port: int
    ready: bool = False

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def get(self, path: str, **headers: str) -> requests.Response:
        return requests.get(self.url(path), headers=headers, timeout=5)


@pytest.fixture
def served() -> Iterator[RunningDetector]:
    registry = CollectorRegistry()
    Gauge("one", "The first.", registry=registry).set(1)
    Gauge("two", "The second. " + "It is long. " * 50, registry=registry).set(2)
    bound = listen("127.0.0.1", 0)
    state = RunningDetector(bound.getsockname()[1])
    server = WebServer(build_app(registry, list, lambda: state.ready), bound)
    server.start()
    yield state
    server.stop()


def test_metrics_are_served_as_text_by_default(served: RunningDetector) -> None:
    answer = served.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert "one 1.0\n" in answer.text


def test_metrics_are_served_as_openmetrics_on_request(served: RunningDetector) -> None:
    answer = served.get("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


def test_metrics_can_be_chosen_by_name(served: RunningDetector) -> None:
    text = served.get("/metrics?name[]=two").text
    assert "two 2.0" in text
    assert "one" not in text


def test_metrics_are_compressed_for_whoever_asks(served: RunningDetector) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=5) as client:
        client.sendall(
            b"GET /metrics HTTP/1.1\r\nHost: x\r\n"
            b"Accept-Encoding: gzip\r\nConnection: close\r\n\r\n"
        )
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-encoding: gzip" in head.lower()
    assert b"one 1.0" in gzip.decompress(body)


def test_health_is_always_well_and_readiness_is_earned(served: RunningDetector) -> None:
    assert served.get("/-/healthy").text == "promad is Healthy.\n"
    assert served.get("/-/ready").status_code == 503
    served.ready = True
    assert served.get("/-/ready").text == "promad is Ready.\n"


@pytest.mark.parametrize("path", ["/metrics", "/", "/-/healthy"])
def test_head_is_answered_without_a_body(served: RunningDetector, path: str) -> None:
    answer = requests.head(served.url(path), timeout=5)
    assert (answer.status_code, answer.content) == (200, b"")


def test_other_paths_are_404_and_other_methods_405(served: RunningDetector) -> None:
    assert served.get("/anything").status_code == 404
    assert requests.post(served.url("/metrics"), timeout=5).status_code == 405


def test_silent_and_slow_clients_block_nobody(served: RunningDetector) -> None:
    silent = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(100)]
    for client in silent[:50]:
        client.sendall(b"GET /metr")
    try:
        assert served.get("/metrics").status_code == 200
    finally:
        for client in silent:
            client.close()


def test_a_client_that_never_asks_is_shown_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.2)
    bound = listen("127.0.0.1", 0)
    server = WebServer(Starlette(), bound)
    server.start()
    with socket.create_connection(bound.getsockname(), timeout=5) as client:
        client.sendall(b"GET /half-a-requ")
        assert client.recv(1) == b""
    server.stop()


def test_a_port_in_use_is_one_line_that_says_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PromadError) as caught:
            listen("127.0.0.1", port)
    assert str(caught.value) == (
        f"cannot listen on 127.0.0.1:{port} (Address already in use) — free the port, or set "
        "another with exporter_port or --web.listen-address"
    )


def test_stopping_does_not_wait_for_a_client_that_holds_on() -> None:
    release = threading.Event()

    def slow(request: Request) -> PlainTextResponse:
        release.wait(30)
        return PlainTextResponse("late")

    bound = listen("127.0.0.1", 0)
    server = WebServer(Starlette(routes=[Route("/", slow)]), bound)
    server.start()
    with socket.create_connection(bound.getsockname(), timeout=5) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(0.2)
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 30
    release.set()

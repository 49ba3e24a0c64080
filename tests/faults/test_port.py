"""Clients that are slow, silent or too many, against the real HTTP server."""

from __future__ import annotations

import logging
import resource
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import requests
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from promad.http_server import CLOSE_REASONS, WebServer, connections, library_log, listen
from promad.http_server.drain import DRAIN_SECONDS
from promad.http_server.rate_limit import RateLimit

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE = b"x" * 16 * 2**20


@dataclass
class Port:
    """A server under attack, and why it closed connections."""

    address: tuple[str, int]
    closed: Counter[str] = field(default_factory=Counter)
    release: threading.Event = field(default_factory=threading.Event)

    def connect(self, timeout: float = 5.0) -> socket.socket:
        return socket.create_connection(self.address, timeout)

    def get(self, path: str = "/") -> requests.Response:
        return requests.get(f"http://127.0.0.1:{self.address[1]}{path}", timeout=5)


@contextmanager
def serve() -> Iterator[Port]:
    """A server that answers `/` shortly, `/large` with 16 MiB, and `/wait` when it is released."""
    release = threading.Event()

    def answer(request: Request) -> PlainTextResponse:
        return PlainTextResponse("fine")

    def answer_large(request: Request) -> PlainTextResponse:
        return PlainTextResponse(LARGE)

    def wait(request: Request) -> PlainTextResponse:
        release.wait(30)
        return PlainTextResponse("late")

    async def refuse(request: Request) -> PlainTextResponse:
        raise HTTPException(415, "no")

    routes = [
        Route("/", answer),
        Route("/large", answer_large),
        Route("/wait", wait),
        Route("/refuse", refuse, methods=["POST"]),
    ]
    bound = listen("127.0.0.1", 0)
    port = Port(bound.getsockname(), release=release)
    server = WebServer(Starlette(routes=routes), bound, lambda reason: port.closed.update([reason]))
    server.start()
    try:
        yield port
    finally:
        release.set()
        server.stop()


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time limits that a test can wait for."""
    for name in ("HEADER_SECONDS", "BODY_SECONDS", "WRITE_SECONDS"):
        monkeypatch.setattr(connections, name, 0.3)


@pytest.fixture
def port() -> Iterator[Port]:
    with serve() as running:
        yield running


def read_answer(client: socket.socket) -> bytes:
    """One short answer."""
    received = b""
    while not received.endswith((b"fine", b"no")):
        received += client.recv(65536)
    return received


def drip(client: socket.socket, pause: float = 0.05) -> float:
    """Send a byte at a time until the server closes the connection; yields the seconds."""
    began = time.monotonic()
    client.settimeout(pause)
    while time.monotonic() - began < 10:
        try:
            client.sendall(b"x")
            if client.recv(1) == b"":
                break
        except TimeoutError:
            continue
        except OSError:
            break
    return time.monotonic() - began


# slow clients


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("requests_before", [0, 1, 3])
def test_slow_headers_are_cut_off_in_every_request(port: Port, requests_before: int) -> None:
    with port.connect() as client:
        for _ in range(requests_before):
            client.sendall(GET)
            assert read_answer(client).startswith(b"HTTP/1.1 200")
        client.sendall(b"GET / HTTP/1.1\r\nHost: ")
        assert drip(client) < 3
    assert port.closed == {"slow_request": 1}


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("path", ["/refuse", "/"])
def test_a_body_that_never_ends_is_cut_off(port: Port, path: str) -> None:
    with port.connect() as client:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
        client.sendall(head.encode())
        client.settimeout(5)
        assert client.recv(12).startswith(b"HTTP/1.1 4")
        assert drip(client) < 3


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("times", [1, 5])
def test_a_client_that_never_reads_is_cut_off(port: Port, times: int) -> None:
    with port.connect() as client:
        client.sendall(GET.replace(b"/ ", b"/large ") * times)
        wait_until(lambda: port.closed == {"slow_response": 1})


@pytest.mark.usefixtures("brief")
def test_a_client_that_reads_steadily_gets_all(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    with port.connect() as client:
        client.sendall(GET.replace(b"/ ", b"/large "))
        received = 0
        while received < len(LARGE):
            received += len(client.recv(2**18))
            time.sleep(0.02)
    assert port.closed == {}


@pytest.mark.usefixtures("brief")
def test_a_kept_alive_connection_may_be_idle(port: Port) -> None:
    with port.connect() as client:
        for _ in range(3):
            client.sendall(GET)
            assert read_answer(client).startswith(b"HTTP/1.1 200")
            time.sleep(0.5)
    assert port.closed == {}


def wait_until(condition: Any, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# many clients


def test_1100_idle_clients_keep_nobody_away() -> None:
    with fewer_descriptors(1024), serve() as port, ExitStack() as stack:
        for number in range(1100 if resource_allows(1100) else 400):
            client = stack.enter_context(port.connect())
            if number % 3 == 0:
                client.sendall(b"GET / HT")
            if number % 100 == 0:
                assert port.get().status_code == 200
        assert port.get().text == "fine"


def resource_allows(count: int) -> bool:
    """Whether server and clients, in one process here, may have so many connections open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] > count + 700


@contextmanager
def fewer_descriptors(count: int) -> Iterator[None]:
    """The limit as the server sees it: the clients of this process need descriptors, too."""
    original = resource.getrlimit
    patch = pytest.MonkeyPatch()
    patch.setattr(connections.resource, "getrlimit", lambda kind: (count, original(kind)[1]))
    try:
        yield
    finally:
        patch.undo()


@pytest.mark.parametrize(
    ("descriptors", "limit"), [(64, 32), (1024, 512), (2**20, 512), (resource.RLIM_INFINITY, 512)]
)
def test_the_limit_of_connections_leaves_half_of_the_descriptors(
    descriptors: int, limit: int
) -> None:
    with fewer_descriptors(descriptors):
        assert connections.find_connection_limit() == limit


def test_whoever_waits_longest_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 2)
    with serve() as port, port.connect() as first, port.connect() as second:
        first.sendall(GET)
        read_answer(first)
        second.sendall(GET)
        read_answer(second)
        first.sendall(GET)
        read_answer(first)
        assert port.get().status_code == 200
        assert second.recv(1) == b""
        first.sendall(GET)
        assert read_answer(first).startswith(b"HTTP/1.1 200")
    assert port.closed == {"made_room": 1}


def test_above_the_limit_a_client_is_refused_while_all_others_are_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 2)
    with serve() as port, port.connect() as first, port.connect() as second:
        for client in (first, second):
            client.sendall(GET.replace(b"/ ", b"/wait "))
        time.sleep(0.3)
        with port.connect() as third:
            assert third.recv(65536).startswith(b"HTTP/1.1 503 Service Unavailable")
        port.release.set()
        assert first.recv(65536).startswith(b"HTTP/1.1 200")
    assert port.closed == {"too_many": 1}


def test_every_reason_has_its_name() -> None:
    slow = {"slow_request", "slow_response", "tls_handshake"}
    assert set(CLOSE_REASONS) == {"too_many", "made_room", *slow}


# refusals before the body is read


@pytest.mark.parametrize("connection", ["close", "keep-alive"])
@pytest.mark.parametrize("path", ["/refuse", "/missing", "/"])
def test_a_refusal_arrives_though_the_body_is_still_sent(
    port: Port, connection: str, path: str
) -> None:
    body = b"x" * 4 * 2**20
    for _ in range(10):
        with port.connect() as client:
            head = (
                f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: {connection}\r\n"
                f"Content-Length: {len(body)}\r\n\r\n"
            )
            client.sendall(head.encode() + body)
            assert client.recv(65536).startswith(b"HTTP/1.1 4")


def test_a_client_that_asks_first_is_refused_at_once(port: Port) -> None:
    with port.connect() as client:
        client.sendall(
            b"POST /refuse HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
            b"Content-Length: 1000000\r\n\r\n"
        )
        began = time.monotonic()
        assert read_answer(client).startswith(b"HTTP/1.1 415")
        assert time.monotonic() - began < DRAIN_SECONDS


def test_the_next_request_of_the_connection_follows(port: Port) -> None:
    with port.connect() as client:
        client.sendall(
            b"POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300_000
        )
        assert read_answer(client).startswith(b"HTTP/1.1 415")
        client.sendall(GET)
        assert read_answer(client).startswith(b"HTTP/1.1 200")


# log lines


def test_lines_of_the_libraries_go_through_our_logger_at_a_limited_rate() -> None:
    library_log.forward_library_logs()
    library_log.forward_library_logs()
    name = f"asyncio.test{time.monotonic()}"
    with structlog.testing.capture_logs() as lines:
        for number in range(10_000):
            logging.getLogger(name).error(
                "socket.accept() out of system resource\nsocket: %d", number
            )
        logging.getLogger(name).warning("something else")
        logging.getLogger(name).info("unimportant")
    assert len(lines) == library_log.LINES_PER_MINUTE + 1
    assert lines[0]["event"] == "socket.accept() out of system resource"
    assert (lines[0]["detail"], lines[0]["log_level"], lines[0]["logger"]) == (
        "socket: 0",
        "error",
        name,
    )


def test_an_invalid_request_is_a_line_of_ours(port: Port) -> None:
    with structlog.testing.capture_logs() as lines:
        for _ in range(20):
            with port.connect() as client:
                client.sendall(b"\x1b[31m nonsense\r\n\r\n")
                assert client.recv(65536).startswith(b"HTTP/1.1 400")
    assert 1 <= len(lines) <= library_log.LINES_PER_MINUTE


def test_the_number_of_suppressed_lines_is_known_afterwards() -> None:
    now = [0.0]
    limit = RateLimit(2, 60.0, now=lambda: now[0])
    assert [limit.admit() for _ in range(5)] == [True, True, False, False, False]
    now[0] = 60.0
    assert limit.admit()
    assert (limit.take_suppressed(), limit.take_suppressed()) == (3, 0)

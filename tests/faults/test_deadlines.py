"""A server that never stops sending is given up in time, whatever it sends."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from promad.config import PrometheusSettings
from promad.errors import UnreachableError
from promad.prometheus import Poller, PrometheusClient

SLOWLY = 0.05
"""Seconds between two bytes: far less than any timeout."""
LIMIT = 0.5
PATIENCE = 5.0
"""Only a wait without a limit takes this long."""

HEAD = b"HTTP/1.1 200 OK\r\n"
DRIPS = {
    "status": (b"", HEAD * 99),
    "headers": (HEAD, b"X-Filler: 1\r\n" * 99),
    "continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 99),
    "body": (HEAD + b"Content-Length: 9999\r\n\r\n", b" " * 9999),
    "chunks": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n" * 999),
    "body without an end": (HEAD + b"\r\n", b" " * 9999),
}


@contextmanager
def dripping(at_once: bytes, slowly: bytes) -> Iterator[tuple[str, list[float]]]:
    """A server that sends an answer byte by byte; its URL, and when it was asked."""
    listening = socket.create_server(("127.0.0.1", 0))
    asked: list[float] = []
    stopped = threading.Event()

    def drip(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(65536)
            asked.append(time.monotonic())
            connection.sendall(at_once)
            for each in slowly:
                if stopped.wait(SLOWLY):
                    return
                connection.sendall(bytes([each]))

    def serve() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=drip, args=[listening.accept()[0]], daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", asked
    finally:
        stopped.set()
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


@pytest.mark.parametrize("kind", DRIPS)
def test_an_answer_that_drips_is_given_up(kind: str) -> None:
    settings = PrometheusSettings(timeout="500ms")
    with (
        dripping(*DRIPS[kind]) as (url, asked),
        PrometheusClient(url, settings, retries=1, body_timeouts=1) as client,
    ):
        began = time.monotonic()
        with pytest.raises(UnreachableError) as caught:
            client.query_range("up", 0.0, 60.0, 15.0)
        assert time.monotonic() - began < PATIENCE
    assert len(asked) == 1
    assert f" {LIMIT} s" in str(caught.value)


@pytest.mark.parametrize("kind", DRIPS)
def test_a_poll_gives_the_server_up_with_its_first_query(kind: str) -> None:
    settings = PrometheusSettings(timeout="500ms")
    with (
        dripping(*DRIPS[kind]) as (url, asked),
        PrometheusClient(url, settings, retries=1, body_timeouts=1) as client,
    ):
        poller = Poller(client, {"a": "rate(a[1m])", "b": "rate(b[1m])"}, 15.0, 4, 120.0)
        assert list(poller.poll(900_000.0).failures) == ["a", "b"]
    assert len(asked) == 1


def test_an_answer_may_take_longer_than_one_wait() -> None:
    body = b'{"status":"success","data":{"resultType":"matrix","result":[]}}'
    head = HEAD + b"Content-Length: %d\r\n\r\n" % len(body)
    settings = PrometheusSettings(timeout="500ms")
    with (
        dripping(head, body) as (url, _),
        PrometheusClient(url, settings, retries=0, body_timeouts=60) as client,
    ):
        assert client.query_range("up", 0.0, 60.0, 15.0).series == ()

"""`POST /api/v1/write`: what is taken, what is refused, and with which status."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import bcrypt
import numpy as np
import pytest
import requests
from prometheus_client import CollectorRegistry, generate_latest

from promad.data.groups import Grouping
from promad.detection.receiving import Receiver, Stream
from promad.exposition import ReceiverMetrics
from promad.http_server import Security, WebServer, listen
from promad.prometheus.groups.options import PollOptions
from promad.prometheus.received import decoded as limits
from promad.web import remote_write
from promad.web.app import build_app
from promad.web.protection import protect
from promad.web.write_route import WRITE_PATH
from tests.support.remote_write_messages import (
    VERSION_2,
    Sent,
    compress,
    encode_version_1,
    encode_version_2,
    feature,
)

NOW = 1_795_000_020.0
AT = round(1000 * NOW)
V1 = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}
V2 = {**V1, "Content-Type": f"application/x-protobuf;proto={VERSION_2}"}
WRITTEN = "X-Prometheus-Remote-Write-{}-Written"


class StoppedClock:
    """It is always now."""

    def now(self) -> float:
        return NOW

    def elapsed(self) -> float:
        return 0.0

    def wait_until(self, at: float, stop: threading.Event) -> None:
        raise NotImplementedError


@dataclass
class Port:
    """A served receiver of a detector `web`, or of none yet."""

    receiver: Receiver
    registry: CollectorRegistry
    stream: Stream
    url: str = ""
    session: requests.Session = field(default_factory=requests.Session)

    def post(self, body: bytes, headers: Mapping[str, str] = V1) -> requests.Response:
        return self.session.post(self.url, data=body, headers=dict(headers), timeout=10)

    def send(self, *series: Sent, headers: Mapping[str, str] = V1) -> requests.Response:
        encode = encode_version_1 if headers is V1 else encode_version_2
        return self.post(compress(encode(series)), headers)

    def held(self) -> list[float]:
        """The values of all series at the newest grid time."""
        slot = round(NOW / 15)
        slots = self.stream.store.read(slot, slot)
        return [float(value) for value in slots.values[0][slots.known[0]]]

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"promad_remote_write_{name}", labels)


@contextmanager
def serve(enabled: bool = True, at_work: bool = True) -> Iterator[Port]:
    registry = CollectorRegistry()
    receiver = Receiver(ReceiverMetrics(registry), StoppedClock())
    options = PollOptions(
        {"cpu": "cpu", "load": "load"},
        Grouping(("instance",)),
        15.0,
        12,
        60.0,
        max_groups=50,
        forget_after=1e9,
    )
    stream = receiver.open_stream("web", options, threading.Event())
    if at_work:
        receiver.use({"web": stream.store})
    app = build_app(registry, list, lambda: True, receiver=receiver if enabled else None)
    server = WebServer(app, listen("127.0.0.1", 0))
    server.start()
    try:
        yield Port(receiver, registry, stream, f"http://127.0.0.1:{server.port}{WRITE_PATH}")
    finally:
        server.stop()


@pytest.fixture(scope="module")
def shared() -> Iterator[Port]:
    with serve() as port:
        yield port


def cpu(host: str, *samples: tuple[int, float]) -> Sent:
    return feature("web", "cpu", instance=host), samples


@pytest.mark.parametrize("headers", [V1, V2], ids=["1.0", "2.0"])
def test_samples_are_taken_and_counted(headers: Mapping[str, str]) -> None:
    with serve() as port:
        sent = [
            cpu("a", (AT, 1.5)),
            cpu("b", (AT - 20_000, 0.0)),
            ({"__name__": "up"}, [(AT, 1.0)]),
        ]
        answers = [port.send(*sent, headers=headers) for _ in range(2)]  # the second is a retry
        assert [answer.status_code for answer in answers] == [204, 204]
        assert [answer.content for answer in answers] == [b"", b""]
        assert port.held() == [1.5, 0.0]
        assert port.metric("samples_total", detector="web") == 4
        assert port.metric("unused_total", reason="unknown_series") == 2
        assert port.metric("requests_total", code="204") == 2
        assert port.metric("newest_sample_timestamp_seconds", detector="web") == NOW


def test_a_sender_of_the_second_version_reads_how_much_was_accepted(shared: Port) -> None:
    """Prometheus takes 204 with nothing written for a failure, also of series of another shard."""
    unknown: Sent = ({"__name__": "up"}, [(AT, 1.0)])
    answer = shared.send(cpu("a", (AT, 1.0)), unknown, headers=V2)
    kinds = ("Samples", "Histograms", "Exemplars")
    assert [answer.headers[WRITTEN.format(kind)] for kind in kinds] == ["2", "0", "0"]
    only_unknown = shared.send(unknown, headers=V2)
    assert (only_unknown.status_code, only_unknown.headers[WRITTEN.format("Samples")]) == (204, "1")
    assert WRITTEN.format("Samples") not in shared.send(cpu("a", (AT, 1.0))).headers


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "application/x-protobuf"},
        {**V1, "Content-Type": "application/x-protobuf; proto=prometheus.WriteRequest"},
        {**V1, "Content-Type": 'application/x-protobuf;proto="prometheus.WriteRequest"'},
        {**V1, "Content-Encoding": "Snappy"},
        {**V1, "X-Prometheus-Remote-Write-Version": "0.1.0", "User-Agent": "Prometheus/2.42.0"},
    ],
)
def test_a_sender_of_the_first_version_need_not_name_it(
    shared: Port, headers: dict[str, str]
) -> None:
    assert shared.send(cpu("a", (AT, 1.0)), headers=V1).status_code == 204
    body = compress(encode_version_1([cpu("a", (AT, 1.0))]))
    assert shared.post(body, headers).status_code == 204


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({"Content-Encoding": "gzip"}, "content encoding is gzip — send snappy"),
        ({"Content-Encoding": "zstd"}, "content encoding is zstd — send snappy"),
        ({"Content-Type": "application/json"}, "content type is application/json — send one of"),
        ({"Content-Type": "application/x-protobuf;proto=prometheus.Other"}, "content type is"),
        ({"Content-Type": "text/plain;proto=prometheus.WriteRequest"}, "content type is text/"),
    ],
)
def test_other_content_is_refused(shared: Port, headers: dict[str, str], why: str) -> None:
    answer = shared.post(compress(b""), {**V1, **headers})
    assert answer.status_code == 415
    assert answer.json()["detail"].startswith(why)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "malformed request: the body is no block of snappy"),
        (b"\xff" * 40, "malformed request: the body is no block of snappy"),
        (compress(b"abc" * 99)[:-3], "malformed request: the body is no block of snappy"),
        (compress(b"\x0a\xff\xff\xff\xff\x7f"), "malformed request: a field of "),
        (compress(b"\xff" * 30), "malformed request: a number without end"),
    ],
)
def test_what_cannot_be_read_is_refused_for_good(shared: Port, body: bytes, why: str) -> None:
    for headers in (V1, V2):
        answer = shared.post(body, headers)
        assert answer.status_code == 400
        assert answer.json()["detail"].startswith(why)


def test_a_small_body_that_unpacks_to_a_large_one_is_not_unpacked(shared: Port) -> None:
    bomb = compress(bytes(limits.MOST_DECOMPRESSED_BYTES + 1))
    assert len(bomb) < limits.MOST_BYTES
    answer = shared.post(bomb)
    assert answer.status_code == 413
    assert "bytes after decompression, at most 33554432 are accepted" in answer.text


def test_a_body_that_is_too_large_is_not_read(shared: Port) -> None:
    answer = shared.post(b"x" * (limits.MOST_BYTES + 1))
    assert (answer.status_code, answer.json()["detail"]) == (
        413,
        "the body is larger than 4 MiB — send fewer samples per request",
    )


def test_too_many_series_are_refused(shared: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_SERIES", 2)
    answer = shared.send(*(cpu(f"{n}", (AT, 1.0)) for n in range(3)))
    assert answer.status_code == 413


@pytest.mark.parametrize("headers", [V1, V2], ids=["1.0", "2.0"])
def test_one_bad_series_is_refused_and_the_others_are_taken(headers: Mapping[str, str]) -> None:
    with serve() as port:
        answer = port.send(
            ({"__name__": "", "instance": "x"}, [(AT, 1.0)]),
            cpu("a", (AT - 900_000, 1.0)),
            cpu("b", (AT + 61_000, 1.0)),
            cpu("c", (AT, 3.0)),
            headers=headers,
        )
        assert answer.status_code == 400
        assert answer.text == (
            "refused 1 sample with invalid labels, 1 sample older than 300 s, 1 sample more than "
            "60 s ahead of the clock of promad (a metric or label name is empty); "
            "the rest was taken\n"
        )
        assert port.held() == [3.0]
        assert answer.headers.get(WRITTEN.format("Samples")) == (None if headers is V1 else "1")
        for reason in ("invalid_series", "too_old", "in_future"):
            assert port.metric("unused_total", reason=reason) == 1


def test_histograms_exemplars_and_metadata_are_counted_and_no_error(shared: Port) -> None:
    body = encode_version_1([cpu("a", (AT, 1.0))], exemplars=1, histograms=2, metadata=3)
    before = [shared.metric("unused_total", reason=each) for each in ("exemplar", "histogram")]
    assert shared.post(compress(body)).status_code == 204
    after = [shared.metric("unused_total", reason=each) for each in ("exemplar", "histogram")]
    assert np.subtract(after, before).tolist() == [1, 2]


def test_without_the_flag_nothing_is_taken() -> None:
    with serve(enabled=False) as port:
        answer = port.send(cpu("a", (AT, 1.0)))
        assert answer.status_code == 404
        assert answer.json()["detail"].endswith("--web.enable-remote-write-receiver")
        assert port.held() == []


def test_samples_are_not_lost_while_the_daemon_starts() -> None:
    with serve(at_work=False) as port:
        answer = port.send(cpu("a", (AT, 1.0)))
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_other_methods_are_refused(shared: Port, method: str) -> None:
    assert requests.request(method, shared.url, timeout=5).status_code == 405


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}],
)
def test_a_page_of_another_site_cannot_send_samples(headers: dict[str, str]) -> None:
    with serve() as port:
        body = compress(encode_version_1([cpu("a", (AT, 1.0))]))
        answer = port.post(body, {**V1, **headers})
        assert (answer.status_code, port.held()) == (403, [])


def test_samples_need_the_password(shared: Port) -> None:
    security = Security(users={b"me": bcrypt.hashpw(b"right", bcrypt.gensalt(4))})
    app = build_app(CollectorRegistry(), list, lambda: True, receiver=shared.receiver)
    server = WebServer(protect(app, lambda: security), listen("127.0.0.1", 0))
    server.start()
    try:
        url = f"http://127.0.0.1:{server.port}{WRITE_PATH}"
        body = compress(encode_version_1([cpu("secret", (AT, 1.0))]))
        statuses = [
            requests.post(url, data=body, headers=V1, auth=auth, timeout=10).status_code
            for auth in (None, ("me", "wrong"), ("me", "right"))
        ]
        assert statuses == [401, 401, 204]
    finally:
        server.stop()


def test_beyond_its_capacity_it_asks_to_retry_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_write, "WAITING", 1)
    free, busy = threading.Event(), threading.Event()
    answers: list[Any] = []
    with serve() as port:
        take = port.receiver.take

        def slow(body: bytes, message: str) -> Any:
            busy.set()
            free.wait(10)
            return take(body, message)

        monkeypatch.setattr(port.receiver, "take", slow)

        def send() -> None:
            with requests.Session() as session:
                body = compress(encode_version_1([cpu("a", (AT, 1.0))]))
                answers.append(session.post(port.url, data=body, headers=V1, timeout=20))

        threads = [threading.Thread(target=send) for _ in range(6)]
        for thread in threads:
            thread.start()
        busy.wait(10)
        for _ in range(200):
            if len(answers) == 4:
                break
            threading.Event().wait(0.02)
        free.set()
        for thread in threads:
            thread.join()
        statuses = sorted(answer.status_code for answer in answers)
        assert statuses == [204, 204, 429, 429, 429, 429]
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.headers["Retry-After"] == "1"
        assert port.metric("requests_total", code="429") == 4


def test_a_reload_forgets_detectors_that_are_gone(shared: Port) -> None:
    with serve() as port:
        port.send(cpu("a", (AT, 1.0)))
        options = port.stream.options
        other = port.receiver.open_stream("other", options, threading.Event())
        assert port.metric("newest_sample_timestamp_seconds", detector="web") == NOW
        port.receiver.use({"other": other.store})
        assert port.metric("newest_sample_timestamp_seconds", detector="web") is None
        port.send(cpu("a", (AT, 2.0)), (feature("other", "load", instance="z"), [(AT, 5.0)]))
        assert port.held() == [1.0]
        slot = round(NOW / 15)
        assert other.store.read(slot, slot).values.tolist() == [[5.0]]


def test_every_metric_about_it_has_its_type_and_help(shared: Port) -> None:
    text = generate_latest(shared.registry).decode()
    for name in ("requests_total", "unused_total", "samples_total", "catch_ups_total"):
        assert f"# TYPE promad_remote_write_{name} counter" in text
    assert shared.metric("catch_ups_total", detector="web", result="failure") == 0

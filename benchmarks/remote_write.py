"""What it costs to receive samples by remote write: decoding, placing, HTTP, and a poll of them.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.remote_write [--groups 1000] [--features 38]

The receiver is served in a process of its own; senders, in another, post one sample of every series
in each round, as Prometheus does: snappy, `--batch` samples in a request, `--senders` requests at
once. CPU time in microseconds a sample is that of the receiving process, HTTP included; samples per
second are those of the wall time. Then the newest samples are polled, as a tick does. Both versions
of the protocol; median and range over the rounds.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from types import SimpleNamespace

import numpy as np
import requests
from prometheus_client import CollectorRegistry

from benchmarks.tables import format_spread, format_table
from promad.clock import RealClock
from promad.data.groups import Grouping
from promad.detection.receiving import Receiver
from promad.exposition import ReceiverMetrics
from promad.http_server import WebServer, listen
from promad.prometheus.groups.options import PollOptions
from promad.prometheus.groups.sources import Columns
from promad.prometheus.received import polling as received
from promad.web.app import build_app
from promad.web.write_route import WRITE_PATH
from tests.support.remote_write_messages import (
    VERSION_2,
    Sent,
    compress,
    encode_version_1,
    encode_version_2,
    feature,
)

STEP = 15.0
SAMPLES = 60
VERSIONS = {
    "1.0": (encode_version_1, "application/x-protobuf"),
    "2.0": (encode_version_2, f"application/x-protobuf;proto={VERSION_2}"),
}


@dataclass
class Taken:
    """What each round took."""

    cpu: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    poll: list[float] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("groups", 1000), ("features", 38), ("batch", 2000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--senders", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    rows = []
    for version in VERSIONS:
        taken, megabytes = measure(version, options)
        rows.append(
            [
                version,
                format_spread(taken.cpu, "µs"),
                format_spread(taken.rate, digits=0),
                format_spread(taken.poll, "ms", 1),
                f"{megabytes:.0f} MB",
            ]
        )
    print(f"{options.groups} groups × {options.features}, {options.batch} samples a request")
    header = ["version", "CPU a sample", "samples a second", "CPU of a poll", "peak memory"]
    print(format_table(header, rows))


def measure(version: str, options: argparse.Namespace) -> tuple[Taken, float]:
    """What the rounds took after the first one, which brings the series; and the peak memory."""
    series = list_series(options.groups, options.features)
    here, there = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    child = context.Process(target=serve, args=(there, options.groups, options.features))
    child.start()
    url, taken = f"http://127.0.0.1:{here.recv()}{WRITE_PATH}", Taken()
    base = STEP * np.floor(time.time() / STEP)
    for round_ in range(options.rounds + 1):
        at = base + 0.001 * round_  # as many samples as series in each round
        bodies = encode(version, series, round(1000 * at), options.batch)
        here.send("cpu")
        before, began = here.recv(), time.perf_counter()
        post(url, version, bodies, options.senders)
        wall = time.perf_counter() - began
        here.send("cpu")
        cpu = here.recv() - before
        here.send("poll")
        poll = here.recv()
        if round_:
            taken.cpu.append(1e6 * cpu / len(series))
            taken.rate.append(len(series) / wall)
            taken.poll.append(1000 * poll)
    here.send("stop")
    megabytes = here.recv()
    child.join()
    return taken, megabytes


def list_series(groups: int, features: int) -> list[dict[str, str]]:
    """The labels of all series, in the order in which rules record them."""
    return [
        feature(
            "web", f"feature{column}", instance=f"host-{group:05d}.example.com:9100", job="node"
        )
        for column in range(features)
        for group in range(groups)
    ]


def encode(version: str, series: Sequence[dict[str, str]], at: int, batch: int) -> list[bytes]:
    """The requests of a round; a third of the values is 0."""
    encoder = VERSIONS[version][0]
    sent: list[Sent] = [
        (labels, [(at, 0.0 if n % 3 == 0 else n / 7)]) for n, labels in enumerate(series)
    ]
    return [compress(encoder(sent[k : k + batch])) for k in range(0, len(sent), batch)]


def post(url: str, version: str, bodies: Sequence[bytes], senders: int) -> None:
    local = threading.local()
    headers = {"Content-Type": VERSIONS[version][1], "Content-Encoding": "snappy"}

    def send(body: bytes) -> None:
        if not hasattr(local, "session"):
            local.session = requests.Session()
        answer = local.session.post(url, data=body, headers=headers, timeout=60)
        if answer.status_code != 204:
            raise RuntimeError(f"{answer.status_code}: {answer.text}")

    with ThreadPoolExecutor(senders) as pool:
        list(pool.map(send, bodies))


def serve(pipe: Connection, groups: int, features: int) -> None:
    """Serve a receiver, and answer what is asked of it, until it is told to stop."""
    options = PollOptions(
        {f"feature{column}": "x" for column in range(features)},
        Grouping(("instance",)),
        STEP,
        SAMPLES,
        120.0,
        max_groups=groups,
        forget_after=3600.0,
    )
    registry = CollectorRegistry()
    receiver = Receiver(ReceiverMetrics(registry), RealClock())
    stream = receiver.open_stream("web", options, threading.Event())
    receiver.use({"web": stream.store})
    nothing = SimpleNamespace(read=lambda *_: Columns({}, {}))
    poller = received.GroupPoller(
        None,  # type: ignore[arg-type]
        options,
        lambda rows: received.ReceivedColumns(stream.store, options, rows, nothing),
    )
    app = build_app(registry, list, lambda: True, receiver=receiver)
    server = WebServer(app, listen("127.0.0.1", 0))
    server.start()
    pipe.send(server.port)
    ticks = 0
    while (asked := pipe.recv()) != "stop":
        if asked == "poll":
            ticks += 1
            began = time.process_time()
            poller.poll(time.time() - time.time() % STEP + STEP * min(ticks, 4))
            pipe.send(time.process_time() - began)
        else:
            pipe.send(time.process_time())
    server.stop()
    pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    main()

"""What it costs to render and scrape the metrics of a fleet, beside prometheus_client.

    python -m benchmarks.exposition [--series 10000 100000] [--repeat 7]

Half of the series are about groups, half about their features. `generate_latest` writes the same
families from prometheus_client's objects, which are built outside of its time. A scrape is the
answer of /metrics, with the daemon's registry, to a client in another process: the server's CPU,
and the time from request to answer as the client sees it. All figures are medians in
milliseconds, of CPU unless they say otherwise, with the smallest and the largest.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from subprocess import PIPE
from types import SimpleNamespace
from typing import Any

from prometheus_client import GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CollectorRegistry, Metric
from prometheus_client.registry import Collector

from promad.events.verdict import State
from promad.exposition import collect_fleets, merge_fleets
from promad.exposition.fleet import FleetSnapshot
from promad.exposition.render import FleetRenderer
from promad.http_server import WebServer, listen
from promad.web.app import build_app
from tests.support.fleet_snapshots import (
    PREFIX,
    make_columns,
    make_snapshot,
    name_hosts,
)

FEATURES = tuple(f"feature_{number:02d}" for number in range(38))
STATES = (*[State.OK] * 99, State.ANOMALOUS)
PER_GROUP = 14.5
"""Series of a group, features aside."""


@dataclass(frozen=True, eq=False)
class Families(Collector):
    """Collects families that are at hand."""

    families: Sequence[Metric]

    def collect(self) -> Iterator[Metric]:
        """They."""
        yield from self.families


def main() -> None:
    """Print a line for each measurement."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--series", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--repeat", type=int, default=7)
    options = parser.parse_args()
    for series in options.series:
        measure(series, options.repeat)


def measure(series: int, repeat: int) -> None:
    """Render and scrape a fleet with about as many series."""
    groups, limit = round(series / 2 / PER_GROUP), series // 2
    hosts = name_hosts(groups)
    ticks = [make_columns(hosts, STATES, FEATURES, seed) for seed in range(repeat + 1)]
    renderer = FleetRenderer("hosts", PREFIX, limit)
    rendering, deflating, snapshots = [], [], []
    for columns in ticks:
        snapshot = make_snapshot(columns, limit=limit, renderer=renderer)
        rendering.append(take_time(lambda shot=snapshot: shot.rendered))
        deflating.append(take_time(snapshot.rendered.compress))
        snapshots = [snapshot]
    families = [*collect_fleets(snapshots)]
    text = b"".join(segment.plain for segment in merge_fleets(snapshots, openmetrics=False))
    assert text == generate_latest(Families(families))
    lines = sum(not line.startswith(b"#") for line in text.splitlines())
    print(f"{lines} series of {groups} groups, {len(text) / 1e6:.1f} MB")
    latest = [take_time(lambda: generate_latest(Families(families))) for _ in range(repeat)]
    report("rendered in the tick", rendering[1:])
    report("compressed in the tick", deflating[1:])
    report("generate_latest", latest)
    report_scrapes(snapshots, repeat)
    ratio = statistics.median(latest) / statistics.median(rendering[1:])
    print(f"  generate_latest / rendered: {ratio:.0f}x")


def take_time(work: Callable[[], object]) -> float:
    """CPU milliseconds."""
    started = time.process_time()
    work()
    return 1000 * (time.process_time() - started)


def report(what: str, values: Sequence[float]) -> None:
    """Print a median with its bounds."""
    bounds = f"{min(values):.1f} to {max(values):.1f}"
    print(f"  {what:<26} {statistics.median(values):8.1f}  ({bounds})")


def report_scrapes(snapshots: Sequence[FleetSnapshot], repeat: int) -> None:
    """Print what scrapes cost."""
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    detector: Any = SimpleNamespace(snapshot=lambda: snapshots[0])
    bound = listen("127.0.0.1", 0)
    server = WebServer(build_app(registry, lambda: [detector], lambda: True), bound)
    server.start()
    for encoding in ("identity", "gzip"):
        command = [sys.executable, "-c", CLIENT, str(server.port), encoding]
        with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True) as client:
            scrapes = [scrape(client) for _ in range(3 * repeat + 1)][1:]
            client.stdin.close()
        report(f"scrape, {encoding}", [cpu for cpu, _ in scrapes])
        report(f"scrape, {encoding}, elapsed", [elapsed for _, elapsed in scrapes])
    server.stop()


CLIENT = """
import http.client, sys, time
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
for _ in sys.stdin:
    started = time.perf_counter()
    connection.request("GET", "/metrics", headers={"Accept-Encoding": sys.argv[2]})
    connection.getresponse().read()
    print(1000 * (time.perf_counter() - started), flush=True)
"""


def scrape(client: subprocess.Popen[str]) -> tuple[float, float]:
    """Milliseconds of this process's CPU, and of the client's clock."""
    elapsed = 0.0

    def wait() -> None:
        nonlocal elapsed
        client.stdin.write("\n")
        client.stdin.flush()
        elapsed = float(client.stdout.readline())

    return take_time(wait), elapsed


if __name__ == "__main__":
    main()

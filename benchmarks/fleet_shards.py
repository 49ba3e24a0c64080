"""What one shard of five asks of Prometheus, against one daemon that reads all groups.

    python -m benchmarks.fleet_shards [--hosts 5000] [--ticks 20] [--shards 5] [--prometheus FILE]

A real Prometheus has 5,000 hosts with two gauges and two counters. A poller asks for what is new at
every tick, as the daemon does: for all hosts; for the hosts of one shard, by `instance`, with short
and with long names; and for one shard by a label with 60 values. Ticks are 15 s apart in the data,
and one after the other here; every 20th asks again which groups there are. The first, which fills
the window, is not counted.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.processes import read_cpu
from benchmarks.tables import format_table
from promad.config import PrometheusSettings
from promad.data.groups import Grouping
from promad.data.shards import Shard, Share
from promad.prometheus import PrometheusClient
from promad.prometheus.groups.options import PollOptions
from promad.prometheus.groups.polling import GroupPoller
from tests.support.prometheus_server import PrometheusServer

STEP = 15.0
START = 1_750_000_005.0
SAMPLES = 40
BUCKETS = 60
FIRST = 15
QUERIES = {
    "load": "load1",
    "memory": "memory_free_bytes",
    "requests": "rate(requests_total[1m])",
    "errors": "sum by (instance, bucket) (rate(errors_total[1m]))",
}
METRICS = ("load1", "memory_free_bytes", "requests_total", "errors_total")
NAMES = {"short": "h{:04d}:9100", "long": "host-{:04d}.eu-west.example.com:9100"}


@dataclass(frozen=True)
class Cost:
    """What a tick takes, on average: CPU milliseconds, kilobytes of answers, and groups."""

    server: float
    client: float
    kilobytes: float
    groups: int


def write_history(path: Path, hosts: int, name: str) -> None:
    """OpenMetrics with every host's series."""
    chance = np.random.default_rng(1)
    with path.open("w") as file:
        for metric in METRICS:
            is_counter = metric.endswith("_total")
            kind = "counter" if is_counter else "gauge"
            file.write(f"# TYPE {metric.removesuffix('_total')} {kind}\n")
            for host in range(hosts):
                labels = f'instance="{name.format(host)}",bucket="{host * 7 % BUCKETS}",job="node"'
                values = chance.integers(1, 1000, SAMPLES)
                for sample, value in enumerate(np.cumsum(values) if is_counter else values):
                    file.write(f"{metric}{{{labels}}} {value} {START + sample * STEP:.0f}\n")
        file.write("# EOF\n")


def measure(server: PrometheusServer, by: tuple[str, ...], shard: Shard | None, ticks: int) -> Cost:
    """Poll tick by tick."""
    assert server.process is not None
    grouping = Grouping(by, (), shard)
    options = PollOptions(QUERIES, grouping, STEP, 12, 60.0, 10_000, 3600.0)
    with PrometheusClient(server.url, PrometheusSettings(timeout="60s")) as client:
        poller = GroupPoller(client, options)
        poller.poll(START + FIRST * STEP)
        before = read_cpu(server.process.pid), time.process_time(), client.bytes_read
        for tick in range(1, ticks + 1):
            poll = poller.poll(START + (FIRST + tick) * STEP)
            assert not poll.failures, poll.failures
        after = read_cpu(server.process.pid), time.process_time(), client.bytes_read
    used = [(end - begin) / ticks for begin, end in zip(before, after, strict=True)]
    return Cost(1000 * used[0], 1000 * used[1], used[2] / 1000, len(poll.frame.groups))


def run(server: PrometheusServer, asked: argparse.Namespace) -> Iterator[tuple[str, Cost]]:
    """Each case, the median of the rounds."""
    share = Share(0, asked.shards)
    cases = {
        "all groups": (("instance",), None),
        "one shard by `instance`": (("instance",), Shard(share, ("instance",))),
        "one shard by `bucket`": (("bucket", "instance"), Shard(share, ("bucket",))),
    }
    for title, (by, shard) in cases.items():
        costs = [measure(server, by, shard, asked.ticks) for _ in range(asked.rounds)]
        middle = [statistics.median(getattr(each, name) for each in costs) for name in COLUMNS]
        yield title, Cost(*middle, costs[0].groups)


COLUMNS = ("server", "client", "kilobytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--hosts", type=int, default=5000)
    parser.add_argument("--ticks", type=int, default=20)
    parser.add_argument("--shards", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prometheus", help="the program, in place of the installed one")
    asked = parser.parse_args()
    rows = []
    for kind, name in NAMES.items():
        with TemporaryDirectory(prefix="promad-shards-") as folder:
            server = PrometheusServer(Path(folder), binary=asked.prometheus)
            write_history(Path(folder) / "history.om", asked.hosts, name)
            server.backfill(Path(folder) / "history.om")
            with server:
                found = dict(run(server, asked))
        whole = found["all groups"]
        rows += [
            [
                f"{title}, {kind} names",
                str(cost.groups),
                f"{cost.server:.0f} ms ({cost.server / whole.server:.2f})",
                f"{cost.kilobytes:.0f} kB ({cost.kilobytes / whole.kilobytes:.2f})",
                f"{cost.client:.0f} ms ({cost.client / whole.client:.2f})",
            ]
            for title, cost in found.items()
        ]
    header = ["polled", "groups", "CPU of Prometheus", "bytes read", "CPU of the poller"]
    print(format_table(header, rows))


if __name__ == "__main__":
    main()

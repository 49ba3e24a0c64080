"""A fleet on a real Prometheus, watched by one daemon while hosts come, fail and go.

    python -m benchmarks.fleet_live [--hosts 1000] [--features 38] [--ticks 200] [--interval 4]
        [--history 1]

Prometheus is back-filled with hours of the hosts' history and then scrapes their exporter.
`collect`, `preprocess`, `train` (pooled linear) and `detect` run as a user runs them. One per cent
of the hosts is replaced every 20 ticks, and a fault begins every 50. Prometheus also scrapes the
daemon. With `--embedded` the embedded server takes the place of Prometheus. At most 1,000 hosts
have a history; the rest begins with the ticks and has the pooled calibration.

Between every two ticks `/metrics` is compared with the truth. A state is false if a host that is
gone has a score, one that should be forgotten is listed, or one whose window is full has no score;
hosts have a few ticks to be noticed. Exits with 1 if a tick was late, skipped or failed, or a state
was false.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import requests

from benchmarks.fleet_live_world import Plan, find_alive, find_ever_alive
from benchmarks.fleet_stages import build_document
from benchmarks.processes import (
    Served,
    Used,
    read_cpu,
    read_memory_mb,
    run_detect,
    run_promad,
    serve_fleet,
)
from benchmarks.tables import format_spread, format_table
from promad.simulation.exposition import iterate_openmetrics
from promad.simulation.fleet import Fleet
from tests.support.prometheus_server import PrometheusServer, free_port

KNOWN_HOSTS = 1000
"""Hosts with a history."""
CHURN_TICKS, FORGET_TICKS = 20, 20
WINDOW = 20
"""Samples of a window."""
NOTICED_TICKS = 5
"""Within which a host that begins or ends is noticed, by the server's scrape and then by promad."""
BARE_TICKS = 5
"""Before the daemon starts: what the server uses without it."""
STAGES = ("collect", "preprocess", "train")
SERVERS = {True: "embedded server", False: "Prometheus"}
_SERIES = re.compile(
    r'^anomaly_detector_(group_info|known_features_ratio)\{.*?\binstance="([^"]*)"[^}]*\} (\S+)$',
    re.MULTILINE,
)
_ORDINARY = re.compile(r'level=info|msg="(anomaly|incident) (began|ended)"')
_JOB = """- job_name: {name}
  honor_labels: true
  scrape_interval: {interval:g}s
  scrape_timeout: {interval:g}s
  static_configs: [{{targets: ["127.0.0.1:{port}"]}}]"""


@dataclass(frozen=True)
class Look:
    """What the daemon and the server show between two ticks.

    Attributes:
        ticks, tick_seconds, skipped, failed: sums since the start of the daemon.
        cpu, server_cpu: seconds since the start of the process.
        watched: the hosts that are listed.
        known: of those that have a score, the share of the features that it rests on.
    """

    at: float
    ticks: float
    tick_seconds: float
    skipped: float
    failed: float
    cpu: float
    server_cpu: float
    memory_mb: float
    body_mb: float
    scrape_seconds: float
    watched: frozenset[str]
    known: dict[str, float]


def look(url: str, daemon: int, server: int) -> Look:
    began = time.perf_counter()
    body = requests.get(f"{url}/metrics", timeout=60).content
    took, at, text = time.perf_counter() - began, time.time(), body.decode()
    own = [line for line in text.splitlines() if line.startswith("promad_")]

    def add(name: str) -> float:
        return sum(float(line.split()[-1]) for line in own if line.startswith(f"promad_{name}{{"))

    series = [(name, sys.intern(host), value) for name, host, value in _SERIES.findall(text)]
    return Look(
        at,
        add("tick_duration_seconds_count"),
        add("tick_duration_seconds_sum"),
        add("ticks_skipped_total"),
        add("tick_failures_total") + add("poll_failures_total"),
        read_cpu(daemon),
        read_cpu(server),
        read_memory_mb(daemon),
        len(body) / 1e6,
        took,
        frozenset(host for name, host, _ in series if name == "group_info"),
        {host: float(value) for name, host, value in series if name == "known_features_ratio"},
    )


def watch(plan: Plan, start: float, url: str, daemon: int, server: int) -> list[Look]:
    """Look once between every two ticks."""
    looks = []
    for number in range(plan.ticks + 1):
        time.sleep(max(0.0, start + (number + 0.6) * plan.interval - time.time()))
        looks.append(look(url, daemon, server))
        if number % CHURN_TICKS == 0:
            last = looks[-1]
            tell(
                f"tick {number}: {len(last.watched)} hosts, {len(last.known)} with a score, "
                f"{last.skipped:.0f} ticks skipped, {last.memory_mb:.0f} MB"
            )
    return looks


def find_false_states(plan: Plan, fleet: Fleet, seen: Look) -> list[str]:
    """What a look shows that differs from the truth."""
    noticed = NOTICED_TICKS * plan.interval
    settled = find_alive(fleet, seen.at - noticed - WINDOW * plan.interval, seen.at)
    forgotten_after = noticed + FORGET_TICKS * plan.interval
    scored = set(seen.known)
    found = {
        "no score": settled - scored,
        "a score, but is gone": scored - find_ever_alive(fleet, seen.at - noticed, seen.at),
        "to be forgotten": seen.watched
        - find_ever_alive(fleet, seen.at - forgotten_after, seen.at),
    }
    when = time.strftime("%H:%M:%S", time.localtime(seen.at))
    return [f"{when} {name}: {what}" for what, names in found.items() for name in sorted(names)]


def count_missing(plan: Plan, fleet: Fleet, seen: Look) -> tuple[float, int]:
    """How many values are missing in the newest samples of hosts that are scraped, and of all."""
    settled = find_alive(fleet, seen.at - (NOTICED_TICKS + WINDOW) * plan.interval, seen.at)
    missing = sum(1.0 - seen.known.get(host, 0.0) for host in settled)
    return missing * plan.features, len(settled) * plan.features


def summarise(
    plan: Plan, fleet: Fleet, looks: Sequence[Look], bare_cpu: float, server: str
) -> tuple[list[list[str]], list[str]]:
    """Rows of a table, and what was wrong."""
    ticks = np.diff([each.ticks for each in looks])
    wall = np.diff([each.tick_seconds for each in looks]) / np.maximum(ticks, 1)
    cpu = np.diff([each.cpu for each in looks])
    server_cpu = np.diff([each.server_cpu for each in looks])
    late = int((wall > plan.interval).sum())
    skipped = looks[-1].skipped - looks[0].skipped
    failed = looks[-1].failed - looks[0].failed
    false = [line for each in looks for line in find_false_states(plan, fleet, each)]
    counts = np.array([count_missing(plan, fleet, each) for each in looks])
    missing, expected = counts.sum(axis=0)
    tail = float(np.quantile(wall, 0.99))
    memory = [each.memory_mb for each in looks]
    rows = [
        ["ticks; late, skipped, failed", f"{ticks.sum():.0f}; {late}, {skipped:g}, {failed:g}"],
        ["wall time of a tick", f"{format_spread(wall, 's', 3)}, p99 {tail:.3f} s"],
        ["CPU of promad a tick", format_spread(cpu, "s")],
        [f"CPU of {server} an interval", format_spread(server_cpu, "s")],
        ["… before the daemon starts", f"{bare_cpu:.2f} s"],
        ["resident memory of promad", f"{memory[0]:.0f} MB, at the end {memory[-1]:.0f} MB"],
        ["scrape of `/metrics`", _describe_scrapes(looks)],
        ["values missing in the newest samples", f"{missing:.0f} of {expected:.0f}"],
        ["hosts that came, and were forgotten", _count_churn(looks)],
        ["false states", f"{len(false)}"],
    ]
    wrong = false[:20]
    if late or skipped or failed or ticks.sum() != plan.ticks:
        wrong.append(f"{ticks.sum():.0f} of {plan.ticks} ticks: {late} late, {skipped:g} skipped")
    return rows, wrong


def _describe_scrapes(looks: Sequence[Look]) -> str:
    taken = format_spread([1e3 * each.scrape_seconds for each in looks], "ms", 0)
    return f"{looks[-1].body_mb:.1f} MB in {taken}"


def _count_churn(looks: Sequence[Look]) -> str:
    everyone = frozenset[str]().union(*(each.watched for each in looks))
    came, forgotten = everyone - looks[0].watched, everyone - looks[-1].watched
    return f"{len(came)}, {len(forgotten)}"


def tell(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def write_config(
    folder: Path, plan: Plan, history: Fleet, hours: float, url: str, port: int
) -> Path:
    """A configuration with a query for each feature."""
    document = build_document(
        folder, history.features, plan.interval, url, collection_period_hours=hours
    )
    document |= {
        "max_groups": 2 * plan.hosts,
        "training_settings": {"model": "linear", "sequence_length": WINDOW},
        "real_time_anomaly_detection": {
            "query_interval_seconds": plan.interval,
            "latency_offset": f"{round(500 * plan.interval)}ms",
            "stale_after": f"{3 * plan.interval:g}s",
            "forget_after": f"{FORGET_TICKS * plan.interval:g}s",
            "exporter_port": port,
        },
    }
    path = folder / "config.yaml"
    path.write_text(json.dumps(document, indent=1))
    return path


@contextmanager
def run_prometheus(
    history: Fleet, hours: float, interval: float, folder: Path, exporter: int, port: int
) -> Iterator[Served]:
    """A Prometheus with the history of the hosts, which scrapes their exporter and the daemon."""
    jobs = [
        _JOB.format(name="fleet", interval=interval, port=exporter),
        _JOB.format(name="promad", interval=interval, port=port),
    ]
    server = PrometheusServer(folder / "prometheus", "\n".join(jobs))
    path, end = folder / "history.om", np.floor(time.time() / interval) * interval
    times = end - interval * np.arange(round(3600 * hours / interval), 0, -1)
    with path.open("w") as file:
        file.writelines(iterate_openmetrics(history, times))
    tell(f"history written, {path.stat().st_size / 1e9:.1f} GB")
    server.backfill(path)
    path.unlink()
    with server:
        assert server.process is not None
        tell("history imported, Prometheus is ready")
        yield Served(server.url, server.process.pid)


def measure(
    plan: Plan, hours: float, embedded: bool, folder: Path
) -> tuple[list[list[str]], list[str]]:
    """Back-fill, train, and watch: rows of a table, and what was wrong."""
    port, exporter = free_port(), free_port()
    history = plan.build_history(KNOWN_HOSTS)
    with ExitStack() as stack:
        served = None
        if not embedded:
            prometheus = run_prometheus(history, hours, plan.interval, folder, exporter, port)
            served = stack.enter_context(prometheus)
        with serve_fleet(history, plan.interval, port=exporter) as shown:
            url = (served or shown).url
            config = write_config(folder, plan, history, hours, url, port)
            stages = [[f"`{name}`", _describe(run_promad(config, name))] for name in STAGES]
            tell("trained")
        start = (np.floor(time.time() / plan.interval) + 3) * plan.interval
        fleet = plan.build_fleet(start, KNOWN_HOSTS)
        shown = stack.enter_context(serve_fleet(fleet, plan.interval, port=exporter))
        served = served or shown
        bare_cpu = _measure_bare(served.process, plan.interval)
        address = f"http://127.0.0.1:{port}"
        daemon = stack.enter_context(run_detect(config, address))
        begin = (np.floor(time.time() / plan.interval) + 1) * plan.interval
        looks = watch(plan, begin, address, daemon, served.process)
        _tell_problems(folder / "detect.log")
    rows, wrong = summarise(plan, fleet, looks, bare_cpu, SERVERS[embedded])
    return stages + rows, wrong


def _describe(used: Used) -> str:
    return f"{used.wall:.1f} s, {used.cpu:.1f} s CPU, peak {used.peak_mb:.0f} MB"


def _measure_bare(server: int, interval: float) -> float:
    """Seconds of processor time that the server uses in an interval without the daemon."""
    before = read_cpu(server)
    time.sleep(BARE_TICKS * interval)
    return (read_cpu(server) - before) / BARE_TICKS


def _tell_problems(log: Path) -> None:
    """The last warnings and errors of the daemon, anomalies aside."""
    lines = log.read_text().splitlines()
    problems = [line for line in lines if "level=" in line and not _ORDINARY.search(line)]
    for line in problems[-20:]:
        tell(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--features", type=int, default=38)
    parser.add_argument("--ticks", type=int, default=200)
    parser.add_argument("--interval", type=float, default=4.0, help="seconds")
    parser.add_argument("--history", type=float, default=1.0, help="hours")
    parser.add_argument("--embedded", action="store_true", help="without Prometheus")
    asked = parser.parse_args()
    plan = Plan(asked.hosts, asked.features, asked.interval, asked.ticks, CHURN_TICKS)
    with TemporaryDirectory(prefix="promad-live-") as name:
        rows, wrong = measure(plan, asked.history, asked.embedded, Path(name).resolve())
    title = f"{asked.hosts:,} hosts × {asked.features}, every {asked.interval:g} s"
    print(format_table([title, SERVERS[asked.embedded]], rows))
    for line in wrong:
        print(line)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()

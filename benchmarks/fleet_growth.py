"""What the daemon of a fleet holds over 10,000 ticks in which hosts come, fail and go.

    python -m benchmarks.fleet_growth [--hosts 100] [--features 6] [--ticks 10000]

The real daemon, with its port and files, runs in a process of its own on a driven clock, which goes
to the next tick as soon as the last one ends; the embedded server runs in another process. One per
cent of the hosts is replaced every 100 ticks, a fault begins every 50, and `/metrics`, groups and
incidents are read twice a second. Exits with 1 if memory grows by 2 MB or more between the second
tenth and the last, or descriptors, threads, the saved state or what the event log holds grow.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import sqlite3
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import requests
import structlog

from benchmarks.fleet_live_world import Plan
from benchmarks.fleet_stages import (
    START,
    build_document,
    run_preprocess,
    run_train,
    write_collected,
)
from benchmarks.processes import SPAWN, read_memory_mb, run_aside, serve_fleet
from benchmarks.tables import format_table
from promad.config import Config
from promad.events.event_log import FILE_NAME
from promad.stages.detect import detect

STEP = 30.0
CHURN_TICKS = 100
KNOWN_HOSTS = 20
"""Hosts that the detector is trained on; all others have the pooled calibration."""
READ = ("metrics", "api/v1/groups?limit=50", "api/v1/incidents?limit=20")
PAUSE_SECONDS = 0.5


@dataclass(frozen=True)
class Held:
    """What the daemon holds after so many ticks; files in kB.

    Attributes:
        events_kb: the files of the event log, which do not become shorter.
        events_used_kb: of that, what is in use.
    """

    ticks: int
    memory_mb: float
    descriptors: float
    threads: float
    state_kb: float
    events_kb: float
    events_used_kb: float


HELD = {
    "memory_mb": ("resident memory, MB", 2.0, 0.0),
    "descriptors": ("open descriptors", 0.5, 0.0),
    "threads": ("threads", 0.5, 0.0),
    "state_kb": ("saved state, kB", 0.0, 0.05),
    "events_kb": ("event log, kB", 0.0, math.inf),
    "events_used_kb": ("event log, in use, kB", 0.0, 0.2),
}
"""Titles, and by how much each may grow: in its unit, and as a share."""


class CountingClock:
    """A clock that goes to the next tick as soon as the daemon waits for it, and counts ticks."""

    def __init__(self, now: Any, ticks: Any, most: int) -> None:
        self._now, self._ticks, self._most = now, ticks, most

    def now(self) -> float:
        return float(self._now.value)

    def elapsed(self) -> float:
        return float(self._now.value)

    def wait_until(self, at: float, stop: threading.Event) -> None:
        if self._ticks.value >= self._most:
            stop.wait()
            return
        self._ticks.value += 1
        self._now.value = at


def build_config(folder: Path, features: Sequence[str], url: str) -> Config:
    document = build_document(folder, features, STEP, url)
    document["real_time_anomaly_detection"] |= {
        "query_interval_seconds": STEP,
        "events_retention": "6h",
    }
    return Config.model_validate(document)


def train(config: Config) -> None:
    write_collected(config, KNOWN_HOSTS, 2.0)
    run_preprocess(config)
    run_train(config)


def run_daemon(config: Config, now: Any, ticks: Any, most: int, port: Any) -> None:
    """Run the daemon until its process ends; it logs errors alone."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with detect([config], CountingClock(now, ticks, most), "127.0.0.1", 0) as daemon:
        port.put(daemon.port)
        threading.Event().wait()


def look(process: int, folder: Path, ticks: int) -> Held:
    return Held(
        ticks,
        read_memory_mb(process),
        len(os.listdir(f"/proc/{process}/fd")),
        len(os.listdir(f"/proc/{process}/task")),
        _measure_kb(folder, "*state*"),
        _measure_kb(folder, f"{FILE_NAME}*"),
        _measure_used_kb(folder / FILE_NAME),
    )


def _measure_used_kb(log: Path) -> float:
    with closing(sqlite3.connect(f"file:{log}?mode=ro", uri=True, timeout=30)) as connection:
        size, pages, free = (
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_size", "page_count", "freelist_count")
        )
    return float(size * (pages - free) / 1000)


def _measure_kb(folder: Path, pattern: str) -> float:
    sizes = []
    for path in folder.glob(pattern):
        try:
            sizes.append(path.stat().st_size / 1000)
        except FileNotFoundError:  # replaced just now
            continue
    return sum(sizes)


@contextmanager
def run_fleet(plan: Plan, folder: Path, ticks: Any) -> Iterator[tuple[str, int]]:
    """Train, and run the daemon until the block ends; yields its address and process."""
    now, port = SPAWN.Value("d", START, lock=False), SPAWN.Queue()
    fleet = plan.build_fleet(START, plan.hosts)
    with serve_fleet(fleet, STEP, now) as server:
        config = build_config(folder, fleet.features, server.url)
        training = SPAWN.Process(target=train, args=(config,))
        training.start()
        training.join()
        if training.exitcode:
            sys.exit("the training failed")
        with run_aside(run_daemon, config, now, ticks, plan.ticks, port) as process:
            yield f"http://127.0.0.1:{port.get(timeout=60)}", process


def measure(plan: Plan, folder: Path) -> list[Held]:
    """Read from the daemon and look at it, again and again."""
    ticks, held = SPAWN.Value("l", 0, lock=False), list[Held]()
    with run_fleet(plan, folder, ticks) as (url, process), requests.Session() as session:
        while not held or held[-1].ticks < plan.ticks:
            for path in READ:
                session.get(f"{url}/{path}", timeout=60).raise_for_status()
            time.sleep(PAUSE_SECONDS)
            held.append(look(process, folder / "artifacts", int(ticks.value)))
            if len(held) % 200 == 1:
                print(held[-1], file=sys.stderr, flush=True)
    return held


def compare(held: Sequence[Held], ticks: int) -> tuple[list[list[str]], list[str]]:
    """A row for each figure with its median over tenths of the ticks, and what grew."""
    rows, grew = [], []
    for name, (title, amount, share) in HELD.items():
        tenths = [
            [getattr(each, name) for each in held if tenth * ticks <= 10 * each.ticks < end * ticks]
            for tenth, end in ((1, 2), (5, 6), (9, 11), (1, 11))
        ]
        early, middle, late = map(statistics.median, tenths[:3])
        if late - early >= amount + share * early:
            grew.append(title)
        spread = f"{min(tenths[3]):.1f} to {max(tenths[3]):.1f}"
        rows.append([title, *(f"{value:.1f}" for value in (early, middle, late)), spread])
    return rows, grew


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--hosts", type=int, default=100)
    parser.add_argument("--features", type=int, default=6)
    parser.add_argument("--ticks", type=int, default=10_000)
    asked = parser.parse_args()
    plan = Plan(asked.hosts, asked.features, STEP, asked.ticks, CHURN_TICKS)
    began = time.perf_counter()
    with TemporaryDirectory(prefix="promad-growth-") as name:
        held = measure(plan, Path(name).resolve())
    took = time.perf_counter() - began
    title = f"{asked.hosts} hosts × {asked.features}, {asked.ticks:,} ticks in {took:.0f} s"
    rows, grew = compare(held, asked.ticks)
    header = [title, "2nd tenth", "6th tenth", "last tenth", "smallest and largest since the 2nd"]
    print(format_table(header, rows))
    print(f"grew: {', '.join(grew) or 'nothing'}")
    sys.exit(bool(grew))


if __name__ == "__main__":
    main()

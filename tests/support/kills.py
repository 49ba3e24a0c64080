"""promad's own processes, killed at random moments, and what must be true after each kill.

`run_kills` serves a simulated host with an incident under way, brings promad to the point where an
event is open, and kills one command after the other.
"""

from __future__ import annotations

import random
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from promad.bundle import open_detector
from promad.config.reading import load_config
from promad.errors import PromadError
from promad.simulation.host import MovedHost, SimulatedHost
from promad.simulation.incidents import Incident
from promad.simulation.server import SimulationServer
from tests.support.prometheus_server import free_port

ROOT = Path(__file__).parents[2]
STEP = 2.0
HISTORY_SECONDS = 5400.0
COMMANDS = ("collect", "train", "detect")
LONGEST_SECONDS = 2.5
"""Before a command is killed it runs for up to this long, and the time that it takes to start."""

_QUIET_SECONDS = 60.0
_PATIENCE_SECONDS = 90.0
_HOST_TIME = 1_767_877_200.0
_QUERIES = (
    *("app_latency_p99_seconds", "host_disk_io_busy_ratio", "app_queue_length"),
    *("app_latency_p50_seconds", "host_cpu_busy_ratio"),
)


@dataclass
class Outcome:
    """What was killed, and every claim that did not hold."""

    kills: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    events: int = 0
    bundles: int = 0
    finished: int = 0
    seconds: float = 0.0


def run_kills(
    directory: Path,
    kills: int,
    *,
    seed: int = 1,
    finish_every: int = 5,
    progress: Callable[[int], None] = lambda _: None,
) -> Outcome:
    """Kill promad so often; after each `finish_every`th kill every command is run to its end."""
    began, chance = time.perf_counter(), random.Random(seed)
    with _serve_incident() as (url, until):
        world = KilledWorld(directory, url, until)
        world.finish(("collect", "preprocess", "train"))
        world.detect_until_open()
        starting = world.measure_start()
        for number in range(1, kills + 1):
            command = COMMANDS[number % len(COMMANDS)]
            world.kill(command, starting * 0.5 + chance.random() * LONGEST_SECONDS)
            world.check(f"kill {number} ({command})")
            if number % finish_every == 0:
                world.finish(("collect", "train"))
                world.detect_until_open()
                world.check_nothing_left(f"kill {number} ({command})")
            progress(number)
    world.outcome.seconds = time.perf_counter() - began
    return world.outcome


@contextmanager
def _serve_incident() -> Iterator[tuple[str, float]]:
    """A simulated host with an incident under way, and when it had not begun."""
    now = time.time()
    incident = Incident("slow_disk", _HOST_TIME - 480.0)
    host = SimulatedHost(7, _HOST_TIME - 30 * 3600.0, (incident,))
    with SimulationServer(MovedHost(host, _HOST_TIME - now)) as url:
        yield url, now - 480.0 - _QUIET_SECONDS


class KilledWorld:
    """A directory in which promad works, and is killed."""

    def __init__(self, directory: Path, url: str, until: float) -> None:
        self.outcome = Outcome()
        self._path = directory / "config.yaml"
        self._artifacts = directory / "artifacts"
        self._seen: dict[str, float] = {}
        self._port = free_port()
        queries = "\n".join(f"  {name}: {name}" for name in _QUERIES)
        self._path.write_text(
            f"""
prometheus_url: {url}
artifacts_dir: artifacts
queries:
{queries}
data_settings:
  step: {STEP:g}s
  start_time_iso: {_format(until - HISTORY_SECONDS)}
  end_time_iso: {_format(until)}
  cache_chunk_hours: 0.1
training_settings: {{model: linear, sequence_length: 8, gate: false}}
real_time_anomaly_detection:
  query_interval_seconds: 1
  latency_offset: 1s
  exporter_port: {self._port}
  # A low limit that stays: the incident is far above it, whenever it is looked at.
  alert_budget: {{false_alarms_per_week: 2000}}
  adapt_threshold: false
"""
        )

    def complain(self, what: str) -> None:
        self.outcome.violations.append(what)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "promad", "-c", str(self._path), *arguments]
        return subprocess.Popen(
            command,
            cwd=self._path.parent,
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OPENBLAS_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def measure_start(self) -> float:
        """Seconds that promad takes to start."""
        began = time.perf_counter()
        self.start("models", "list").communicate()
        return time.perf_counter() - began

    def finish(self, commands: Sequence[str]) -> None:
        """Run commands to their end."""
        for command in commands:
            process = self.start(command)
            _, said = process.communicate(timeout=_PATIENCE_SECONDS)
            self.outcome.finished += 1
            if process.returncode:
                self.complain(f"{command} ends with {process.returncode}: {said[:900]}")

    def detect_until_open(self) -> None:
        """Detect until an event is open in the log, and stop."""
        process, deadline = self.start("detect"), time.monotonic() + _PATIENCE_SECONDS
        while not (self._is_serving() and any(end is None for _, end, _ in self._read_events())):
            if process.poll() is not None or time.monotonic() > deadline:
                self.complain(f"no event is open; detect: {process.poll()}")
                break
            time.sleep(0.1)
        process.terminate()
        _, said = process.communicate(timeout=_PATIENCE_SECONDS)
        self.outcome.finished += 1
        if process.returncode:
            self.complain(f"detect ends with {process.returncode}: {said[:900]}")

    def _is_serving(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0

    def kill(self, command: str, after: float) -> None:
        """Kill a command some seconds after its start."""
        process = self.start(command)
        time.sleep(after)
        if process.poll() is None:
            self.outcome.kills[command] += 1
        else:
            self.outcome.kills[f"{command} (ended before)"] += 1
        process.kill()
        _, said = process.communicate()
        if process.returncode > 0:
            self.complain(f"{command} ends with {process.returncode}: {said[:900]}")

    # the claims

    def check(self, when: str) -> None:
        """What must be true after every kill."""
        try:
            opened = open_detector(load_config(self._path))
            self.outcome.bundles = len(list((opened.bundle.directory.parent).glob("[0-9]*")))
        except PromadError as error:
            self.complain(f"{when}: the current bundle does not load: {error}")
        self._check_events(when)
        for path in self._artifacts.rglob("*.parquet"):
            self._check_readable(when, path, pq.read_table)
        for path in self._artifacts.rglob("*.npz"):
            self._check_readable(when, path, _read_arrays)

    def _check_readable(self, when: str, path: Path, read: Callable[[Path], object]) -> None:
        if path.name.startswith("."):
            return
        try:
            read(path)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a violation
            self.complain(f"{when}: {path} cannot be read: {error!r}")

    def _check_events(self, when: str) -> None:
        events = self._read_events(when)
        self.outcome.events = len(events)
        if sum(end is None for _, end, _ in events) > 1:
            self.complain(f"{when}: more than one event is open")
        for (_, end, _), (start, _, id_) in pairwise(events):
            if end is None or start <= end:
                self.complain(f"{when}: event {id_} is there twice")
        now = {id_: start for start, _, id_ in events}
        if self._seen.items() - now.items():
            self.complain(f"{when}: events are lost")
        self._seen = now

    def _read_events(self, when: str = "") -> list[tuple[float, float | None, str]]:
        """Start, end and id of each event in the log, once its file has been found whole."""
        path = self._artifacts / "events.db"
        if not path.exists():
            return []
        with closing(sqlite3.connect(path, timeout=10)) as log:
            if when and (found := log.execute("PRAGMA integrity_check").fetchone()[0]) != "ok":
                self.complain(f"{when}: event log: {found}")
            known = log.execute("SELECT 1 FROM sqlite_master WHERE name = 'events'").fetchone()
            rows = "SELECT start, ended, id FROM events ORDER BY start"
            return log.execute(rows).fetchall() if known else []

    def check_nothing_left(self, when: str) -> None:
        """What is true once every command has run again."""
        left = [str(path) for path in self._artifacts.rglob("*.partial*")]
        if left := left + [str(path) for path in self._artifacts.rglob(".partial-*")]:
            self.complain(f"{when}: left behind: {sorted(set(left))}")


def _read_arrays(path: Path) -> None:
    with np.load(path, allow_pickle=False) as arrays:
        for name in arrays:
            arrays[name]


def _format(at: float) -> str:
    return f'"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"'

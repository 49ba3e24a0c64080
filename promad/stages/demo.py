"""`demo`: the five stages on a simulated host, then an incident replayed in fast time.

Only the server and the clock are simulated: the stages and the daemon run as on a real Prometheus.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from promad.clock import Clock, FastClock
from promad.config import Config
from promad.config.durations import format_duration, parse_instant
from promad.data.frame import align_down
from promad.errors import DataError
from promad.events.events import AnomalyEvent
from promad.events.verdict import State, Verdict
from promad.prometheus import PrometheusClient
from promad.prometheus.checking import inspect_queries
from promad.prometheus.server_faults import find_server_fault
from promad.simulation.host import FEATURES, MovedHost, SimulatedHost
from promad.simulation.incidents import Incident
from promad.simulation.server import SimulationServer

STEP = 30.0
SPEED = 60.0
_HISTORY_HOURS = 48.0
_QUIET_SECONDS = 900.0
_RESTART_BEFORE_SECONDS = 30 * 3600.0
_HOST_TIME = parse_instant("2026-01-08T13:00:00Z")
"""When in the host's life every demo starts, a Thursday noon: the same host on any day."""
_PATIENCE_SECONDS = 1800.0
_FEWEST_QUERIES = 3

_REAL_QUERIES = {
    "cpu_busy": 'sum(rate(node_cpu_seconds_total{mode!="idle"}[2m]))',
    "load1": "sum(node_load1)",
    "memory_available": "sum(node_memory_MemAvailable_bytes)",
    "disk_read": "sum(rate(node_disk_read_bytes_total[2m]))",
    "disk_written": "sum(rate(node_disk_written_bytes_total[2m]))",
    "disk_busy": "sum(rate(node_disk_io_time_seconds_total[2m]))",
    "network_received": 'sum(rate(node_network_receive_bytes_total{device!="lo"}[2m]))',
    "network_sent": 'sum(rate(node_network_transmit_bytes_total{device!="lo"}[2m]))',
    "processes_running": "sum(node_procs_running)",
    "context_switches": "sum(rate(node_context_switches_total[2m]))",
    "tcp_connections": "sum(node_netstat_Tcp_CurrEstab)",
    "prometheus_samples": "sum(rate(prometheus_tsdb_head_samples_appended_total[2m]))",
    "prometheus_series": "sum(prometheus_tsdb_head_series)",
    "prometheus_requests": "sum(rate(prometheus_http_requests_total[2m]))",
    "prometheus_memory": "sum(process_resident_memory_bytes)",
    "prometheus_cpu": "sum(rate(process_cpu_seconds_total[2m]))",
    "goroutines": "sum(go_goroutines)",
}
"""Queries that most servers can answer; a demo on a server uses those with data."""


@dataclass
class SimulatedTime:
    """Stands still at `start` (unix seconds) until `run` is called, then runs `SPEED` fold."""

    start: float
    clock: FastClock | None = None

    def now(self) -> float:
        """Unix seconds."""
        return self.start if self.clock is None else self.clock.now()

    def run(self) -> Clock:
        """Let time run, and return its clock."""
        self.clock = FastClock(self.start, SPEED)
        return self.clock


@dataclass(frozen=True)
class Simulation:
    """A running simulation: the configuration for it, its time, and the incident to come."""

    config: Config
    time: SimulatedTime
    incident: Incident


@contextmanager
def start_simulation(
    now: float, artifacts: Path, scenario: str, seed: int, model: str
) -> Iterator[Simulation]:
    """Serve a simulated host's history up to `now` (unix seconds) and its future beyond."""
    time = SimulatedTime(align_down(now, STEP))
    there = Incident(scenario, _HOST_TIME + _QUIET_SECONDS)
    host = SimulatedHost(seed, _HOST_TIME - _RESTART_BEFORE_SECONDS, (there,))
    incident = Incident(scenario, time.start + _QUIET_SECONDS)
    with SimulationServer(MovedHost(host, _HOST_TIME - time.start), time.now) as url:
        queries = {name.removeprefix("host_").removeprefix("app_"): name for name in FEATURES}
        yield Simulation(
            _build_config(url, artifacts, queries, STEP, _HISTORY_HOURS, model), time, incident
        )


def build_real_config(url: str, artifacts: Path, now: float, model: str) -> Config:
    """A configuration for a real server, with those of the usual queries that have data.

    Raises:
        PrometheusError, DataError: if it answers fewer than three.
    """
    config = _build_config(url, artifacts, _REAL_QUERIES, 15.0, 24.0, model)
    with closing(PrometheusClient(config.prometheus_url, config.prometheus)) as client:
        client.build_info()
        checks = inspect_queries(client, config.promql, config.data_settings.step, now)
    failures = {check.alias: check.failure for check in checks if check.failure is not None}
    fault, _ = find_server_fault(failures, len(checks))
    if fault is not None:
        raise fault
    found = {check.alias: check.expr for check in checks if check.problem is None}
    if len(found) < _FEWEST_QUERIES:
        raise DataError(
            f"{url}: only {len(found)} of the demo's {len(checks)} queries have data "
            "— scrape node_exporter or Prometheus itself, or write your own config.yaml"
        )
    return _build_config(url, artifacts, found, 15.0, 24.0, model)


def _build_config(
    url: str, artifacts: Path, queries: dict[str, str], step: float, hours: float, model: str
) -> Config:
    return Config.model_validate(
        {
            "name": "demo",
            "prometheus_url": url,
            "artifacts_dir": artifacts,
            "queries": queries,
            "data_settings": {"step": format_duration(step), "collection_period_hours": hours},
            "training_settings": {"model": model},
            "real_time_anomaly_detection": {"query_interval_seconds": step, "latency_offset": "1s"},
        }
    )


@dataclass(frozen=True)
class Outcome:
    """The result of a replay, beside the ground truth.

    Attributes:
        event: what was detected of the incident; None if nothing was.
        flagged_at: when it was flagged, in unix seconds of the replay.
        false_alarms: events that had begun before the incident did.
    """

    incident: Incident
    event: AnomalyEvent | None
    flagged_at: float | None
    false_alarms: tuple[AnomalyEvent, ...]

    @property
    def delay_seconds(self) -> float | None:
        """From the incident's first effect to the flag."""
        return None if self.flagged_at is None else self.flagged_at - self.incident.start

    @property
    def truth(self) -> tuple[str, ...]:
        """The features that the incident drives, strongest first, by their aliases."""
        names = self.incident.scenario.truth
        return tuple(name.removeprefix("host_").removeprefix("app_") for name in names)


@dataclass
class Referee:
    """Watches the daemon's verdicts; `over` is set once the incident was flagged and is gone.

    It stops waiting half an hour after the end of the incident.
    """

    incident: Incident
    over: threading.Event = field(default_factory=threading.Event)
    event: AnomalyEvent | None = None
    flagged_at: float | None = None
    false_alarms: list[AnomalyEvent] = field(default_factory=list)

    def observe(self, verdict: Verdict, ended: AnomalyEvent | None) -> None:
        """Record one scored sample and the event that it ended."""
        anomalous = verdict.state is State.ANOMALOUS
        if anomalous and self.flagged_at is None and verdict.at >= self.incident.start:
            self.flagged_at = verdict.at
        if ended is not None:
            self._note(ended)
        passed = verdict.at >= self.incident.start + self.incident.scenario.duration
        timed_out = verdict.at > self.incident.end + _PATIENCE_SECONDS
        if (passed and self.event is not None and not anomalous) or timed_out:
            self.over.set()

    def _note(self, ended: AnomalyEvent) -> None:
        if ended.end is not None and ended.end < self.incident.start:
            self.false_alarms.append(ended)
        elif self.event is None or ended.peak_ratio > self.event.peak_ratio:
            self.event = ended

    def outcome(self) -> Outcome:
        """The result so far."""
        return Outcome(self.incident, self.event, self.flagged_at, tuple(self.false_alarms))

"""The demonstration of a fleet: simulated hosts, a bad deployment on some, one broken disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from promad.config import Config
from promad.config.durations import format_duration, parse_instant
from promad.data.frame import align_down
from promad.events.event_log import EventLog
from promad.events.incidents import Incident
from promad.simulation.fleet import build_fleet, make_fault
from promad.simulation.fleet.faults import Fault
from promad.simulation.server import SimulationServer
from promad.stages.demo import STEP, SimulatedTime

FEWEST_HOSTS = 10
MOST_HOSTS = 1000

_HISTORY_HOURS = 48.0
_DEPLOYED_ON = 7
_QUIET_SECONDS = 900.0
_BETWEEN_SECONDS = 1500.0
_JITTER_SECONDS = 60.0
_FLEET_TIME = parse_instant("2026-01-08T13:00:00Z")
"""When in the fleet's life every demo starts, a Thursday noon: the same fleet on any day."""


@dataclass(frozen=True)
class FleetSimulation:
    """A running simulation: the configuration for it, its time, and the faults to come."""

    config: Config
    time: SimulatedTime
    faults: tuple[Fault, ...]


@contextmanager
def start_fleet_simulation(
    now: float, artifacts: Path, hosts: int, seed: int, model: str
) -> Iterator[FleetSimulation]:
    """Serve a simulated fleet's history up to `now` (unix seconds) and its future beyond."""
    time = SimulatedTime(align_down(now, STEP))
    fleet = build_fleet(seed=seed, hosts=hosts, features=16)
    web, databases = (
        [labels["instance"] for labels in fleet.labels if labels["job"] == kind]
        for kind in ("web", "database")
    )
    ahead = _FLEET_TIME - time.start
    first = _FLEET_TIME + _QUIET_SECONDS
    faults = (
        make_fault("error_burst", web[:_DEPLOYED_ON], first, jitter=_JITTER_SECONDS, seed=seed),
        make_fault("slow_disk", databases[:1], first + _BETWEEN_SECONDS, seed=seed),
    )
    fleet = replace(fleet, faults=faults, ahead=ahead)
    with SimulationServer(fleet, time.now) as url:
        queries = {name.removeprefix("host_").removeprefix("app_"): name for name in fleet.features}
        config = _build_config(url, artifacts, queries, model)
        yield FleetSimulation(config, time, tuple(fault.move(-ahead) for fault in faults))


def _build_config(url: str, artifacts: Path, queries: dict[str, str], model: str) -> Config:
    return Config.model_validate(
        {
            "name": "demo",
            "prometheus_url": url,
            "artifacts_dir": artifacts,
            "group_by": ["instance"],
            "queries": queries,
            "data_settings": {
                "step": format_duration(STEP),
                "collection_period_hours": _HISTORY_HOURS,
            },
            "training_settings": {"model": model},
            "real_time_anomaly_detection": {"query_interval_seconds": STEP, "latency_offset": "1s"},
        }
    )


@dataclass(frozen=True)
class ReportedFault:
    """A fault beside the incidents that were reported of it, oldest first."""

    fault: Fault
    incidents: tuple[Incident, ...]

    @property
    def delay_seconds(self) -> float | None:
        """From the first effect to the first incident; None if there is none."""
        if not self.incidents:
            return None
        return self.incidents[0].flagged_at - self.fault.start

    @property
    def hosts_found(self) -> int:
        """How many of its hosts are members of the incidents."""
        found = {
            dict(member.labels)["instance"]
            for incident in self.incidents
            for member in incident.members
        }
        return len(found & set(self.fault.hosts))


@dataclass(frozen=True)
class FleetOutcome:
    """The incidents of a demonstration beside the ground truth.

    Attributes:
        faults: each fault with its incidents.
        others: incidents that no fault explains.
    """

    faults: tuple[ReportedFault, ...]
    others: tuple[Incident, ...]


def judge_incidents(events: EventLog, faults: tuple[Fault, ...]) -> FleetOutcome:
    """The incidents in the log beside the faults, each with the one on whose hosts it began."""
    incidents = [logged.incident for logged in reversed(events.find_incidents())]
    of_fault: list[list[Incident]] = [[] for _ in faults]
    others: list[Incident] = []
    for incident in incidents:
        first = dict(incident.first.labels)["instance"]
        explained = (
            place
            for place, fault in enumerate(faults)
            if first in fault.hosts and fault.start - STEP <= incident.start <= fault.end
        )
        place = next(explained, None)
        (others if place is None else of_fault[place]).append(incident)
    return FleetOutcome(
        tuple(
            ReportedFault(fault, tuple(own)) for fault, own in zip(faults, of_fault, strict=True)
        ),
        tuple(others),
    )

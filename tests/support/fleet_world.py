"""A fleet at work without a server: a loop whose polls a test writes, and what it saves on disk.

world = FleetWorld(tmp_path, detector, hosts=3)
world.jump(0, at=40, samples=6)
world.run(60)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry

from promad.data.frame import MetricFrame
from promad.data.groups import Labels
from promad.data.shards import Shard
from promad.detection.fleet_history import FleetHistory
from promad.detection.fleet_loop import FleetLoop, FleetOutputs
from promad.detection.fleet_persistence import FleetPersistence
from promad.detection.live import LiveDetector
from promad.detection.loop import LoopOptions
from promad.detection.state import begin_state
from promad.detection.state_file import FILE_NAME, MOVED_NAME, StateFile
from promad.events.event_log import EventLog
from promad.events.hysteresis import Hysteresis
from promad.events.incident_book import IncidentBook, IncidentRules
from promad.exposition import DaemonMetrics
from promad.prometheus.groups.polling import GroupPoll
from promad.scoring.detector import Detector
from promad.thresholds import ThresholdSettings
from promad.thresholds.controller import FleetBudget, put_to_work
from tests.support.detectors import host_samples
from tests.support.simulated import NAMES, START

STEP = 30.0
CATCH_UP = 20


class StillClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at = START

    def now(self) -> float:
        return self.at

    def elapsed(self) -> float:
        return self.at


def label(host: int) -> Labels:
    return (("instance", f"host-{host}"),)


class FleetWorld:
    """A fleet's values, a loop that is told them, and the files that it leaves.

    Attributes:
        values: (hosts, samples, features), for a test to change.
        present: by host from which sample to before which one it is in the polls.
        shard: whose hosts alone are in the polls; None for all.
        others: the directories of other shards.
    """

    def __init__(
        self, directory: Path, detector: Detector, hosts: int = 3, samples: int = 80, **how: Any
    ) -> None:
        self.directory, self.detector, self.how = directory, detector, how
        self.values = np.stack([host_samples(samples, seed=host) for host in range(hosts)])
        self.present = dict.fromkeys(range(hosts), (0, samples))
        self.shard: Shard | None = None
        self.others: Sequence[Path] = ()
        self.failures: dict[int, dict[str, Any]] = {}
        self.ambiguous: dict[int, dict[int, str]] = {}
        self.clock = StillClock()
        self.sample = -1
        self.filled: list[str] = []
        self.open()

    def open(self, bundle: str = "bundle", detector: Detector | None = None) -> FleetLoop:
        """A loop as after a start; what was saved is on disk."""
        self.detector = detector or self.detector
        self.metrics = DaemonMetrics(CollectorRegistry()).of("fleet")
        self.events = EventLog(self.directory / "events.db")
        persistence = FleetPersistence(
            self.events,
            StateFile(self.directory, bundle),
            bundle,
            1e9,
            CATCH_UP * STEP,
            self.metrics,
            [
                StateFile(other, bundle, name)
                for other in self.others
                for name in (FILE_NAME, MOVED_NAME)
            ],
            self.shard,
        )
        rules = IncidentRules("fleet", len(self.detector.scored_features))
        self.history = FleetHistory(self.detector.scored_features, 60, self._fill)
        outputs = FleetOutputs(
            *(self.metrics, self.history, persistence, IncidentBook(rules), 1000),
            self.how.get("mutes"),
        )
        options = LoopOptions("fleet", "promad", STEP, lambda now: 0.0, 0.6)
        self.loop = FleetLoop(options, self._begin, self, self.clock, outputs)  # type: ignore[arg-type]
        return self.loop

    def _fill(self, name: str, labels: Labels, history: Any) -> bool:
        self.filled.append(name)
        return True

    def _begin(self, groups: Sequence[Labels]) -> LiveDetector:
        settings = ThresholdSettings(STEP, enter_after=2, leave_after=3)
        limits = put_to_work(
            self.detector.threshold,
            settings,
            adapt=True,
            groups=len(groups),
            fleet=FleetBudget(),
        )
        hysteresis = Hysteresis.begin(len(groups), 2, 3)
        mute = self.how.get("mute", ())
        state = begin_state(self.detector, limits, "fleet", groups, hysteresis, mute)
        return LiveDetector(self.detector, self.detector.calibrate(groups), state)

    def jump(self, host: int, at: int, samples: int) -> None:
        """Let a host's first feature be far off for some samples."""
        self.values[host, at : at + samples, 0] *= 4

    def poll(self, at: float) -> GroupPoll:
        """What a `GroupPoller` would return."""
        newest = self.sample
        first = max(0, newest + 1 - self.detector.samples_needed - CATCH_UP)
        hosts = [host for host, (a, b) in self.present.items() if a <= newest < b]
        if self.shard is not None:
            hosts = [host for host in hosts if self.shard.owns(label(host))]
        values = self.values[hosts, first : newest + 1].copy()
        for row, host in enumerate(hosts):
            values[row, : max(0, self.present[host][0] - first)] = np.nan
        failures = self.failures.get(newest, {})
        ambiguous = self.ambiguous.get(newest, {})
        rows = {hosts.index(host): alias for host, alias in ambiguous.items()}
        for row in rows:
            values[row, -1] = np.nan
        for alias in failures:
            values[:, -1, NAMES.index(alias)] = np.nan
        groups = tuple(map(label, hosts))
        frame = MetricFrame(START + first * STEP, STEP, NAMES, groups, values)
        unchanged = np.full(len(hosts), np.nan)
        return GroupPoll(frame, failures, dict.fromkeys(NAMES, frame.end), unchanged, rows, ())

    def tick(self) -> None:
        """One more sample."""
        self.sample += 1
        self.clock.at = START + self.sample * STEP
        self.loop.tick()

    def run(self, until: int) -> None:
        """Tick up to before this sample."""
        while self.sample + 1 < until:
            self.tick()

    def name(self, host: int) -> str:
        return f'fleet{{instance="host-{host}"}}'

    def states(self) -> dict[str, str]:
        """The state of each group by its name, as published."""
        return {each.group[0][1]: str(each.verdict.state) for each in self.loop.snapshot.groups}

    def list_events(self) -> list[tuple[str, str, float, float | None, str | None]]:
        """Id, group, start, end and end reason of each event, oldest first."""
        found = [
            (each.event.id, each.event.group, each.event.start, each.event.end, each.end_reason)
            for each in self.events.find(limit=10_000)
        ]
        return sorted(found, key=lambda each: (each[2], each[1]))

    def list_incidents(self) -> list[tuple[str, float, float | None, int]]:
        """Id, start, end and number of groups of each incident, oldest first."""
        found = [each.incident for each in self.events.find_incidents(limit=10_000)]
        return sorted(
            ((each.id, each.start, each.end, len(each.members)) for each in found),
            key=lambda each: each[1:2],
        )

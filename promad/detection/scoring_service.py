"""`ScoringService`: bundles that score what they are sent, without Prometheus and without state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from promad.bundle import Opened, open_detector
from promad.clock import Clock
from promad.config import Config
from promad.detection.reloading import carry_out
from promad.detection.running_detector import RunningDetector
from promad.events.event_log import EventLog
from promad.events.status import GroupStatus
from promad.events.verdict import State, Verdict
from promad.exposition import DaemonMetrics, Snapshot, create_registry

log = structlog.get_logger()

_NO_FILE = Path(":memory:")
"""SQLite's name for a database without a file: nothing is logged."""
_WHY = "it scores requests only"


class ScoringService:
    """The current bundles of some configurations; the directories of artifacts are only read."""

    def __init__(self, configs: Sequence[Config], clock: Clock) -> None:
        self._names = {config.name for config in configs}
        self._clock = clock
        self._served: Sequence[RunningDetector] = ()
        self.registry = create_registry()
        self._metrics = DaemonMetrics(self.registry)

    def served(self) -> Sequence[RunningDetector]:
        """The detectors in use."""
        return self._served

    def is_ready(self) -> bool:
        """Whether the bundles are loaded."""
        return bool(self._served)

    def start(self, configs: Sequence[Config]) -> None:
        """Load the current bundles of these configurations in place of those in use.

        Raises:
            BundleError: if one is missing, damaged or does not fit; those in use stay then.
        """
        opened = [open_detector(config) for config in configs]
        now = self._clock.now()
        before, self._served = self._served, [_serve(one, now) for one in opened]
        for served in before:
            served.events.close()
        self._metrics.forget()
        for one in opened:
            self._show(one)
        self._metrics.show_reload(now)

    def reload(self, read: Callable[[], Sequence[Config]]) -> str:
        """Load what `read` returns; the error, empty if there is none."""
        error = carry_out(read, self._names, self.start)[1]
        if error:
            self._metrics.show_failed_reload()
        return error

    def _show(self, opened: Opened) -> None:
        bundle, name = opened.bundle, opened.config.name
        metrics = self._metrics.of(name)
        metrics.show_bundle(bundle.manifest.model, bundle.id, bundle.trained_at)
        log.info("bundle loaded", detector=name, bundle=bundle.id, model=bundle.manifest.model)


def _serve(opened: Opened, now: float) -> RunningDetector:
    """Its groups are those of the training; none of them has been scored."""
    config, detector = opened.config, opened.detector
    groups = detector.table.groups if detector.table else ((),)
    verdict = Verdict(now, State.WARMING, detector.threshold.value, why=_WHY)
    snapshot = Snapshot(
        config.name,
        config.real_time_anomaly_detection.metrics_prefix,
        tuple(GroupStatus(verdict, labels) for labels in groups),
    )
    return RunningDetector(
        config, opened.bundle, detector, EventLog(_NO_FILE), {}, lambda: snapshot
    )

"""Which thresholds of many groups were raised to keep the alert budget, and which is news."""

from __future__ import annotations

from typing import Any

import numpy as np

from promad.data.rows import Move
from promad.detection.state import State
from promad.exposition import DetectorMetrics


class Adaptations:
    """How often the limit of each group, and of all together, was raised as far as reported."""

    def __init__(self) -> None:
        self._raised = np.zeros(0, np.int64)
        self._raised_together = 0

    def regroup(self, state: State, move: Move) -> None:
        """Continue with the groups of a state; what a new one brings with it is no news."""
        raised = np.zeros(state.groups, np.int64)
        raised[move.target] = self._raised[move.source]
        self._raised = np.maximum(raised, state.limits.adaptations)

    def resume(self, state: State) -> None:
        """What all groups together had before a restart is no news."""
        shared = getattr(state.limits, "shared", None)
        if shared is not None:
            self._raised_together = int(shared.adaptations[0])

    def report(self, state: State, metrics: DetectorMetrics, log: Any) -> None:
        """Count and log those that were just raised."""
        limits = state.limits
        raised = limits.adaptations
        for row in np.flatnonzero(raised > self._raised).tolist():
            metrics.count_adaptations(int(raised[row] - self._raised[row]))
            log.warning("threshold adapted", group=state.names[row], why=limits.explain(row))
        self._raised = raised
        shared = getattr(limits, "shared", None)
        if shared is not None and (times := int(shared.adaptations[0])) > self._raised_together:
            metrics.count_adaptations(times - self._raised_together)
            self._raised_together = times
            log.warning("threshold adapted", group="all", why=shared.explain(0))

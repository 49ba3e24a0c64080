"""`LiveDetector`: an opened detector with what it needs and remembers of its groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from promad.bundle import Opened
from promad.data.frame import MetricFrame
from promad.data.groups import THE_ONLY_GROUP, Labels
from promad.detection.judgements import Judgements
from promad.detection.state import State, begin_hysteresis, begin_state, choose_rule
from promad.detection.step import catch_up, run, warm
from promad.scoring.calibration import Calibration
from promad.scoring.detector import Detector
from promad.scoring.peers import find_whole
from promad.thresholds.controller import FleetBudget, put_to_work
from promad.training.threshold_choice import make_threshold_settings


@dataclass(frozen=True)
class LiveDetector:
    """A detector at work on some groups; see `promad.detection.step`."""

    detector: Detector
    calibration: Calibration
    state: State

    def catch_up(
        self, frame: MetricFrame, corrected_from: float | None = None
    ) -> Iterator[Judgements]:
        """The judgements of what is new in a frame of the newest samples."""
        return catch_up(self.detector, self.calibration, self.state, frame, corrected_from)

    def calibrate(self) -> LiveDetector:
        """The same, calibrated by the peers that its state remembers."""
        calibration = self.detector.calibrate(self.state.labels, self.state.peers)
        return replace(self, calibration=calibration)

    def meet(self, frame: MetricFrame) -> tuple[LiveDetector, NDArray[np.int64]]:
        """The same, with groups that came after training calibrated by those that they resemble.

        Peers are chosen once the first window of a group is whole, and again each hour for a day,
        but not while it has an open event: what is anomalous is no level to compare.

        Args:
            frame: the newest `samples_needed` samples of all groups.

        Returns:
            Also the rows whose calibration changed: what the state has seen of them is to be seen
            again.
        """
        peers, table, length = self.state.peers, self.detector.table, self.detector.length
        rows = peers.find_due(frame.end, frame.step)
        is_open = self.state.events.hysteresis.open[rows]
        rows = rows[find_whole(frame.values[rows], length) & ~is_open]
        if table is None or not rows.size:
            return self, rows
        peers.follow(rows, frame.values[rows, -length:])
        peers.rows[rows] = table.find_peers(peers.levels[rows])
        return self.calibrate(), rows

    def may_continue(self, other: LiveDetector) -> bool:
        """Whether events that another detector began are those of this one: the same features,
        at the same step.
        """
        own, others = self.detector, other.detector
        same_step = own.preparation.step == others.preparation.step
        return same_step and own.scored_features == others.scored_features

    def replay(self, frame: MetricFrame) -> Iterator[Judgements]:
        """The judgements of every sample of a frame but those that only lead up to the first."""
        lead = self.detector.samples_needed - 1
        live, _ = self.meet(frame.slice(0, lead + 1))
        warm(live.detector, live.calibration, live.state, frame.slice(0, lead))
        yield from run(
            live.detector, live.calibration, live.state, frame.slice(lead, frame.samples)
        )


def begin_live(
    opened: Opened, groups: Sequence[Labels] = (THE_ONLY_GROUP,), shards: int = 1
) -> LiveDetector:
    """The detector of a configuration before its first sample, one of so many shards."""
    config, detector = opened.config, opened.detector
    live, count = config.real_time_anomaly_detection, len(groups)
    how = choose_rule(detector, make_threshold_settings(live, config.data_settings.step))
    limits = put_to_work(
        detector.threshold,
        how,
        adapt=live.adapt_threshold,
        groups=count,
        fleet=FleetBudget(live.alert_budget.per, live.alert_budget.max_group_share, shards)
        if config.group_by
        else None,
    )
    hysteresis = begin_hysteresis(how, count)
    state = begin_state(detector, limits, config.name, groups, hysteresis, config.mute)
    return LiveDetector(detector, detector.calibrate(groups), state)

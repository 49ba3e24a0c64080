"""`LiveDetector`: an opened detector with what it needs and remembers of its groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from promad.bundle import Opened
from promad.data.frame import MetricFrame
from promad.data.groups import THE_ONLY_GROUP, Labels
from promad.detection.judgements import Judgements
from promad.detection.state import State, begin_state
from promad.detection.step import catch_up, run, warm
from promad.events.hysteresis import Hysteresis
from promad.scoring.calibration import Calibration
from promad.scoring.detector import Detector
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

    def replay(self, frame: MetricFrame) -> Iterator[Judgements]:
        """The judgements of every sample of a frame but those that only lead up to the first."""
        lead = self.detector.samples_needed - 1
        warm(self.detector, self.calibration, self.state, frame.slice(0, lead))
        yield from run(
            self.detector, self.calibration, self.state, frame.slice(lead, frame.samples)
        )


def begin_live(opened: Opened, groups: Sequence[Labels] = (THE_ONLY_GROUP,)) -> LiveDetector:
    """The detector of a configuration before its first sample."""
    config, detector = opened.config, opened.detector
    live, count = config.real_time_anomaly_detection, len(groups)
    limits = put_to_work(
        detector.threshold,
        make_threshold_settings(live, config.data_settings.step),
        adapt=live.adapt_threshold,
        groups=count,
        fleet=FleetBudget(live.alert_budget.per, live.alert_budget.max_group_share)
        if config.group_by
        else None,
    )
    hysteresis = Hysteresis.begin(count, live.enter_after_samples, live.leave_after_samples)
    state = begin_state(detector, limits, config.name, groups, hysteresis)
    return LiveDetector(detector, detector.calibrate(groups), state)

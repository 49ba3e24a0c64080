"""A detection loop on a made-up server, a made-up model and a clock that a test turns."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from promad.config.mute_settings import Mute
from promad.data.frame import MetricFrame
from promad.data.groups import THE_ONLY_GROUP, Labels
from promad.data.preparation import Preparation
from promad.data.scaling import Scaler
from promad.data.valid_range import Range
from promad.detection.live import LiveDetector
from promad.detection.loop import DetectionLoop, LoopOptions, LoopOutputs
from promad.detection.marker_queries import MarkerQueries
from promad.detection.muting import MuteQueries
from promad.detection.persistence import Persistence
from promad.detection.recent_history import RecentHistory
from promad.detection.state import begin_state
from promad.errors import PrometheusError
from promad.events.event_log import EventLog
from promad.events.events import AnomalyEvent
from promad.events.hysteresis import Hysteresis
from promad.events.status import GroupStatus
from promad.events.verdict import Verdict
from promad.exposition import DaemonMetrics
from promad.models import Outcome
from promad.prometheus.polling import Poll
from promad.scoring.detector import Detector
from promad.scoring.scoring import Scoring
from promad.thresholds import Threshold, ThresholdState

STEP = 10.0
LENGTH = 4
START = 1_000_000.0
FEATURES = ("cpu", "load")
MANY = ("cpu", "load", "disk", "network")
CATCH_UP = 100 * STEP


class ExpectsNothing:
    """A model that expects every feature to be 0, so the error is the mean square."""

    length = LENGTH
    scoring_modes: tuple[str, ...] = ()
    scoring_mode = None

    def apply(self, windows: NDArray[np.float32]) -> Outcome:
        squares = np.square(windows, dtype=np.float64)
        return Outcome(squares[:, -1], np.zeros_like(squares[:, -1]), squares.mean(axis=1))


@dataclass
class Server:
    """Answers polls: every feature is 0 but for what `values` says, by time and feature.

    A key of time, feature and number of the group is about that group alone.
    """

    samples: int
    features: tuple[str, ...] = FEATURES
    groups: Sequence[Labels] = (THE_ONLY_GROUP,)
    values: dict[tuple, float] = field(default_factory=dict)
    failures: dict[str, PrometheusError] = field(default_factory=dict)
    since: float = -np.inf
    asked_at: list[float] = field(default_factory=list)
    raises: Exception | None = None
    polled: MetricFrame | None = None

    def poll(self, at: float) -> Poll:
        self.asked_at.append(at)
        if self.raises is not None:
            raise self.raises
        newest = np.floor(at / STEP) * STEP
        times = newest - STEP * np.arange(self.samples)[::-1]
        values = np.array([self._columns(times, group) for group in range(len(self.groups))])
        known = np.where((times >= self.since)[:, np.newaxis], values, np.nan)
        frame = MetricFrame(float(times[0]), STEP, self.features, tuple(self.groups), known)
        there = ~np.isnan(known).all(axis=0)
        seen = {
            name: float(times[there[:, column]][-1]) if there[:, column].any() else None
            for column, name in enumerate(self.features)
        }
        late = self._find_late(frame)
        self.polled = frame
        return Poll(frame, dict(self.failures), seen, late)

    def _columns(self, times: NDArray[np.float64], group: int) -> list[list[float]]:
        def value(time: float, name: str) -> float:
            return self.values.get((time, name, group), self.values.get((time, name), 0.0))

        return [[value(float(time), name) for name in self.features] for time in times]

    def _find_late(self, frame: MetricFrame) -> float | None:
        """When the earliest sample was that has come since the last poll, as the poller says it."""
        if self.polled is None:
            return None
        moved = round((frame.start - self.polled.start) / STEP)
        if not 0 <= moved < frame.samples:
            return None
        before = self.polled.values[:, moved:]
        came = np.isnan(before) & ~np.isnan(frame.values[:, : before.shape[1]])
        rows = np.flatnonzero(came.any(axis=(0, 2)))
        return float(frame.times[rows[0]]) if rows.size else None


@dataclass
class Hands:
    """A clock that moves only when told to; waiting moves it to the moment waited for."""

    time: float = START
    set_back: float = 0.0
    waited_for: list[float] = field(default_factory=list)
    on_wait: Callable[[], None] = lambda: None

    def now(self) -> float:
        return self.time

    def elapsed(self) -> float:
        return self.time + self.set_back

    def wait_until(self, moment: float, stop: threading.Event) -> None:
        self.waited_for.append(moment)
        self.time = max(self.time, moment)
        self.on_wait()


@dataclass
class Bench:
    """A loop with everything around it."""

    loop: DetectionLoop
    live: LiveDetector
    server: Server
    clock: Hands
    registry: CollectorRegistry
    outputs: LoopOutputs
    ended: list[AnomalyEvent]

    @property
    def status(self) -> GroupStatus:
        return self.loop.snapshot.groups[0]

    @property
    def verdict(self) -> Verdict:
        return self.status.verdict

    @property
    def history(self) -> RecentHistory:
        return next(iter(self.outputs.histories.values()))

    def tick_at(self, seconds: float) -> Verdict:
        """The verdict after a tick that many seconds after the start."""
        self.clock.time = START + seconds
        self.loop.tick()
        return self.verdict

    def sample(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, {"detector": "promad", **labels})

    def rise(self, feature: str, times: Iterable[float], value: float = 3.0) -> None:
        """Raise a feature at times, in seconds after the start."""
        for at in times:
            self.server.values[(START + at, feature)] = value


def preparation(strategy: str, features: tuple[str, ...]) -> Preparation:
    count = len(features)
    scaler = Scaler("StandardScaler", np.zeros(count), np.ones(count))
    return Preparation(features, count, STEP, strategy, 1, np.zeros(count), scaler, (), "UTC")


def detector_of(
    strategy: str = "ffill_then_bfill",
    features: tuple[str, ...] = FEATURES,
    span: int = 1,
    method: str = "mse",
    valid_ranges: Sequence[Range] = (),
) -> Detector:
    """A detector by the plain error, or the newest sample's error if `method` is `normalised`."""
    ones = np.ones(len(features))
    scoring = Scoring(method, ones, ones, None, span, required_share=0.7)
    threshold = Threshold("fixed", 1.0, None, "given")
    prepared = replace(preparation(strategy, features), valid_ranges=tuple(valid_ranges))
    return Detector(prepared, ExpectsNothing(), scoring, threshold, LENGTH)


def live_of(
    detector: Detector,
    limits: ThresholdState | None = None,
    enter_after: int = 1,
    leave_after: int = 2,
    groups: Sequence[Labels] = (THE_ONLY_GROUP,),
    mute: Sequence[Mute] = (),
) -> LiveDetector:
    """The detector before its first sample, by its own threshold unless another is given."""
    count = len(groups)
    at_work = limits or detector.threshold.begin(count)
    hysteresis = Hysteresis.begin(count, enter_after, leave_after)
    state = begin_state(detector, at_work, "promad", groups, hysteresis, mute)
    return LiveDetector(detector, detector.calibrate(groups), state)


def bench(
    strategy: str = "ffill_then_bfill",
    features: tuple[str, ...] = FEATURES,
    limits: ThresholdState | None = None,
    span: int = 1,
    method: str = "mse",
    latency_offset: float = 0.0,
    log: EventLog | None = None,
    bundle: str = "b1",
    groups: Sequence[Labels] = (THE_ONLY_GROUP,),
    valid_ranges: Sequence[Range] = (),
    mute: Sequence[Mute] = (),
    mutes: MuteQueries | None = None,
    markers: MarkerQueries | None = None,
    **hysteresis: int,
) -> Bench:
    """A loop over a made-up detector, on a made-up server.

    Args:
        log: where events are saved, if anywhere.
        mute, mutes: when groups are muted, and what asks for it.
        markers: what asks for versions.
        hysteresis: `enter_after` and `leave_after`.
    """
    live = live_of(
        detector_of(strategy, features, span, method, valid_ranges),
        limits,
        groups=groups,
        mute=mute,
        **hysteresis,
    )
    server = Server(live.detector.samples_needed + 10, features, groups)
    clock, registry = Hands(), CollectorRegistry()
    ended: list[AnomalyEvent] = []

    def observe(_: Verdict, event: AnomalyEvent | None) -> None:
        ended.extend([event] if event else [])

    metrics = DaemonMetrics(registry).of("promad")
    metrics.show_bundle("made-up", "b", 0.0)
    persistence = None if log is None else Persistence(log, bundle, 1e6, CATCH_UP, metrics)
    histories = {
        name: RecentHistory(live.detector.scored_features, 720) for name in live.state.names
    }
    outputs = LoopOutputs(
        metrics, histories, persistence, observe=observe, mutes=mutes, markers=markers
    )
    options = LoopOptions("promad", "anomaly_detector_", STEP, lambda _: latency_offset, 0.7)
    loop = DetectionLoop(options, live, server, clock, outputs)  # type: ignore[arg-type]
    return Bench(loop, live, server, clock, registry, outputs, ended)

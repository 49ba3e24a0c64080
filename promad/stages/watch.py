"""`Watch`: one detector at work, tick by tick.

A tick polls, scores what is new, judges it, and swaps what is published in one assignment. Nothing
that happens in a tick ends the daemon: it is counted, logged, and makes the group blind.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import structlog
from numpy.typing import NDArray

from promad.clock import Clock
from promad.config import Config
from promad.config.durations import format_duration, format_instant
from promad.detector import Detector
from promad.errors import PrometheusError
from promad.events import AnomalyEvent, EventTracker
from promad.exporter import DetectorMetrics, GroupStatus, Snapshot
from promad.frame import MetricFrame, align_down
from promad.prometheus.polling import Poll, Poller
from promad.thresholds import Standing, followed
from promad.verdict import FeatureView, State, Verdict

log = structlog.get_logger()

CATCH_UP_SAMPLES = 100
"""How many samples beyond a window are kept, and so can be scored late after an outage."""

OVERDUE_INTERVALS = 3
"""After how many query intervals without a tick's end the last verdict is withdrawn: a tick may
hang where no timeout reaches, as in looking up a name."""

_KEEP_SECONDS = 600.0

Observer = Callable[[Verdict, AnomalyEvent | None], None]
"""Called with each scored sample and the event that it ended, if it did."""


@dataclass(frozen=True)
class _Standing:
    """What one tick hands to the next."""

    tracker: EventTracker
    scored_until: float | None = None
    state: State | None = None
    failing: frozenset[str] = frozenset()
    deviating: Mapping[str, float] = field(default_factory=dict)
    newest: Verdict | None = None


class StoredLimits:
    """A threshold at work, kept in a file so that a restart does not forget what it learned.

    `raises` and `why` tell how often and why the last scores raised it.
    """

    def __init__(
        self, standing: Standing, write: Callable[[Standing], None] = lambda standing: None
    ) -> None:
        self._standing = standing
        self._write = write
        self._kept_at: float | None = None
        self.raises = 0
        self.why = ""

    def follow(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """The limits of scores that follow those before: (samples,) to (samples,)."""
        before = getattr(self._standing, "adapted", 0)
        limits, self._standing = followed(self._standing, scores)
        self.raises = getattr(self._standing, "adapted", 0) - before
        self.why = getattr(self._standing, "why", "")
        return limits

    @property
    def now(self) -> float:
        """The limit as it stands."""
        return self._standing.follow(np.nan)[0]

    def keep_if_due(self, now: float) -> None:
        """Write the standing if that was not done for ten minutes."""
        if self._kept_at is None:
            self._kept_at = now
        if now - self._kept_at >= _KEEP_SECONDS:
            self.keep(now)

    def keep(self, now: float) -> None:
        """Write the standing now."""
        self._kept_at = now
        self._write(self._standing)


class Watch:
    """One detector at work. Only its own thread calls `tick`; anyone may read `snapshot`.

    `answered` turns True once the server has answered a query.
    """

    def __init__(
        self,
        config: Config,
        detector: Detector,
        poller: Poller,
        clock: Clock,
        metrics: DetectorMetrics,
        observer: Observer | None = None,
        limits: StoredLimits | None = None,
    ) -> None:
        live = config.real_time_anomaly_detection
        self.name = config.name
        self.answered = False
        self._live = live
        self._features = config.features
        self._scored_features = config.features[: config.scored]
        self._detector = detector
        self._poller = poller
        self._clock = clock
        self._metrics = metrics
        self._observer = observer
        self._limits = limits or StoredLimits(detector.threshold.begin())
        self._log = log.bind(detector=config.name)
        self._standing = _Standing(EventTracker(live.enter_after_samples, live.leave_after_samples))
        self._published_at = clock.now()
        self._published = self._snapshot(
            self._unscored(self._published_at, State.WARMING, "not polled yet")
        )

    @property
    def snapshot(self) -> Snapshot:
        """What the last tick found out, or that it is too long ago to say anything now."""
        since = self._clock.now() - self._published_at
        if since <= OVERDUE_INTERVALS * self._live.query_interval_seconds:
            return self._published
        why = f"no tick has ended for {format_duration(round(since))}"
        return self._snapshot(self._unscored(self._clock.now(), State.BLIND, why))

    def run(self, stop: threading.Event) -> None:
        """Tick now, and then at absolute multiples of the query interval, until `stop` is set."""
        try:
            self._run(stop)
        finally:
            self._limits.keep(self._clock.now())

    def _run(self, stop: threading.Event) -> None:
        interval = self._live.query_interval_seconds
        due = align_down(self._clock.now(), interval)
        while not stop.is_set():
            self.tick()
            self._limits.keep_if_due(self._clock.now())
            due = self._next_due(due + interval, interval)
            self._clock.wait_until(due, stop)

    def _next_due(self, due: float, interval: float) -> float:
        """`due`, or the next tick in time if that is past, or if the clock was set back."""
        late = self._clock.now() - due
        if late <= 0:
            return min(due, align_down(due - late, interval) + interval)
        skipped = int(late // interval) + 1
        self._metrics.skipped(skipped)
        return due + skipped * interval

    def tick(self) -> None:
        """Poll, score, judge and publish once."""
        started = time.perf_counter()
        at = self._clock.now() - self._live.latency_offset
        try:
            poll = self._poll(at)
            in_window = self._detector.complete_samples(poll.frame)
            self._publish(self._verdict(poll, in_window), in_window, poll.failures)
        except Exception:  # noqa: BLE001 - the daemon outlives whatever a tick meets
            self._log.exception("the tick failed")
            self._metrics.tick_failed()
            self._publish(self._unscored(at, State.BLIND, "the tick failed, see the log"))
        self._metrics.ticked(time.perf_counter() - started)

    def _poll(self, at: float) -> Poll:
        poll = self._poller.poll(at)
        self._metrics.polled(self._features, poll.failures)
        self.answered = self.answered or len(poll.failures) < len(self._features)
        newest = [time for time in poll.newest.values() if time is not None]
        if newest:
            self._metrics.sample_is(self._clock.now() - min(newest))
        self._log_failures(poll.failures)
        return poll

    def _log_failures(self, failures: Mapping[str, PrometheusError]) -> None:
        """A line when a query begins to fail and one when it is answered again."""
        for alias in failures.keys() - self._standing.failing:
            failure = failures[alias]
            self._log.warning(
                "query failed", query=alias, reason=failure.reason, error=str(failure)
            )
        for alias in self._standing.failing - failures.keys():
            self._log.info("query answered again", query=alias)
        self._standing = replace(self._standing, failing=frozenset(failures))

    def _verdict(self, poll: Poll, in_window: int) -> Verdict:
        """The judgement of the newest sample, or why there is none."""
        at = poll.frame.end
        if self._too_many(poll.failures):
            return self._unscored(at, State.BLIND, _failed(poll.failures))
        self._score(poll.frame)
        if in_window == 0:
            return self._unscored(at, State.BLIND, _missing(poll.frame))
        if in_window < self._detector.length:
            why = f"{in_window} of {self._detector.length} samples of a window"
            return self._unscored(at, State.WARMING, why)
        newest = self._standing.newest
        if newest is None or abs(newest.at - at) > poll.frame.step / 2:
            return self._unscored(at, State.BLIND, "too few features are known for a score")
        return replace(newest, why=_left_out(self._scored_features, newest))

    def _too_many(self, failures: Mapping[str, PrometheusError]) -> bool:
        """Whether the queries that were answered are fewer than a score needs.

        A short gap is filled, so without this the last answers would pass for new ones.
        """
        answered = sum(name not in failures for name in self._scored_features)
        needed = self._detector.scoring.required_share * len(self._scored_features)
        return answered == 0 or answered < needed - 1e-9

    def _unscored(self, at: float, state: State, why: str) -> Verdict:
        return Verdict(at, state, self._limits.now, why=why)

    def _score(self, frame: MetricFrame) -> None:
        """Score the samples that are new and keep the book of events."""
        scores = self._detector.score(frame, self._scored_until(frame))
        limits = self._limits.follow(scores.score)
        self._tell_adaptation()
        for judged in self._detector.judge(scores, limits):
            self._follow(self._dated(judged))

    def _tell_adaptation(self) -> None:
        """Say so if the threshold was just raised, because the alert budget was far exceeded."""
        if self._limits.raises:
            self._metrics.threshold_adapted(self._limits.raises)
            self._log.warning("threshold adapted", why=self._limits.why)

    def _dated(self, verdict: Verdict) -> Verdict:
        """The verdict with the time since when each feature has deviated."""
        before = self._standing.deviating
        now = {
            view.name: before.get(view.name, verdict.at)
            for view in verdict.features
            if view.elevation > 1
        }
        self._standing = replace(self._standing, deviating=now)
        dated = tuple(replace(view, since=now.get(view.name)) for view in verdict.features)
        return replace(verdict, features=dated)

    def _scored_until(self, frame: MetricFrame) -> float:
        """The time after which samples are new; at first, and if time went back, only the last."""
        until = self._standing.scored_until
        return frame.end - frame.step if until is None or until > frame.end else until

    def _follow(self, judged: Verdict) -> None:
        """Enter one judged sample into the book of events; its state is then the event's."""
        before = self._standing.tracker
        tracker, ended = before.follow(judged)
        self._standing = replace(self._standing, tracker=tracker, scored_until=judged.at)
        if tracker.begun > before.begun and tracker.current is not None:
            self._log.warning("anomaly began", **_described(tracker.current))
        if ended is not None:
            self._log.warning("anomaly ended", **_described(ended))
        state = State.OK if tracker.current is None else State.ANOMALOUS
        verdict = replace(judged, state=state)
        self._standing = replace(self._standing, newest=verdict)
        if self._observer is not None:
            self._observer(verdict, ended)

    def _publish(
        self,
        verdict: Verdict,
        in_window: int = 0,
        failures: Mapping[str, PrometheusError] | None = None,
    ) -> None:
        if verdict.state is not self._standing.state:
            self._log.info("state changed", state=str(verdict.state), why=verdict.why or None)
        self._standing = replace(self._standing, state=verdict.state)
        self._published = self._snapshot(verdict, in_window, failures)
        self._published_at = self._clock.now()

    def _snapshot(
        self,
        verdict: Verdict,
        in_window: int = 0,
        failures: Mapping[str, PrometheusError] | None = None,
    ) -> Snapshot:
        status = GroupStatus(
            verdict=verdict,
            events_begun=self._standing.tracker.begun,
            event=self._standing.tracker.current,
            last_scored_at=self._standing.scored_until,
            samples_in_window=in_window,
            features=len(self._scored_features),
        )
        failed = tuple((alias, str(failure)) for alias, failure in (failures or {}).items())
        return Snapshot(self.name, self._live.metrics_prefix, (status,), failed)


def _left_out(features: tuple[str, ...], verdict: Verdict) -> str:
    known = {view.name for view in verdict.features}
    gone = [name for name in features if name not in known]
    return f"scored without {_some(gone)}" if gone else ""


def _failed(failures: Mapping[str, PrometheusError]) -> str:
    alias, failure = next(iter(failures.items()))
    others = f" and {len(failures) - 1} more" if len(failures) > 1 else ""
    return f"query {alias}{others} failed: {failure.reason}"


def _missing(frame: MetricFrame) -> str:
    newest = frame.values[0, -1]
    gone = [name for name, value in zip(frame.features, newest, strict=True) if np.isnan(value)]
    return f"no sample of {_some(gone)}"


def _some(names: list[str]) -> str:
    return f"{', '.join(names[:5])}{' and others' if len(names) > 5 else ''}"


def _described(event: AnomalyEvent) -> dict[str, object]:
    """An event in one log line."""
    until = event.peak_at if event.end is None else event.end
    return {
        "id": event.id,
        "start": format_instant(event.start),
        "end": None if event.end is None else format_instant(event.end),
        "lasted": format_duration(until - event.start),
        "peak_score": round(event.peak_ratio, 2),
        "top_features": ", ".join(_shown(view) for view in event.top_features),
    }


def _shown(view: FeatureView) -> str:
    return (
        f"{view.name} {view.contribution:.0%} "
        f"(observed {view.observed:.4g}, expected {view.expected:.4g})"
    )

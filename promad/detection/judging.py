"""`Judge`: a detector with a memory. What a daemon does with samples, without polling or clock.

`Watch` hands it the newest samples tick by tick, `backtest` hands it history; both come to the
same verdicts and events, because there is no other path.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from promad.config import Config
from promad.data.frame import MetricFrame
from promad.events.event_log import event_from
from promad.events.events import AnomalyEvent, EventTracker
from promad.events.verdict import State, Verdict
from promad.scoring.detector import Detector
from promad.training.threshold_choice import StoredLimits


@dataclass(frozen=True)
class Judged:
    """One scored sample: its verdict, whose state is the event's, and what changed with it.

    Attributes:
        event: the event that is open after the sample, if one is.
        begun: whether it was this sample that made it one.
        ended: the event that is over with this sample.
    """

    verdict: Verdict
    event: AnomalyEvent | None
    begun: bool
    ended: AnomalyEvent | None


@dataclass(frozen=True)
class Memory:
    """What a judge goes on from.

    Attributes:
        tracker: where the group stands between quiet and anomalous.
        scored_until: unix seconds of the newest sample that was scored; None before the first.
        deviating: since when each feature has deviated, unix seconds by name.
        newest: the verdict of that newest sample.
    """

    tracker: EventTracker
    scored_until: float | None = None
    deviating: Mapping[str, float] = field(default_factory=dict)
    newest: Verdict | None = None


class Judge:
    """One group's detector at work on samples that come in order of time.

    `limits` is the threshold at work, `memory` what the samples so far came to.
    """

    def __init__(
        self, detector: Detector, group: str, config: Config, limits: StoredLimits | None = None
    ) -> None:
        live = config.real_time_anomaly_detection
        self.scored_features = config.features[: config.scored]
        self.limits = limits or StoredLimits(detector.threshold.begin())
        self._detector = detector
        tracker = EventTracker(group, live.enter_after_samples, live.leave_after_samples)
        self.memory = Memory(tracker)

    def follow(self, frame: MetricFrame) -> Iterator[Judged]:
        """Judge every sample that is new, in order of time.

        Args:
            frame: the newest `samples_needed` samples at least, for the first new one.
        """
        scores = self._detector.score(frame, self._scored_until(frame))
        limits = self.limits.follow(scores.score)
        for verdict in self._detector.judge(scores, limits):
            yield self._entered(self._with_missing(self._dated(verdict)))

    @property
    def required_share(self) -> float:
        """The share of the scored features without which there is no score."""
        return self._detector.scoring.required_share

    def complete_samples(self, frame: MetricFrame) -> int:
        """Usable samples in a row at the end of the frame, at most a window's length."""
        return self._detector.complete_samples(frame)

    def newest(self, frame: MetricFrame, in_window: int) -> Verdict:
        """The verdict of the newest sample of a frame that was followed, or why it has none.

        Args:
            in_window: `complete_samples` of the frame.
        """
        newest = self.memory.newest
        if newest is None and _is_end(self.memory.scored_until, frame):
            newest = self._seen_again(frame)
        if newest is None or not _is_end(newest.at, frame):
            return self.unscored(frame, -1, in_window)
        return newest

    def _seen_again(self, frame: MetricFrame) -> Verdict | None:
        """The verdict of the newest sample, which was entered before this judge began."""
        scores = self._detector.score(frame, frame.end - frame.step)
        limits = np.full(len(scores.score), self.limits.now)
        for verdict in self._detector.judge(scores, limits):
            known = self._with_missing(self._dated(verdict))
            self.memory = replace(self.memory, newest=replace(known, state=self._state))
        return self.memory.newest

    @property
    def _state(self) -> State:
        return State.OK if self.memory.tracker.current is None else State.ANOMALOUS

    def unscored(self, frame: MetricFrame, row: int, in_window: int) -> Verdict:
        """Why a sample has no score.

        Args:
            in_window: usable samples in a row up to it.
        """
        at = float(frame.times[row])
        if in_window == 0:
            gone = self._missing(frame, row)
            return self.blind(at, f"no sample of {some(gone)}", gone)
        if in_window < self._detector.length:
            why = f"{in_window} of {self._detector.length} samples of a window"
            return Verdict(at, State.WARMING, self.limits.now, why=why)
        return self.blind(at, "too few features are known for a score")

    def blind(self, at: float, why: str, missing: tuple[str, ...] = ()) -> Verdict:
        """A verdict without a score; `at` in unix seconds."""
        return Verdict(at, State.BLIND, self.limits.now, missing=missing, why=why)

    def _missing(self, frame: MetricFrame, row: int) -> tuple[str, ...]:
        values = frame.values[0, row]
        return tuple(
            name for name, value in zip(frame.features, values, strict=True) if np.isnan(value)
        )

    def _scored_until(self, frame: MetricFrame) -> float:
        """The time after which samples are new; at first, and if time went back, only the last."""
        until = self.memory.scored_until
        return frame.end - frame.step if until is None or until > frame.end else until

    def _dated(self, verdict: Verdict) -> Verdict:
        """The verdict with the time since when each feature has deviated."""
        before = self.memory.deviating
        now = {
            view.name: before.get(view.name, verdict.at)
            for view in verdict.features
            if view.elevation > 1
        }
        self.memory = replace(self.memory, deviating=now)
        dated = tuple(replace(view, since=now.get(view.name)) for view in verdict.features)
        return replace(verdict, features=dated)

    def _with_missing(self, verdict: Verdict) -> Verdict:
        known = {view.name for view in verdict.features}
        gone = tuple(name for name in self.scored_features if name not in known)
        return replace(verdict, missing=gone, why=f"scored without {some(gone)}" if gone else "")

    def _entered(self, judged: Verdict) -> Judged:
        """Enter one sample into the book of events; its state is then the event's."""
        before = self.memory.tracker
        tracker, ended = before.follow(judged)
        self.memory = replace(self.memory, tracker=tracker)
        verdict = replace(judged, state=self._state)
        self.memory = replace(self.memory, scored_until=verdict.at, newest=verdict)
        return Judged(verdict, tracker.current, tracker.begun > before.begun, ended)


def _is_end(at: float | None, frame: MetricFrame) -> bool:
    """Whether a time, in unix seconds, is that of the frame's newest sample."""
    return at is not None and abs(at - frame.end) <= frame.step / 2


def some(names: Sequence[str]) -> str:
    """The first five names."""
    return f"{', '.join(names[:5])}{' and others' if len(names) > 5 else ''}"


def memory_to_json(memory: Memory) -> dict[str, Any]:
    """Plain values, from which `memory_from_json` goes on as if nothing had been in between."""
    tracker = memory.tracker
    return {
        "scored_until": memory.scored_until,
        "deviating": dict(memory.deviating),
        "current": None if tracker.current is None else asdict(tracker.current),
        "rising": None if tracker.rising is None else asdict(tracker.rising),
        "above": tracker.above,
        "below": tracker.below,
        "last_above": tracker.last_above,
    }


def memory_from_json(content: Mapping[str, Any], fresh: EventTracker) -> Memory:
    """The memory that `memory_to_json` described; events are counted from 0 again.

    Raises:
        KeyError, TypeError, ValueError: if `content` is no such description.
    """
    tracker = replace(
        fresh,
        current=_event_or_none(content["current"]),
        rising=_event_or_none(content["rising"]),
        above=int(content["above"]),
        below=int(content["below"]),
        last_above=float(content["last_above"]),
    )
    deviating = {str(name): float(since) for name, since in content["deviating"].items()}
    return Memory(tracker, float(content["scored_until"]), deviating)


def _event_or_none(content: Mapping[str, Any] | None) -> AnomalyEvent | None:
    return None if content is None else event_from(content)

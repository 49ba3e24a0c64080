"""Events: maximal runs of anomalous samples, with hysteresis so that a flicker is no event.

An event begins once `enter_after` scored samples in a row were above the threshold, and ends once
`leave_after` in a row were not. Samples without a score neither begin nor end anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promad.events.verdict import FeatureView, Verdict


@dataclass(frozen=True)
class AnomalyEvent:
    """One anomaly, open while `end` is None.

    Attributes:
        group: the name of the group that it befell.
        start: unix seconds of the first sample above the threshold.
        flagged_at: unix seconds of the sample that made it an event.
        end: unix seconds of the last sample above the threshold, once the event is over.
        peak: the verdict with the largest score over threshold so far, attribution and all.
    """

    group: str
    start: float
    flagged_at: float
    end: float | None
    peak: Verdict

    @property
    def id(self) -> str:
        """Twelve letters and digits, the same whenever the same event is found again."""
        return hashlib.sha256(f"{self.group}\n{self.start:.3f}".encode()).hexdigest()[:12]

    @property
    def peak_ratio(self) -> float:
        """The largest score over threshold seen so far."""
        return self.peak.score_ratio or 0.0

    @property
    def peak_at(self) -> float:
        """When that was, in unix seconds."""
        return self.peak.at

    @property
    def top_features(self) -> tuple[FeatureView, ...]:
        """The three features that made the peak, largest contribution first."""
        return self.peak.top_features


@dataclass(frozen=True)
class EventTracker:
    """Where a group stands between quiet and anomalous; `follow` returns the next standing.

    Attributes:
        group: the name of the group.
        enter_after: samples above the threshold that begin an event.
        leave_after: samples not above it that end one.
        current: the event that is open now, if any.
        begun: how many events have begun.
        rising: while quiet, what the samples above the threshold so far would come to as an event.
        above: how many samples that is.
        below: samples not above the threshold in a row while an event is open.
        last_above: the last sample above the threshold.
    """

    group: str
    enter_after: int
    leave_after: int
    current: AnomalyEvent | None = None
    begun: int = 0
    rising: AnomalyEvent | None = None
    above: int = 0
    below: int = 0
    last_above: float = 0.0

    def follow(self, verdict: Verdict) -> tuple[EventTracker, AnomalyEvent | None]:
        """The standing after one more sample, and the event that it ended, if it did."""
        ratio = verdict.score_ratio
        if ratio is None:
            return self, None
        if ratio > 1:
            return self._one_above(verdict, ratio), None
        return self._one_below()

    def _one_above(self, verdict: Verdict, ratio: float) -> EventTracker:
        seen = replace(self, below=0, last_above=verdict.at)
        if self.current is not None:
            return replace(seen, current=_raised(self.current, verdict, ratio))
        first = AnomalyEvent(self.group, verdict.at, verdict.at, None, verdict)
        rising = _raised(self.rising or first, verdict, ratio)
        rising = replace(rising, flagged_at=verdict.at)
        if self.above + 1 < self.enter_after:
            return replace(seen, rising=rising, above=self.above + 1)
        return replace(seen, rising=None, above=0, current=rising, begun=self.begun + 1)

    def _one_below(self) -> tuple[EventTracker, AnomalyEvent | None]:
        if self.current is None:
            return replace(self, rising=None, above=0), None
        if self.below + 1 < self.leave_after:
            return replace(self, below=self.below + 1), None
        ended = replace(self.current, end=self.last_above)
        return replace(self, current=None, below=0), ended


def _raised(event: AnomalyEvent, verdict: Verdict, ratio: float) -> AnomalyEvent:
    """The event with this sample as its peak, if it is the highest yet."""
    return event if ratio <= event.peak_ratio else replace(event, peak=verdict)


@dataclass(frozen=True)
class EventLevels:
    """How many events a series of scores holds, for every threshold at once.

    Going down from a threshold above all scores, an event comes into being at each of `born` and
    is joined to a higher one, because the score no longer falls low enough between the two, at the
    same index of `merged` (-inf: never). Both float64 (levels,); `merged` is below `born`.
    """

    born: NDArray[np.float64]
    merged: NDArray[np.float64]

    def above(self, threshold: float) -> int:
        """The events that begin when scores are held to `threshold`."""
        return int(((self.merged <= threshold) & (threshold < self.born)).sum())

    def lowest_thresholds(self) -> NDArray[np.float64]:
        """Float64 (n,): at index `k` the lowest threshold down to which at most `k` events begin.

        Falls with `k`. No threshold makes more than `n` events begin.
        """
        levels = np.concatenate([self.born, self.merged])
        changes = np.repeat([1, -1], len(self.born))
        order = np.argsort(-levels, kind="stable")
        events = np.cumsum(changes[order])
        last_of_level = np.append(np.diff(levels[order]) != 0, True)
        most = np.maximum.accumulate(events[last_of_level])
        below = np.searchsorted(most, np.arange(most[-1]), side="right")
        return np.asarray(levels[order][last_of_level][below], np.float64)


def event_levels(scores: NDArray[np.float64], enter_after: int, leave_after: int) -> EventLevels:
    """At which thresholds events come and go; scores float64 (samples,) without NaN.

    `EventTracker` at a threshold `u` opens one event for each maximal stretch in which no
    `leave_after` scores in a row are at most `u`, provided that `enter_after` in a row are above
    it somewhere in the stretch. With `held` (the lowest of the last `enter_after` scores) and
    `kept` (the highest of the last `leave_after`): for each stretch of `kept > u` that has a
    `held > u`. Stretches join where `kept` has a valley, lowest valleys last (the merge tree of
    `kept`), so one pass with a stack finds every level at once.
    """
    held = _last(scores, enter_after, np.min, -np.inf)
    kept = _last(scores, leave_after, np.max, np.inf)
    peaks: list[float] = []
    valleys: list[float] = []
    pairs: list[tuple[float, float]] = []

    def join_down_to(level: float) -> None:
        while valleys and valleys[-1] >= level:
            lower, higher = sorted((peaks.pop(), peaks.pop()))
            valley = valleys.pop()
            if lower > valley:
                pairs.append((lower, valley))
            peaks.append(higher)

    before = np.inf
    for peak, now in zip(held.tolist(), kept.tolist(), strict=True):
        if peaks:
            join_down_to(min(before, now))
            valleys.append(min(before, now))
        peaks.append(peak)
        before = now
    join_down_to(-np.inf)
    pairs += [(peak, -np.inf) for peak in peaks if peak > -np.inf]
    born, merged = np.asarray(pairs, np.float64).reshape(-1, 2).T
    return EventLevels(born, merged)


def _last(
    scores: NDArray[np.float64], count: int, extreme: Callable[..., Any], before: float
) -> NDArray[np.float64]:
    """The extreme of the last `count` scores, and `before` where there are not so many yet."""
    result = np.full(len(scores), before)
    if len(scores) >= count:
        windows = np.lib.stride_tricks.sliding_window_view(scores, count)
        result[count - 1 :] = extreme(windows, axis=1)
    return result

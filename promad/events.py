"""Events: maximal runs of anomalous samples, with hysteresis so that a flicker is no event.

An event begins once `enter_after` scored samples in a row were above the threshold, and ends once
`leave_after` in a row were not. Samples without a score neither begin nor end anything.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from promad.verdict import FeatureView, Verdict


@dataclass(frozen=True)
class AnomalyEvent:
    """One anomaly, open while `end` is None.

    Attributes:
        id: counts the events of a group, from 1.
        start: unix seconds of the first sample above the threshold.
        end: unix seconds of the last sample above it, once the event is over.
        peak_ratio: the largest error over threshold seen so far.
        peak_at: when that was.
        top_features: the features that made the peak, largest contribution first.
    """

    id: int
    start: float
    end: float | None
    peak_ratio: float
    peak_at: float
    top_features: tuple[FeatureView, ...]


@dataclass(frozen=True)
class EventTracker:
    """Where a group stands between quiet and anomalous; `follow` returns the next standing.

    Attributes:
        enter_after: samples above the threshold that begin an event.
        leave_after: samples not above it that end one.
        current: the event that is open now, if any.
        begun: how many events have begun.
        above: samples above the threshold in a row while quiet, the first at `above_since`.
        below: samples not above it in a row while an event is open.
        last_above: the last sample above the threshold.
    """

    enter_after: int
    leave_after: int
    current: AnomalyEvent | None = None
    begun: int = 0
    above: int = 0
    above_since: float = 0.0
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
        since = self.above_since if self.above else verdict.at
        seen = replace(
            self, above=self.above + 1, above_since=since, below=0, last_above=verdict.at
        )
        if self.current is not None:
            higher = ratio > self.current.peak_ratio
            return replace(
                seen, current=_raised(self.current, verdict, ratio) if higher else self.current
            )
        if seen.above < self.enter_after:
            return seen
        event = AnomalyEvent(self.begun + 1, since, None, ratio, verdict.at, verdict.top_features)
        return replace(seen, current=event, begun=event.id)

    def _one_below(self) -> tuple[EventTracker, AnomalyEvent | None]:
        if self.current is None:
            return replace(self, above=0), None
        if self.below + 1 < self.leave_after:
            return replace(self, below=self.below + 1), None
        ended = replace(self.current, end=self.last_above)
        return replace(self, current=None, above=0, below=0), ended


def _raised(event: AnomalyEvent, verdict: Verdict, ratio: float) -> AnomalyEvent:
    return replace(event, peak_ratio=ratio, peak_at=verdict.at, top_features=verdict.top_features)


def sustained_level(scores: NDArray[np.float64], enter_after: int) -> NDArray[np.float64]:
    """The level that the last `enter_after` scores all reached: float64 (samples,).

    A threshold is crossed for long enough to begin an event exactly when it is below this level.
    The first `enter_after - 1` values are NaN.
    """
    level = np.full(len(scores), np.nan)
    if len(scores) >= enter_after:
        stretches = np.lib.stride_tricks.sliding_window_view(scores, enter_after)
        level[enter_after - 1 :] = stretches.min(axis=1)
    return level


def episode_peaks(level: NDArray[np.float64], apart: int) -> NDArray[np.float64]:
    """The largest level of each episode, sorted downwards: float64 (episodes,).

    Two levels belong to one episode if they are at most `apart` samples from each other
    (declustering by the runs method: Coles 2001, "An Introduction to Statistical Modeling of
    Extreme Values", section 5.3.2); going down from the highest level, each one that is not near
    one already taken is an episode of its own.
    """
    peaks: list[float] = []
    taken = np.isnan(level)
    for index in np.argsort(-np.nan_to_num(level, nan=-np.inf), kind="stable"):
        if taken[index]:
            continue
        peaks.append(float(level[index]))
        taken[max(0, index - apart) : index + apart + 1] = True
    return np.asarray(peaks)

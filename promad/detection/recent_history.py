"""`RecentHistory`: a group's newest verdicts, kept small, for whoever asks what has been."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from promad.events.largest_deviations import DeviatingSample, Followed, LargestDeviations
from promad.events.verdict import (
    STATES,
    FeatureView,
    LargestDeviation,
    State,
    Verdict,
    list_largest,
)

_ELEVATION, _CONTRIBUTION, _OBSERVED, _EXPECTED, _DEVIATING = range(5)
_NUMBERS = 5
_SAME_SECONDS = 1e-3
_LOOKED_BACK = 240
"""Samples before one among which its features may have deviated most."""


@dataclass(frozen=True)
class Recent:
    """Consecutive verdicts as arrays.

    Attributes:
        features: the names of the scored features.
        times: unix seconds, float64 (samples,).
        states: positions in `State`, uint8 (samples,).
        score: score over threshold, float64 (samples,); NaN without a score.
        threshold: the limit in the score's own unit, float64 (samples,).
        why: one sentence each on what is missing; mostly empty.
        values: elevation, contribution, observed, expected, and the seconds for which each
            feature has deviated, float32 (samples, features, 5); NaN where unknown.
    """

    features: tuple[str, ...]
    times: NDArray[np.float64]
    states: NDArray[np.uint8]
    score: NDArray[np.float64]
    threshold: NDArray[np.float64]
    why: tuple[str, ...]
    values: NDArray[np.float32]

    @property
    def elevation(self) -> NDArray[np.float32]:
        """Each feature's error over its baseline: (samples, features)."""
        return self.values[:, :, _ELEVATION]

    @property
    def contribution(self) -> NDArray[np.float32]:
        """Each feature's share of the excess: (samples, features)."""
        return self.values[:, :, _CONTRIBUTION]

    @property
    def observed(self) -> NDArray[np.float32]:
        """Measured values in the features' own units: (samples, features)."""
        return self.values[:, :, _OBSERVED]

    @property
    def expected(self) -> NDArray[np.float32]:
        """What the model would have had there: (samples, features)."""
        return self.values[:, :, _EXPECTED]

    def verdict(self, row: int) -> Verdict:
        """One of the verdicts again, its numbers as exact as single precision keeps them."""
        at, limit = float(self.times[row]), float(self.threshold[row])
        ratio = float(self.score[row])
        scored = not np.isnan(ratio)
        views = self._add_largest(self._views(row, at), row) if scored else ()
        known = {view.name for view in views}
        return Verdict(
            at=at,
            state=STATES[self.states[row]],
            threshold=limit,
            score=ratio * limit if scored else None,
            features=views,
            missing=tuple(name for name in self.features if name not in known) if scored else (),
            why=self.why[row],
        )

    def _views(self, row: int, at: float) -> list[FeatureView]:
        views = []
        for name, numbers in zip(self.features, self.values[row].tolist(), strict=True):
            elevation, contribution, observed, expected, deviating = numbers
            if not np.isnan(elevation):
                since = None if np.isnan(deviating) else at - deviating
                view = FeatureView(
                    name, float("nan"), contribution, observed, expected, elevation, since
                )
                views.append(view)
        return views

    def _add_largest(self, views: Iterable[FeatureView], row: int) -> tuple[FeatureView, ...]:
        """The features of a verdict, each with the sample up to it at which it deviated most."""
        largest = dict(zip(self.features, self._find_largest(row), strict=True))
        return tuple(replace(view, largest=largest[view.name]) for view in views)

    def _find_largest(self, row: int) -> list[LargestDeviation | None]:
        """Where each feature deviated most, as far as this history goes back."""
        last = len(self.times) + row if row < 0 else row
        deviations = LargestDeviations.begin(1, len(self.features))
        in_event = self.states == STATES.index(State.ANOMALOUS)
        for each in range(max(0, last - _LOOKED_BACK), last + 1):
            numbers = self.values[each : each + 1].astype(np.float64)
            observed, expected = numbers[:, :, _OBSERVED], numbers[:, :, _EXPECTED]
            known = ~np.isnan(self.score[each : each + 1])
            sample = DeviatingSample(observed, expected, numbers[:, :, _ELEVATION])
            if each and in_event[each - 1] and not in_event[each]:
                deviations.forget(np.zeros(1, np.int64))
            groups = Followed(known, near=known, kept=in_event[each : each + 1])
            deviations.follow(float(self.times[each]), sample, groups)
        deviates = (self.values[last, :, _ELEVATION] > 1) | in_event[last]
        found = deviations.view(deviates[np.newaxis])
        return [None] * len(self.features) if found is None else list_largest(found[0])


class RecentHistory:
    """The newest `capacity` verdicts of a group. One thread adds, any may read."""

    def __init__(self, features: Sequence[str], capacity: int) -> None:
        self.features = tuple(features)
        self._kept: deque[_Kept] = deque(maxlen=capacity)
        self._lock = threading.Lock()

    def resized(self, features: Sequence[str], capacity: int) -> RecentHistory:
        """A history of another capacity, with what is in this one if the features are the same."""
        other = RecentHistory(features, capacity)
        if other.features == self.features:
            with self._lock:
                other._kept.extend(self._kept)
        return other

    def add(self, verdict: Verdict) -> None:
        """Keep one more verdict in order of time; a score replaces what stood at its time."""
        kept = _kept(verdict, self.features)
        with self._lock:
            place = len(self._kept)
            while place and self._kept[place - 1].at > verdict.at + _SAME_SECONDS:
                place -= 1
            if place and self._kept[place - 1].at > verdict.at - _SAME_SECONDS:
                if verdict.score is not None or np.isnan(self._kept[place - 1].score):
                    self._kept[place - 1] = kept
                return
            if len(self._kept) == self._kept.maxlen:
                if place == 0:
                    return
                self._kept.popleft()
                place -= 1
            self._kept.insert(place, kept)

    def correct(self, verdict: Verdict) -> None:
        """Replace the numbers of the verdict with a score at that time, if there is one.

        Its state remains: what was published then was published.
        """
        if verdict.score is None:
            return
        with self._lock:
            for place in range(len(self._kept) - 1, -1, -1):
                kept = self._kept[place]
                if kept.at < verdict.at - _SAME_SECONDS:
                    return
                if kept.at <= verdict.at + _SAME_SECONDS and not np.isnan(kept.score):
                    corrected = _kept(verdict, self.features)
                    self._kept[place] = corrected._replace(state=kept.state)

    def add_earlier(self, verdict: Verdict) -> None:
        """Keep a verdict of a time of which there is none yet."""
        with self._lock:
            known = any(abs(kept.at - verdict.at) <= _SAME_SECONDS for kept in self._kept)
        if not known:
            self.add(verdict)

    def is_empty(self) -> bool:
        """Whether nothing is kept yet."""
        with self._lock:
            return not self._kept

    def between(self, start: float = -np.inf, end: float = np.inf) -> Recent:
        """The verdicts from `start` to `end`, unix seconds, both included."""
        with self._lock:
            chosen = [kept for kept in self._kept if start <= kept.at <= end]
        shape = (len(chosen), len(self.features), _NUMBERS)
        return Recent(
            features=self.features,
            times=np.array([kept.at for kept in chosen], np.float64),
            states=np.array([kept.state for kept in chosen], np.uint8),
            score=np.array([kept.score for kept in chosen], np.float64),
            threshold=np.array([kept.threshold for kept in chosen], np.float64),
            why=tuple(kept.why for kept in chosen),
            values=np.array([kept.values for kept in chosen], np.float32).reshape(shape),
        )


class _Kept(NamedTuple):
    at: float
    state: int
    score: float
    threshold: float
    why: str
    values: NDArray[np.float32]


def _kept(verdict: Verdict, features: tuple[str, ...]) -> _Kept:
    values = np.full((len(features), _NUMBERS), np.nan, np.float32)
    for view in verdict.features:
        deviating = np.nan if view.since is None else verdict.at - view.since
        numbers = (view.elevation, view.contribution, view.observed, view.expected, deviating)
        values[features.index(view.name)] = numbers
    ratio = verdict.score_ratio
    return _Kept(
        verdict.at,
        STATES.index(verdict.state),
        np.nan if ratio is None else ratio,
        verdict.threshold,
        verdict.why,
        values,
    )


def join_recent(plain: Recent, detailed: Recent) -> Recent:
    """Samples in order of time, each once: with details where there are any."""
    keys = np.round(plain.times / _SAME_SECONDS)
    only_plain = ~np.isin(keys, np.round(detailed.times / _SAME_SECONDS))
    rows = np.flatnonzero(only_plain)
    times = np.concatenate([plain.times[rows], detailed.times])
    order = np.argsort(times, kind="stable")
    why = [*(plain.why[row] for row in rows.tolist()), *detailed.why]

    def join(name: str) -> NDArray[Any]:
        both = [getattr(plain, name)[rows], getattr(detailed, name)]
        return np.asarray(np.concatenate(both)[order])

    return Recent(
        features=plain.features,
        times=times[order],
        states=join("states"),
        score=join("score"),
        threshold=join("threshold"),
        why=tuple(why[row] for row in order.tolist()),
        values=join("values"),
    )

"""How many events a series of scores holds at every threshold at once.

The rule is that of `promad.events.hysteresis`; fitting a threshold by counting asks it for all
thresholds, which one pass answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


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

    `Hysteresis` at a threshold `u` opens one event for each maximal stretch in which no
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

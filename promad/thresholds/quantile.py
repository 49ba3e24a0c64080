"""A limit that normal data crosses no more often than the alert budget allows.

Scores come in runs, so single scores above the limit say little about alarms. What is counted is
events, with the hysteresis that `detect` applies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from promad.clock import WEEK_SECONDS
from promad.events.event_levels import event_levels
from promad.thresholds.base import Threshold, ThresholdSettings, take_known_scores
from promad.thresholds.tail import Tail, by_weighted_moments, count_interval, share_interval
from promad.thresholds.threshold_state import LOWEST_LIMIT

_MOST_IN_TAIL = 20
_LARGEST_FACTOR = 10.0
_MARGIN = 1.0 + 1e-9


@dataclass(frozen=True)
class _Limit:
    """A limit, how it was found, and a 90 % interval of the events expected in as much data."""

    value: float
    how: str
    interval: tuple[float, float]


def fit(scores: NDArray[np.float64], settings: ThresholdSettings) -> Threshold:
    """The limit at which normal data is expected to begin `false_alarms_per_week` events a week.

    A limit above which the data at hand holds `k` events will see `k + 1` in as much new data, on
    average (as the k+1-th largest of n values is exceeded with chance (k+1)/(n+1)). So a budget
    worth 21 events or more in the data at hand gives an empirical quantile. Below that the limits
    for up to 20 events, which are the highest peaks of events, are continued by a generalised
    Pareto tail, fitted by probability-weighted moments (`promad.thresholds.tail`). Its shape is
    kept between 0 (an exponential tail) and 1/2 (a tail with a variance just infinite), because
    twenty values say little about it. A budget below one event in the data at hand never puts the
    limit below the highest peak, nor above ten times that.

    Args:
        scores: float64 (samples,), NaN = unknown, in chronological order.

    Raises:
        DataError: if fewer than `FEWEST_SCORES` are known, or fewer than begin and end an event.
    """
    known = take_known_scores(scores, settings)
    levels = event_levels(known, settings.enter_after, settings.leave_after)
    limits = levels.lowest_thresholds()
    weeks = len(known) * settings.step / WEEK_SECONDS
    budget = settings.false_alarms_per_week
    found = _limit(limits, budget * weeks)
    value = max(found.value * _MARGIN, LOWEST_LIMIT)
    why = (
        f"{found.how}; {weeks * 7:.2g} days of normal data have "
        f"{levels.above(value)} events above it"
    )
    low, high = found.interval
    return Threshold("quantile", value, budget, why, (low / weeks, high / weeks))


def _limit(limits: NDArray[np.float64], allowed: float) -> _Limit:
    """The limit that `allowed` events of as much new data will cross.

    `limits[k]` is the lowest above which there are at most `k` events.
    """
    in_tail = min(_MOST_IN_TAIL, len(limits) // 2)
    if allowed >= in_tail + 1:
        counted = min(int(allowed), len(limits)) - 1
        return _Limit(float(limits[counted]), "events counted", count_interval(counted))
    highest = float(limits[0])
    if in_tail == 0:
        return _Limit(highest, "highest peak", count_interval(0))
    begin = float(limits[in_tail])
    shape, scale = by_weighted_moments(limits[:in_tail] - begin)
    tail = Tail(float(shape), float(scale))
    level = begin + tail.level(min(allowed / (in_tail + 1), 1.0))
    if allowed < 1:
        level = float(np.clip(level, highest, highest * _LARGEST_FACTOR))
    how = f"tail of the {in_tail} highest peaks, the highest {highest:.4g}"
    return _Limit(level, how, _interval(tail, in_tail, level - begin))


def _interval(tail: Tail, in_tail: int, excess: float) -> tuple[float, float]:
    if tail.scale <= 0:
        return count_interval(0)
    low, high = share_interval(tail, in_tail, excess, likelihood=False)
    return low * (in_tail + 1), high * (in_tail + 1)

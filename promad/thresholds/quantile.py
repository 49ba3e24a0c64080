"""A limit that normal data crosses no more often than the alert budget allows.

Scores come in runs, so single scores above the limit say little about alarms. What is counted is
events, with the hysteresis that `detect` applies.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from promad.errors import DataError
from promad.events import event_levels
from promad.thresholds.base import Threshold, ThresholdSettings

FEWEST_SCORES = 10

_WEEK = 7 * 86400.0
_MOST_IN_TAIL = 20
_HEAVIEST_TAIL = 0.5
_LARGEST_FACTOR = 10.0
_MARGIN = 1.0 + 1e-9


def fit(scores: NDArray[np.float64], settings: ThresholdSettings) -> Threshold:
    """The limit at which normal data is expected to begin `false_alarms_per_week` events a week.

    A limit above which the data at hand holds `k` events will see `k + 1` in as much new data, on
    average (as the k+1-th largest of n values is exceeded with chance (k+1)/(n+1)). So a budget
    worth 21 events or more in the data at hand gives an empirical quantile. Below that the limits
    for up to 20 events, which are the highest peaks of events, are continued by a generalised
    Pareto tail: Hosking and Wallis 1987, "Parameter and quantile estimation for the generalized
    Pareto distribution", Technometrics 29, probability-weighted moments of section 4. Its shape is
    kept between 0 (an exponential tail) and 1/2 (a tail with a variance just infinite), because
    twenty values say little about it. A budget below one event in the data at hand never puts the
    limit below the highest peak, nor above ten times that.

    Args:
        scores: float64 (samples,), NaN = unknown, in chronological order.

    Raises:
        DataError: if fewer than `FEWEST_SCORES` are known, or fewer than begin and end an event.
    """
    known = scores[~np.isnan(scores)]
    fewest = max(FEWEST_SCORES, settings.enter_after + settings.leave_after)
    if len(known) < fewest:
        raise DataError(
            f"{len(known)} validation scores are too few to choose a threshold by ({fewest} are "
            "needed) — collect a longer period or set anomaly_threshold_mse to a number"
        )
    levels = event_levels(known, settings.enter_after, settings.leave_after)
    limits = levels.lowest_thresholds()
    weeks = len(known) * settings.step / _WEEK
    allowed = settings.false_alarms_per_week * weeks
    value, how = _limit(limits, allowed)
    value = max(value * _MARGIN, float(np.finfo(np.float32).tiny))
    budget = settings.false_alarms_per_week
    why = (
        f"{value:.4g} is expected to give {budget:g} false alarm{'' if budget == 1 else 's'} a "
        f"week: {weeks * 7:.2g} days of validation data hold {levels.above(value)} above it, {how}"
    )
    return Threshold("quantile", value, budget, why)


def _limit(limits: NDArray[np.float64], allowed: float) -> tuple[float, str]:
    """The limit that `allowed` events of as much new data will cross, and how it was found.

    `limits[k]` is the lowest above which there are at most `k` events.
    """
    in_tail = min(_MOST_IN_TAIL, len(limits) // 2)
    if allowed >= in_tail + 1:
        return float(limits[min(int(allowed), len(limits)) - 1]), "by counting"
    highest = float(limits[0])
    if in_tail == 0:
        return highest, "the highest that it holds"
    level = _continued(limits[: in_tail + 1], allowed)
    how = f"by the tail of its {in_tail} highest peaks, of which the first is {highest:.4g}"
    if allowed >= 1:
        return level, how
    return float(np.clip(level, highest, highest * _LARGEST_FACTOR)), how


def _continued(limits: NDArray[np.float64], allowed: float) -> float:
    """The level of a generalised Pareto tail that `allowed` events are expected to cross.

    The last of `limits` (descending) is where the tail begins, the others are its values.
    """
    excesses = (limits[:-1] - limits[-1])[::-1]
    count = len(excesses)
    mean = float(excesses.mean())
    below = (np.arange(1, count + 1) - 0.35) / count
    moment = float(((1 - below) * excesses).mean())
    spread = mean - 2 * moment
    shape = 2 - mean / spread if spread > 0 else _HEAVIEST_TAIL
    shape = float(np.clip(shape, 0.0, _HEAVIEST_TAIL))
    times_rarer = np.log(len(limits) / allowed)
    growth = np.expm1(shape * times_rarer) / shape if shape > 1e-6 else times_rarer
    return float(limits[-1] + mean * (1 - shape) * growth)

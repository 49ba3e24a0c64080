"""Peaks over threshold: a limit from the tail of declustered calibration scores.

Siffer et al. 2017, "Anomaly detection in streams with extreme value theory", KDD, section 3 (the
quantile z_q), and Coles 2001, "An introduction to statistical modeling of extreme values",
chapter 4 and section 5.3 (runs declustering).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from promad.clock import WEEK_SECONDS
from promad.thresholds import quantile
from promad.thresholds.base import Threshold, ThresholdSettings, take_known_scores
from promad.thresholds.peaks import (
    FEWEST_PEAKS,
    fit_tail,
    from_log,
    gap_of,
    in_log,
    lowest_in_a_row,
)
from promad.thresholds.tail import Tail, count_interval, share_interval
from promad.thresholds.threshold_state import LOWEST_LIMIT

LARGEST_FACTOR = 50.0
MARGIN = 0.1
_ENOUGH = 20
"""Clusters whose tail needs no more of them."""
_LOWERINGS = (0.01, 0.02, 0.03)
_HEAVIER = 2.0
"""What is added to the scale of a usual tail beyond the history, as multiples of it."""
_WORTHWHILE = 1.15
"""How many times as many clusters a lower level has to bring: each is less of a peak."""

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Clusters:
    """What lies above a level, one value for each stretch of it.

    Attributes:
        level: where clusters begin, in log units.
        excesses: the highest of each cluster over the level, float64 (clusters,), above 0.
        taken: the row at which each cluster began, int64 (clusters,).
        samples: of how many.
    """

    level: float
    excesses: Values
    taken: NDArray[np.int64]
    samples: int

    @property
    def tied(self) -> bool:
        """Whether there are none, or several that are all the same."""
        return len(self.excesses) != 1 and not (self.excesses[:1] != self.excesses).any()


def fit(scores: Values, settings: ThresholdSettings) -> Threshold:
    """The limit at which normal data is expected to begin `false_alarms_per_week` events a week.

    The logarithm `log1p(score / median)` is taken first, so the limit keeps to the score's unit and
    a heavy tail becomes a light one. Of the scores, the lowest of the last `enter_after` counts
    (an event needs them all above the limit). Stretches above the `level` quantile that are less
    than 10 samples (or `leave_after`, if more) apart are one cluster, of which the highest is kept;
    with fewer than 20, as in a short calibration, the level is lowered by up to 0.03. The budget is
    a share of clusters, and the generalised Pareto tail of their excesses gives the limit that as
    many reach, at most 50 times the highest score. If `settings.bounded` is false, an exponential
    tail takes the place of one that ends. If `settings.usual_scale` is given, the limit is half-way
    between that and the one of an exponential tail of that scale: the history of one thing has few
    peaks, some of the highest are incidents, and its own tail alone says too little. Where the
    history is so short that the budget allows less than one event in it, that tail is three times
    as heavy from there on.

    Where that says nothing, the method falls back, and `why` says so: to `quantile` where scores
    are tied or the budget is worth more events than there are clusters, and to the highest score
    and a tenth where there are fewer than 10 clusters.

    Args:
        scores: float64 (samples,), NaN = unknown, in chronological order.

    Raises:
        DataError: as `quantile.fit` does.
    """
    return _fit(scores, settings, rates)


def find_value(scores: Values, settings: ThresholdSettings) -> float:
    """The value of the threshold of `fit`; how sure it is takes nearly all the time of `fit`.

    Raises:
        DataError: as `fit` does.
    """
    return _fit(scores, settings, lambda *_: None).value


def _fit(
    scores: Values,
    settings: ThresholdSettings,
    find_rates: Callable[[Tail, Clusters, float, ThresholdSettings], tuple[float, float] | None],
) -> Threshold:
    known = take_known_scores(scores, settings)
    typical = typical_score(known)
    found = choose_clusters(in_log(known, typical), settings)
    share = share_of_clusters(found, settings)
    if found.tied or share >= 1:
        return _counted(scores, settings, from_log(found.level, typical), found.tied)
    highest = float(known.max())
    weeks = len(known) * settings.step / WEEK_SECONDS
    if len(found.excesses) < FEWEST_PEAKS:
        return _above_all(highest, len(found.excesses), weeks)
    tail = fit_tail(found.excesses, settings.bounded)
    usual = _find_usual_excess(share, settings.false_alarms_per_week * weeks, settings.usual_scale)
    excess = tail.level(share) if usual is None else (tail.level(share) + usual) / 2
    value = min(from_log(found.level + excess, typical), highest * LARGEST_FACTOR)
    excess = float(np.log1p(value / typical)) - found.level
    why = (
        f"tail (shape {tail.shape:.2f}) of the {len(found.excesses)} highest peaks in "
        f"{weeks * 7:.2g} days of normal data, the highest {highest:.4g}"
        + (", half-way to a usual tail" if settings.usual_scale is not None else "")
    )
    budget = settings.false_alarms_per_week
    found_rates = find_rates(tail, found, excess, settings)
    interval = found_rates and (min(found_rates[0], budget), max(found_rates[1], budget))
    return Threshold("pot", value, budget, why, interval)


def _find_usual_excess(share: float, allowed: float, scale: float | None) -> float | None:
    """The excess that `share` of peaks reach by a usual tail; None without one.

    Args:
        allowed: events that the budget allows in the history. If that is less than one, the limit
            is beyond all that was seen, where the tail is taken to be heavier.
    """
    if scale is None:
        return None
    return -scale * (math.log(share) + _HEAVIER * min(math.log(allowed), 0.0))


def typical_score(known: Values) -> float:
    """The median, or the mean where half of the scores are 0, or 1 where all are."""
    return float(np.median(known)) or float(known.mean()) or 1.0


def clusters(values: Values, settings: ThresholdSettings) -> Clusters:
    """Runs declustering of the lowest of the last `enter_after` values."""
    lowest = lowest_in_a_row(values, settings.enter_after)
    level = float(np.quantile(lowest, settings.level))
    above = np.flatnonzero(lowest > level)
    if len(above) == 0:
        return Clusters(level, np.empty(0), above, len(values))
    first = np.append(True, np.diff(above) > gap_of(settings.leave_after))
    peaks = np.maximum.reduceat(lowest[above], np.flatnonzero(first))
    return Clusters(level, peaks - level, above[first], len(values))


def choose_clusters(values: Values, settings: ThresholdSettings) -> Clusters:
    """Those at the highest level at which they are enough for a tail.

    If they are at none, those at the lowest level that each added more than a few.
    """
    best = clusters(values, settings)
    for lowering in _LOWERINGS:
        if len(best.excesses) >= _ENOUGH:
            break
        lower = replace(settings, level=settings.level - lowering)
        found = clusters(values, lower)
        if len(found.excesses) > _WORTHWHILE * len(best.excesses):
            best = found
    return best


def share_of_clusters(found: Clusters, settings: ThresholdSettings) -> float:
    """Which share of clusters the budget allows to become events; may be above 1."""
    allowed = settings.false_alarms_per_week * settings.step / WEEK_SECONDS * found.samples
    return allowed / max(len(found.excesses), 1)


def rates(
    tail: Tail, found: Clusters, excess: float, settings: ThresholdSettings
) -> tuple[float, float]:
    """A 90 % interval of the events a week whose excess is above one."""
    weeks = found.samples * settings.step / WEEK_SECONDS
    low, high = share_interval(tail, len(found.excesses), excess, likelihood=True)
    return low * len(found.excesses) / weeks, high * len(found.excesses) / weeks


def _counted(scores: Values, settings: ThresholdSettings, level: float, tied: bool) -> Threshold:
    """What `quantile` makes of it, but no higher than where clusters begin if there are enough."""
    counted = quantile.fit(scores, settings)
    value = counted.value if tied else max(min(counted.value, level), LOWEST_LIMIT)
    reason = "its peaks are tied" if tied else "the budget is above the rate of its peaks"
    why = f"quantile, because {reason}: {counted.why}"
    return replace(counted, method="pot", value=value, why=why)


def _above_all(highest: float, peaks: int, weeks: float) -> Threshold:
    value = max(highest * (1 + MARGIN), LOWEST_LIMIT)
    low, high = count_interval(0)
    why = (
        f"1.1 times the highest score of {weeks * 7:.2g} days of normal data, whose {peaks} peaks "
        f"are fewer than the {FEWEST_PEAKS} that a tail needs"
    )
    return Threshold("pot", value, 1 / weeks, why, (low / weeks, high / weeks))

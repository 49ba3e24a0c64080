"""One limit for a fleet: each group's scores in units of its own, and one tail for all of them.

Within a group, incidents move the 98 % quantile of its calibration scores little, so that is what
its scores are compared by; how far its own tail reaches beyond is shrunk half-way, geometrically,
towards the fleet's median. In such units the groups' scores are alike: the highest of all groups at
each sample is one series, whose events are the fleet's incidents, and its tail gives the one limit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from promad.errors import DataError
from promad.thresholds.base import Threshold, ThresholdSettings
from promad.thresholds.peaks import lowest_in_a_row
from promad.thresholds.pot import find_value

Values = NDArray[np.float64]

_USUAL = 0.98
_SMALLEST = 1e-9
_FEWEST_SCORES = 100
"""A group with fewer takes the fleet's median for its unit."""


@dataclass(frozen=True)
class Units:
    """What the groups' scores are divided by.

    Attributes:
        units: of each group, float64 (groups,).
        median: of all groups.
    """

    units: Values
    median: float

    def follow(self, before: Values, after: Values) -> Units:
        """The units of scores whose 98 % quantiles, of each group, changed; NaN where unknown."""
        ratio = after / before
        units = self.units * np.where(np.isnan(ratio), 1.0, ratio)
        return Units(units, float(np.median(units)))


def find_usual(scores: Values) -> float:
    """The 98 % quantile of one group's scores, float64 (samples,); NaN if they are too few."""
    known = scores[~np.isnan(scores)]
    if len(known) < _FEWEST_SCORES:
        return float("nan")
    return max(float(np.quantile(known, _USUAL)), _SMALLEST)


def choose_units(scores: Values, settings: ThresholdSettings) -> Units:
    """The units of the groups' calibration scores, float64 (groups, samples), NaN = unknown.

    Raises:
        DataError: if no group has enough scores.
    """
    usual = np.array([find_usual(own) for own in scores])
    reach = np.full(len(scores), np.nan)
    for group in np.flatnonzero(~np.isnan(usual)).tolist():
        reach[group] = find_value(scores[group], settings) / usual[group]
    if np.isnan(usual).all():
        raise DataError(
            f"no group has {_FEWEST_SCORES} scores to choose a threshold by "
            "— collect a longer period"
        )
    units = usual * np.sqrt(reach / np.nanmedian(reach))
    median = float(np.nanmedian(units))
    return Units(np.where(np.isnan(units), median, units), median)


def follow_highest(scores: Values, enter_after: int) -> Values:
    """The highest score of all groups at each sample: (groups, samples) to (samples,).

    Of each group the lowest of the last `enter_after` scores counts, as an event needs them all;
    NaN where no group has one.
    """
    lowest = np.full(scores.shape, np.nan)
    for group, own in enumerate(scores):
        lowest[group, enter_after - 1 :] = lowest_in_a_row(own, enter_after)
    known = ~np.isnan(lowest)
    highest = np.where(known, lowest, -np.inf).max(axis=0)
    return np.where(known.any(axis=0), highest, np.nan)


def find_typical(scores: Values) -> float:
    """The median, over time, of the highest score of all groups: (groups, samples)."""
    known = ~np.isnan(scores)
    highest = np.where(known, scores, -np.inf).max(axis=0)
    return float(np.median(highest[known.any(axis=0)]))


def share_settings(settings: ThresholdSettings, groups: int, per: str) -> ThresholdSettings:
    """The settings for the scores of all groups one after the other, each group's own budget.

    Args:
        per: `detector`, if the budget is one for all groups, or `group`.
    """
    if per == "group":
        return settings
    return replace(settings, false_alarms_per_week=settings.false_alarms_per_week / groups)


def multiply_rate(
    threshold: Threshold, whole: ThresholdSettings, own: ThresholdSettings
) -> Threshold:
    """The threshold, with the false alarms of all groups in place of those of one."""
    groups, rate = (
        whole.false_alarms_per_week / own.false_alarms_per_week,
        threshold.expected_false_alarms_per_week,
    )
    interval = threshold.interval
    return replace(
        threshold,
        expected_false_alarms_per_week=None if rate is None else rate * groups,
        interval=None if interval is None else (interval[0] * groups, interval[1] * groups),
    )

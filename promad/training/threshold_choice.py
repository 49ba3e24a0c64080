"""From the configuration to a threshold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from promad.clock import WEEK_SECONDS
from promad.config import RealTimeSettings
from promad.thresholds import (
    THRESHOLDS,
    DynamicSettings,
    Threshold,
    ThresholdSettings,
)
from promad.thresholds.controller import TYPICAL
from promad.thresholds.fleet import (
    Units,
    choose_units,
    find_typical,
    follow_highest,
    multiply_rate,
    share_settings,
)

Values = NDArray[np.float64]

USUAL_SCALE = 0.1
"""Of the tail of log scores: what is typical of series whose history is without incidents. Of the
63 series of SMD, ASD, SMAP and MSL that are public, those with clean histories have 0.05 to 0.3,
servers whose histories hold incidents 0.4 to 0.8."""

FEWEST_NEWEST = 2880
"""Windows to calibrate on, if there are as many: two days at a minute, ten at five."""

_MOVING = frozenset({"spot", "dspot", "dynamic"})
DEFAULT = "pot"
"""The threshold that `auto` stands for."""


def choose_threshold(
    scores: NDArray[np.float64], method: str, settings: ThresholdSettings
) -> Threshold:
    """The threshold of normal scores, float64 (samples,): by the alert budget, or as given.

    Args:
        method: a name in THRESHOLDS, or `auto`; not used where the settings give a value.

    Raises:
        DataError: if the scores are too few.
    """
    if settings.value is not None:
        method = "fixed"
    return THRESHOLDS[DEFAULT if method == "auto" else method](scores, settings)


def find_newest(times: Values, false_alarms_per_week: float) -> int:
    """The first of the newest windows, by which scores and threshold are calibrated.

    They are those of the last week, or of as long as the budget allows one event in if that is
    longer; at least `FEWEST_NEWEST`, or all.

    Args:
        times: unix seconds of each window's last sample, rising.
    """
    period = WEEK_SECONDS / min(false_alarms_per_week, 1.0)
    first = int(np.searchsorted(times, times[-1] - period, side="right"))
    return max(min(first, len(times) - FEWEST_NEWEST), 0)


def choose_fleet_threshold(
    scores: Values, method: str, settings: ThresholdSettings, per: str
) -> tuple[Units, Threshold]:
    """The units of the groups' normal scores, and the one threshold of scores in such units.

    Thresholds that stay where they are keep a budget of all groups by the highest of all scores at
    each sample. Its tail is not taken to have an end: in training few of many groups reached it.
    Those that move are fitted to the groups' scores one after the other, and follow each group by
    itself, with an equal share of the budget.

    Args:
        scores: float64 (groups, samples), NaN = unknown; all groups on one grid.
        method: a name in THRESHOLDS, or `auto`; not used where the settings give a value.
        per: whom the budget is for, `detector` or `group`.

    Raises:
        DataError: if the scores are too few.
    """
    settings = replace(settings, usual_scale=None)  # the other groups say what is usual
    if settings.value is not None:
        units = Units(np.ones(len(scores)), 1.0)
        return units, choose_threshold(np.empty(0), method, settings)
    units = choose_units(scores, settings)
    comparable = scores / units.units[:, np.newaxis]
    if per == "detector" and method not in _MOVING:
        highest = follow_highest(comparable, settings.enter_after)
        own = replace(settings, enter_after=1, bounded=False)
        threshold = choose_threshold(highest, method, own)
        typical = find_typical(comparable) / threshold.value
        return units, replace(threshold, parameters={**threshold.parameters, TYPICAL: typical})
    own = share_settings(settings, len(scores), per)
    in_a_row = comparable[~np.isnan(comparable)]
    return units, multiply_rate(choose_threshold(in_a_row, method, own), settings, own)


def make_threshold_settings(live: RealTimeSettings, step: float) -> ThresholdSettings:
    """What a threshold may need to know, as configured; `step` is the seconds between scores."""
    tuning, given = live.threshold_tuning, live.anomaly_threshold_mse
    return ThresholdSettings(
        step=step,
        false_alarms_per_week=live.alert_budget.false_alarms_per_week,
        enter_after=live.enter_after_samples,
        leave_after=live.leave_after_samples,
        leave_below=live.event_end.below if live.event_end.by == "recent" else None,
        hold_seconds=live.event_end.hold,
        value=None if given == "auto" else given,
        level=tuning.level,
        usual_scale=USUAL_SCALE,
        drift_samples=tuning.drift_samples,
        dynamic=DynamicSettings(
            history=tuning.history_samples,
            batch=tuning.batch_samples,
            error_buffer=tuning.error_buffer,
            minimum_drop=tuning.minimum_drop,
            mode=tuning.mode,
        ),
    )

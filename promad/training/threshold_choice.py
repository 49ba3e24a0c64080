"""From the configuration to a threshold."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from promad.config import RealTimeSettings
from promad.thresholds import (
    THRESHOLDS,
    DynamicSettings,
    Threshold,
    ThresholdSettings,
)

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


def make_threshold_settings(live: RealTimeSettings, step: float) -> ThresholdSettings:
    """What a threshold may need to know, as configured; `step` is the seconds between scores."""
    tuning, given = live.threshold_tuning, live.anomaly_threshold_mse
    return ThresholdSettings(
        step=step,
        false_alarms_per_week=live.alert_budget.false_alarms_per_week,
        enter_after=live.enter_after_samples,
        leave_after=live.leave_after_samples,
        value=None if given == "auto" else given,
        level=tuning.level,
        drift_samples=tuning.drift_samples,
        dynamic=DynamicSettings(
            history=tuning.history_samples,
            batch=tuning.batch_samples,
            error_buffer=tuning.error_buffer,
            minimum_drop=tuning.minimum_drop,
            mode=tuning.mode,
        ),
    )

"""From the configuration to a threshold."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from promad.config import Config
from promad.thresholds import (
    THRESHOLDS,
    DynamicSettings,
    Threshold,
    ThresholdSettings,
)

DEFAULT = "pot"
"""The threshold that `auto` stands for."""


def choose_threshold(scores: NDArray[np.float64], config: Config) -> Threshold:
    """The threshold that the configuration asks for: by the alert budget, or as given.

    Raises:
        DataError: if the scores are too few.
    """
    live = config.real_time_anomaly_detection
    method = DEFAULT if live.threshold == "auto" else live.threshold
    if live.anomaly_threshold_mse != "auto":
        method = "fixed"
    return THRESHOLDS[method](scores, threshold_settings(config))


def threshold_settings(config: Config) -> ThresholdSettings:
    """What a threshold may need to know, as configured."""
    live = config.real_time_anomaly_detection
    tuning, given = live.threshold_tuning, live.anomaly_threshold_mse
    return ThresholdSettings(
        step=config.data_settings.step,
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

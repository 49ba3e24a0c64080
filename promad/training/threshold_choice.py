"""From the configuration to a threshold: fitted by `train`, put to work by `detect`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from promad.config import Config
from promad.thresholds import (
    THRESHOLDS,
    DynamicSettings,
    Standing,
    Threshold,
    ThresholdSettings,
    followed,
)
from promad.thresholds.controller import control

DEFAULT = "pot"
"""The threshold that `auto` stands for."""

_KEEP_SECONDS = 600.0


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


def at_work(threshold: Threshold, config: Config) -> Standing:
    """The threshold before the first score; watched over, unless a person gave it."""
    if threshold.method == "fixed" or not config.real_time_anomaly_detection.adapt_threshold:
        return threshold.begin()
    return control(threshold, threshold_settings(config))


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


class StoredLimits:
    """A threshold at work, kept in a file so that a restart does not forget what it learned.

    `raises` and `why` tell how often and why the last scores raised it.
    """

    def __init__(
        self, standing: Standing, write: Callable[[Standing], None] = lambda standing: None
    ) -> None:
        self._standing = standing
        self._write = write
        self._kept_at: float | None = None
        self.raises = 0
        self.why = ""

    def follow(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """The limits of scores that follow those before: (samples,) to (samples,)."""
        before = getattr(self._standing, "adapted", 0)
        limits, self._standing = followed(self._standing, scores)
        self.raises = getattr(self._standing, "adapted", 0) - before
        self.why = getattr(self._standing, "why", "")
        return limits

    @property
    def now(self) -> float:
        """The limit as it stands."""
        return self._standing.follow(np.nan)[0]

    def keep_if_due(self, now: float) -> None:
        """Write the standing if that was not done for ten minutes."""
        if self._kept_at is None:
            self._kept_at = now
        if now - self._kept_at >= _KEEP_SECONDS:
            self.keep(now)

    def keep(self, now: float) -> None:
        """Write the standing now."""
        self._kept_at = now
        self._write(self._standing)

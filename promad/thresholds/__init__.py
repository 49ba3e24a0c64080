"""Thresholds: the limit that a score is held to.

A threshold is a module with `fit(scores, settings) -> Threshold`. `Threshold.limit` gives the
limits of recorded scores; `Threshold.begin` puts it to work on many groups, one score of each at a
time. Adding one is a file, a line in THRESHOLDS, and the contract tests passing.

`fixed` is a person's number. `quantile` counts events and continues the count, `pot` fits the tail
of peaks; both stay where they are and keep the alert budget. `spot` and `dspot` are `pot` that goes
on learning, the latter from the distance to a moving mean. `dynamic` knows no budget: it sets the
newest scores apart from their own history. `promad.thresholds.controller` raises any of them where
the alert budget is far exceeded.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from promad.thresholds import dynamic, fixed, pot, quantile, spot
from promad.thresholds.base import DynamicSettings, Threshold, ThresholdSettings
from promad.thresholds.threshold_state import ThresholdState

Fit = Callable[[NDArray[np.float64], ThresholdSettings], Threshold]

THRESHOLDS: Mapping[str, Fit] = {
    "fixed": fixed.fit,
    "quantile": quantile.fit,
    "pot": pot.fit,
    "spot": spot.fit,
    "dspot": spot.fit_with_drift,
    "dynamic": dynamic.fit,
}


__all__ = [
    "THRESHOLDS",
    "DynamicSettings",
    "Fit",
    "Threshold",
    "ThresholdSettings",
    "ThresholdState",
]

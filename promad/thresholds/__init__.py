"""Thresholds: the limit that a score is held to.

A threshold is a module with `fit(scores, settings) -> Threshold`. Adding one is a file, a line in
THRESHOLDS, and the contract tests passing.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from promad.thresholds import fixed, quantile
from promad.thresholds.base import Threshold, ThresholdSettings

Fit = Callable[[NDArray[np.float64], ThresholdSettings], Threshold]

THRESHOLDS: Mapping[str, Fit] = {"fixed": fixed.fit, "quantile": quantile.fit}


__all__ = ["THRESHOLDS", "Fit", "Threshold", "ThresholdSettings"]

"""Thresholds: the limit that a score is held to.

A threshold is a module with `fit(scores, settings) -> Threshold`. Adding one is a file, a line in
THRESHOLDS, and the contract tests passing.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promad.thresholds import fixed, quantile
from promad.thresholds.base import Threshold, ThresholdSettings

Fit = Callable[[NDArray[np.float64], ThresholdSettings], Threshold]

THRESHOLDS: Mapping[str, Fit] = {"fixed": fixed.fit, "quantile": quantile.fit}


def threshold_from_json(content: dict[str, Any]) -> Threshold:
    """The threshold that `Threshold.to_json` described.

    Raises:
        KeyError, ValueError: if `content` is not such a description.
    """
    return Threshold.from_json(content)


__all__ = ["THRESHOLDS", "Fit", "Threshold", "ThresholdSettings", "threshold_from_json"]

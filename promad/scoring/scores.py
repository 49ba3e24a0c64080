"""`Scores`: what scoring yields for each window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Scores:
    """How badly the newest sample of each window fits what was learned.

    Attributes:
        times: unix seconds of each window's last sample, float64 (windows,).
        score: what is held to the threshold, float64 (windows,); NaN = unknown.
        errors: what each feature adds to the score, smoothed, float64 (windows, features); NaN =
            the feature is missing.
        window_errors: the mean squared error of each feature over the window, in scaled units
            squared, float64 (windows, features); NaN as in `errors`.
        observed: the last sample in the features' own units, float64 (windows, features).
        expected: what the model would have had there, same units and shape.

    Higher is worse everywhere, and row `i` depends on samples up to `times[i]` alone.
    """

    times: NDArray[np.float64]
    score: NDArray[np.float64]
    errors: NDArray[np.float64]
    window_errors: NDArray[np.float64]
    observed: NDArray[np.float64]
    expected: NDArray[np.float64]

"""`Scores`: what scoring yields for samples that follow each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """How badly each sample of each group fits what was learned; higher is more anomalous.

    A row depends on samples up to its own time alone.

    Attributes:
        times: unix seconds of each sample, float64 (samples,).
        score: what is held to the threshold, (groups, samples); NaN = unknown.
        recent: the same of a short average, by which an event ends, (groups, samples); NaN where
            `score` is, and everywhere if the scoring has no short average.
        errors: what each feature adds to the score, smoothed, (groups, samples, features); NaN =
            the feature is missing, or there is no score.
        sample_errors: the same by the sample alone, not smoothed.
        window_errors: the mean squared error of each feature over the window, in scaled units
            squared, (groups, samples, features); NaN as in `errors`.
        observed: the scored features as measured, in their own units, (groups, samples, features).
        expected: the reconstruction or prediction, same units and shape.
        outside: which features are anomalous because they are outside of their valid range, bool
            (groups, samples, features).
        missing: which features, conditions included, were not measured: bool (groups, samples,
            features).
        measured: whether enough scored features were measured for a score, bool (groups, samples).
        in_window: usable samples in a row up to each, at most a window's length, int64
            (groups, samples).
    """

    times: Values
    score: Values
    recent: Values
    errors: Values
    sample_errors: Values
    window_errors: Values
    observed: Values
    expected: Values
    outside: NDArray[np.bool_]
    missing: NDArray[np.bool_]
    measured: NDArray[np.bool_]
    in_window: NDArray[np.int64]


_OUTSIDE = 1.01


def raise_outside(score: Values, limit: Values, outside: NDArray[np.bool_]) -> Values:
    """The scores, above their limits at least where a feature is outside of its valid range.

    An unknown score stays unknown.
    """
    if not outside.any():
        return score
    return np.where(outside & ~np.isnan(score), np.fmax(score, _OUTSIDE * limit), score)

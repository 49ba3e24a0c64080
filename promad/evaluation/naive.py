"""Scores that need no model: what a detector must beat to be worth anything.

Each is a function of the training part and the test part, both float64 (samples, features) with NaN
where missing, and a seed; it returns float64 (samples of test,), NaN where unknown, and each score
depends on the training part and on the test samples up to its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from promad.data.moving_average import Averages, average

Values = NDArray[np.float64]
NaiveScore = Callable[[Values, Values, int], Values]

_SMALLEST_SPREAD = 0.01
_SPAN = 19
_FARTHEST = 50.0


def random_score(train: Values, test: Values, seed: int) -> Values:
    """Uniform between 0 and 1, whatever the data."""
    return np.random.default_rng(seed).random(len(test))


def distance_from_mean(train: Values, test: Values, seed: int) -> Values:
    """|z|: the L2 norm of the standardised values."""
    return _norm(_distances(train, test, seed))


def change_since_last(train: Values, test: Values, seed: int) -> Values:
    """The squared distance to the sample before, standardised; NaN for the first one."""
    return _norm(_changes(train, test, seed)) ** 2


def smoothed_change(train: Values, test: Values, seed: int) -> Values:
    """The squared distance to the sample before, exponentially smoothed over a span of 19 samples.

    NaN where that distance is unknown.
    """
    return _smooth(change_since_last(train, test, seed))


NAIVE: Mapping[str, NaiveScore] = {
    "random": random_score,
    "|z|": distance_from_mean,
    "last value": change_since_last,
    "last value smoothed": smoothed_change,
}


def _random_contributions(train: Values, test: Values, seed: int) -> Values:
    return np.random.default_rng(seed).random(test.shape)


def _distances(train: Values, test: Values, seed: int) -> Values:
    return np.abs(_standardise(train, test))


def _changes(train: Values, test: Values, seed: int) -> Values:
    return np.abs(np.diff(_standardise(train, test), axis=0, prepend=np.nan))


def _smoothed_changes(train: Values, test: Values, seed: int) -> Values:
    return _smooth(_changes(train, test, seed) ** 2)


NAIVE_CONTRIBUTIONS: Mapping[str, NaiveScore] = {
    "random": _random_contributions,
    "|z|": _distances,
    "last value": _changes,
    "last value smoothed": _smoothed_changes,
}
"""By the same names, which features a score comes from: float64 (samples of test, features)."""


def _standardise(train: Values, test: Values) -> Values:
    """Test values in standard deviations of train from its mean, at most 50 either way.

    The deviation is taken as at least a hundredth of the largest absolute value in training (or
    as 1, where that is 0), so that a feature which hardly moved there cannot explode. One that was
    never measured in training stays NaN.
    """
    known = ~np.isnan(train)
    count = known.sum(axis=0)
    seen = np.maximum(count, 1)
    mean = np.where(count > 0, np.where(known, train, 0.0).sum(axis=0) / seen, np.nan)
    spread = np.sqrt((np.where(known, train - mean, 0.0) ** 2).sum(axis=0) / seen)
    largest = np.abs(np.where(known, train, 0.0)).max(axis=0, initial=0.0)
    above_zero = np.maximum(_SMALLEST_SPREAD * largest, np.finfo(np.float64).tiny)
    floor = np.where(largest > 0, above_zero, 1.0)
    with np.errstate(over="ignore"):  # what is beyond all numbers is clipped like the rest
        scaled = (test - mean) / np.maximum(spread, floor)
    return np.asarray(np.clip(scaled, -_FARTHEST, _FARTHEST), np.float64)


def _smooth(values: Values) -> Values:
    return average(values, _SPAN, Averages.begin(*values.shape[1:]), least_share=0.0)


def _norm(values: Values) -> Values:
    """The L2 norm of each row; known features stand in for missing ones, NaN if none is known."""
    known = ~np.isnan(values)
    count = known.sum(axis=1)
    total = np.where(known, values, 0.0) ** 2 @ np.ones(values.shape[1])
    share = np.divide(count, values.shape[1], out=np.full(len(values), np.nan), where=count > 0)
    return np.asarray(np.sqrt(total / share), np.float64)

"""Sentinels: values that mean "no value", such as the largest integer, and are no measurement.

A few of them stretch the scale of a feature so far that it seems constant: it is blind.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

LARGEST = 1e100
"""Above this, sums of squares overflow."""

_APART = 1e6
"""How many times as large as all measurements a sentinel is."""

_IMPLAUSIBLE = 1e15
"""A value so far apart is a sentinel from this size on: traffic has bursts, but not of 1 PB/s."""

_KNOWN = np.array([2.0**31, 2.0**32, 2.0**31 - 1, 2.0**32 - 1])
"""Sentinels below that size, by their magnitude: limits of 32-bit integers."""


@dataclass(frozen=True)
class Sentinels:
    """Values of one feature that look like sentinels.

    Attributes:
        count: how many there are.
        example: the one with the largest magnitude.
        low, high: the range of all other values.
    """

    count: int
    example: float
    low: float
    high: float


def find_sentinels(values: Values) -> Sentinels | None:
    """The sentinels among the values of one feature, float64 (samples,), NaN where missing.

    They are at most half of the values, and a million times as large as every other one.
    """
    known = values[~np.isnan(values)]
    magnitudes = np.sort(np.abs(known))
    if len(known) < 2 or not _is_sentinel(magnitudes[-1:]).any():
        return None
    first = (len(known) + 1) // 2
    below, above = magnitudes[first - 1 : -1], magnitudes[first:]
    apart = np.flatnonzero((above >= _APART * below) & _is_sentinel(above))
    if len(apart) == 0:
        return None
    limit = above[apart[0]]
    rest = known[np.abs(known) < limit]
    found = known[np.abs(known) >= limit]
    example = found[np.argmax(np.abs(found))]
    return Sentinels(len(found), float(example), float(rest.min()), float(rest.max()))


def count_too_large(values: Values) -> int:
    """How many values are too large to compute with."""
    return int((np.abs(values) > LARGEST).sum())


def _is_sentinel(magnitudes: Values) -> NDArray[np.bool_]:
    return (magnitudes >= _IMPLAUSIBLE) | np.isin(magnitudes, _KNOWN)

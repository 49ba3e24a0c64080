"""Valid ranges: a value outside of the range of its feature counts as missing.

Collecting, processing and scoring all use `drop_outside`, so that a value which training did not
see is not seen by the detector either.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Range = tuple[float | None, float | None]
"""Lowest and highest valid value, both included; None where there is no limit."""


def find_outside(values: Values, ranges: Sequence[Range]) -> NDArray[np.bool_]:
    """Which values are outside of their feature's range: (..., features) to the same shape.

    A missing value is not outside.

    Args:
        ranges: one for each feature, or none at all.
    """
    if not ranges:
        return np.zeros(values.shape, np.bool_)
    low, high = np.array(ranges, np.float64).T  # None becomes NaN, to which nothing compares
    return np.asarray((values < low) | (values > high), np.bool_)


def drop_outside(values: Values, ranges: Sequence[Range]) -> Values:
    """The values with those outside of their feature's range missing; same shape."""
    return np.where(find_outside(values, ranges), np.nan, values) if ranges else values


def hold_inside(values: Values, ranges: Sequence[Range]) -> Values:
    """The values with those outside of their feature's range at its limit; same shape."""
    low, high = np.array(ranges, np.float64).T
    held = np.fmin(np.fmax(values, low), high)
    return np.where(np.isnan(values), np.nan, held)


def count_outside(values: Values, ranges: Sequence[Range]) -> NDArray[np.int64]:
    """How many values of each feature are outside: (..., features) to (features,)."""
    return find_outside(values, ranges).reshape(-1, values.shape[-1]).sum(axis=0)


def contains_range(outer: Range, inner: Range) -> bool:
    """Whether every value of the inner range is in the outer one.

    >>> contains_range((0.0, None), (0.0, 9.0)), contains_range((0.0, 9.0), (0.0, None))
    (True, False)
    """
    (low, high), (inner_low, inner_high) = outer, inner
    from_below = low is None or (inner_low is not None and inner_low >= low)
    return from_below and (high is None or (inner_high is not None and inner_high <= high))


def format_ranges(ranges: Sequence[Range]) -> str:
    """The ranges in the order of the features.

    >>> format_ranges([(0.0, None), (None, None)]), format_ranges([])
    ('[0, null], [null, null]', 'none')
    """
    words = (
        ", ".join("null" if limit is None else f"{limit:g}" for limit in each) for each in ranges
    )
    return ", ".join(f"[{each}]" for each in words) or "none"


def read_ranges(content: object, features: int) -> tuple[Range, ...]:
    """The ranges that JSON has as a list of pairs, one for each feature or none at all.

    Raises:
        TypeError, ValueError: if it has something else.
    """
    ranges = tuple((_read_limit(low), _read_limit(high)) for low, high in content)  # type: ignore[attr-defined]
    if len(ranges) not in {0, features}:
        raise ValueError("valid ranges are not those of the features")
    if any(low is not None and high is not None and low >= high for low, high in ranges):
        raise ValueError("a valid range is empty")
    return ranges


def _read_limit(value: object) -> float | None:
    limit = None if value is None else float(value)  # type: ignore[arg-type]
    if limit is not None and not np.isfinite(limit):
        raise ValueError("a limit of a valid range is not finite")
    return limit

"""Missing values: short gaps are filled, long ones split the data.

Training and serving fill by the same function. It looks at one stretch of data and never fills
from across a long gap, so serving, which sees only the newest part of that stretch, comes to the
same values: `CONTEXT` says how much of the past it needs for that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
FILLING_STRATEGIES = ("ffill_then_bfill", "mean", "median")


def context_samples(max_fill_steps: int) -> int:
    """How many samples before a window decide how the window is filled.

    A gap that reaches into the window and is filled has its source, at the earliest,
    `max_fill_steps` before the window; whether that sample lies in a long gap of another feature
    takes as many again to tell.
    """
    return 2 * max_fill_steps


@dataclass(frozen=True)
class Filled:
    """What filling came to.

    Attributes:
        values: float64 (samples, features), filled where a short gap was.
        usable: bool (samples,), False where a value is still missing; no window holds it.
        filled: int (features,), how many values were filled in.
    """

    values: Values
    usable: NDArray[np.bool_]
    filled: NDArray[np.int64]


def fill(values: Values, strategy: str, max_fill_steps: int, substitutes: Values) -> Filled:
    """Fill the gaps of up to `max_fill_steps` samples in one regular stretch of data.

    Args:
        values: float64 (samples, features), NaN where missing.
        strategy: one of the `nan_fill_strategy` words. `ffill_then_bfill` repeats the value before
            the gap, or the one after it where the stretch begins with the gap; `mean` and
            `median` take the feature's `substitutes`; `drop_rows` and `none` fill nothing.
        substitutes: float64 (features,), from the training part.
    """
    missing = np.isnan(values)
    if strategy not in FILLING_STRATEGIES or not missing.any():
        return Filled(values, ~missing.any(axis=1), np.zeros(values.shape[1], np.int64))
    too_long = long_gaps(missing, max_fill_steps).any(axis=1)
    filled = values.copy()
    for start, end in runs(~too_long):
        stretch = filled[start:end]
        if strategy == "ffill_then_bfill":
            _repeat_neighbours(stretch)
        else:
            np.copyto(stretch, substitutes, where=np.isnan(stretch))
    still_missing = np.isnan(filled).any(axis=1)
    return Filled(filled, ~still_missing, (missing & ~np.isnan(filled)).sum(axis=0))


def fill_as_it_comes(
    values: Values, strategy: str, max_fill_steps: int, substitutes: Values
) -> Values:
    """The first `max_fill_steps` samples of every gap filled, by what was known by then.

    (samples, features) to the same shape; NaN where a gap has lasted longer, and at the beginning,
    where there is no value to repeat yet. A row depends on the `max_fill_steps` before it alone,
    and each feature on itself alone: what `fill` does once a gap is over, done while it lasts.
    """
    missing = np.isnan(values)
    if strategy not in FILLING_STRATEGIES or not missing.any():
        return values
    rows = np.arange(len(values))[:, np.newaxis]
    source = np.maximum.accumulate(np.where(missing, -1, rows), axis=0)
    within = missing & (rows - source <= max_fill_steps)
    if strategy == "ffill_then_bfill":
        known = np.take_along_axis(values, np.maximum(source, 0), axis=0)
        return np.where(within, known, values)
    return np.where(within, substitutes, values)


def long_gaps(missing: NDArray[np.bool_], limit: int) -> NDArray[np.bool_]:
    """Where a feature is missing for more than `limit` samples in a row: bool, same shape."""
    long = np.zeros_like(missing)
    for column in range(missing.shape[1]):
        for start, end in runs(missing[:, column]):
            long[start:end, column] = end - start > limit
    return long


def runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """The maximal runs of True as (first, one past last).

    >>> runs(np.array([True, True, False, True]))
    [(0, 2), (3, 4)]
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def _repeat_neighbours(stretch: Values) -> None:
    """Fill each column in place from the value before, or after where there is none before."""
    rows = np.arange(len(stretch))[:, np.newaxis]
    present = ~np.isnan(stretch)
    before = np.maximum.accumulate(np.where(present, rows, -1), axis=0)
    after = np.minimum.accumulate(np.where(present, rows, len(stretch))[::-1], axis=0)[::-1]
    source = np.where(before >= 0, before, after)
    known = source < len(stretch)
    columns = np.broadcast_to(np.arange(stretch.shape[1]), stretch.shape)
    stretch[known] = stretch[source[known], columns[known]]

"""Gaps: stretches of samples in which a feature is missing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def find_runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """The maximal runs of True as (first, one past last).

    >>> find_runs(np.array([True, True, False, True]))
    [(0, 2), (3, 4)]
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def find_long_gaps(missing: NDArray[np.bool_], limit: int) -> NDArray[np.bool_]:
    """Where a feature is missing for more than `limit` samples in a row: bool, same shape.

    Args:
        missing: bool (samples, features).
    """
    long = np.zeros_like(missing)
    for column in range(missing.shape[1]):
        for start, end in find_runs(missing[:, column]):
            long[start:end, column] = end - start > limit
    return long


def count_since(events: NDArray[np.bool_], before: NDArray[np.int64]) -> NDArray[np.int64]:
    """Samples since the last True up to each sample, 0 at a True: (..., samples, columns).

    Args:
        before: how many it was at the sample before the first, int64 (..., columns).

    >>> count_since(np.array([[False], [True], [False]]), np.array([4]))
    array([[5], [0], [1]])
    """
    if events.shape[-2] == 1:
        return np.where(events, 0, before[..., np.newaxis, :] + 1)
    rows = np.arange(events.shape[-2])[:, np.newaxis]
    last = np.maximum.accumulate(np.where(events, rows, -1), axis=-2)
    earlier = before[..., np.newaxis, :] + rows + 1
    return np.asarray(np.where(last >= 0, rows - last, earlier), np.int64)

"""What a model may expect a feature to be, by the range of the feature in training.

A model extrapolates: it may expect a memory of less than nothing. `find_possible` says which of its
expectations are possible at all.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from promad.data.valid_range import Range

Values = NDArray[np.float64]

NO_RANGE = np.array([[-np.inf], [np.inf]])
"""The range where none is known, (2, 1)."""


def find_possible(training_range: Values, valid_ranges: Sequence[Range]) -> Values:
    """The lowest and the highest value that each feature is expected to have: same shape.

    No further from the training range than it is wide, not below 0 if the feature never was, and
    within its valid range.

    Args:
        training_range: lowest and highest values in training, float64 (..., 2, features).
        valid_ranges: one for each feature, or none at all.

    >>> find_possible(np.array([[1.0, -1.0], [5.0, 1.0]]), ())
    array([[ 0., -3.],
           [ 9.,  3.]])
    """
    low, high = training_range[..., 0, :], training_range[..., 1, :]
    width = high - low
    lowest = np.where(low >= 0, np.maximum(low - width, 0.0), low - width)
    possible = np.stack([lowest, high + width], axis=-2)
    if valid_ranges:
        lowest, highest = np.array(valid_ranges, np.float64).T  # None becomes NaN
        possible = np.fmin(np.fmax(possible, lowest), highest)
    return possible


def find_training_range(possible: Values, valid_ranges: Sequence[Range]) -> Values:
    """A range that holds the values of training, from that of possible values: same shape.

    The reverse of `find_possible`, exact where nothing was cut off; where it was cut off at 0, the
    highest value is taken as high as it can have been, and no limit is taken from a valid range.

    Args:
        possible: float64 (..., 2, features).

    >>> find_training_range(find_possible(np.array([[6.0, 1.0], [8.0, 5.0]]), ()), ())
    array([[6., 0.],
           [8., 6.]])
    """
    low, high = possible[..., 0, :], possible[..., 1, :]
    width = (high - low) / 3
    lowest = np.where(low == 0, low, low + width)
    highest = high - width
    if valid_ranges:
        least, most = np.array(valid_ranges, np.float64).T
        by_range = (low <= np.nan_to_num(least, nan=-np.inf)) | (
            high >= np.nan_to_num(most, nan=np.inf)
        )
        lowest, highest = np.where(by_range, low, lowest), np.where(by_range, high, highest)
    return np.stack([lowest, highest], axis=-2)


def read_possible(content: object, features: int) -> Values | None:
    """The values that JSON has as two lists, of the lowest and the highest; None if absent.

    Raises:
        TypeError, ValueError: if it has something else.
    """
    if content is None:
        return None
    found = np.asarray(content, np.float64)
    if found.shape != (2, features) or not np.isfinite(found).all() or (found[0] > found[1]).any():
        raise ValueError("possible values are not those of the features")
    return found

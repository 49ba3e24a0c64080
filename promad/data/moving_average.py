"""The exponentially weighted moving average, by recursion: one sample or many at a time.

Every sample weighs `keep = 1 - 2 / (span + 1)` times as much as the one after it, for ever. The
form of bundles made before it was cut off after `5 * span` samples, where what is left weighs
e^-10: the two differ by at most `TOLERANCE` of the largest value averaged.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promad.data.rows import Move, move_rows

Values = NDArray[np.float64]

SPANS_REMEMBERED = 5
TOLERANCE = 2e-4
"""Twice e^-10 on either side of the quotient, rounded up."""

_BLOCK = 64
_LARGEST = 1e150
"""No value counts for more, so that products with weights stay finite."""
_LARGEST_REMEMBERED = 1e12
"""No value counts for more where later ones remember it: else one corrupt sample, as of a sentinel
in place of a value, would outweigh all that follows for hundreds of samples."""


@dataclass
class Averages:
    """What an average remembers of each column: weighted sum and weight, both float64 (columns,).

    Arrays of any shape: one average for each element.
    """

    total: Values
    weight: Values

    @staticmethod
    def begin(*shape: int) -> Averages:
        """The state before the first sample."""
        return Averages(np.zeros(shape), np.zeros(shape))

    def take(self, rows: NDArray[np.int64]) -> Averages:
        """A copy of some first-axis rows."""
        return Averages(self.total[rows], self.weight[rows])

    def put(self, rows: NDArray[np.int64], other: Averages) -> None:
        """Let some first-axis rows continue as others do."""
        self.total[rows], self.weight[rows] = other.total, other.weight

    def restart(self, mean: Values) -> None:
        """Let all values up to now have been this mean, of the shape of the state."""
        self.total = mean * self.weight

    def adopt(self, other: Averages, move: Move) -> None:
        """Continue the first-axis rows that are moved here from another state."""
        move_rows(move, (other.total, self.total), (other.weight, self.weight))


def find_decay(span: int) -> float:
    """How much of a sample's weight is left one sample later; 0 for a span of 1.

    >>> find_decay(1), find_decay(3)
    (0.0, 0.5)
    """
    return 1.0 - 2.0 / (span + 1)


def average(values: Values, span: int, state: Averages, least_share: float = 0.5) -> Values:
    """The mean up to each sample: (samples, ...) to the same shape.

    NaN is left out and stays NaN.

    Args:
        state: that after the sample before the first, arrays (...); it is moved to the last.
        least_share: where less of the full weight is known, as just after a gap, the sum is divided
            by this share of it: one sample does not yet speak for many.
    """
    unknown = np.isnan(values)
    columns = int(np.prod(values.shape[1:]))
    filled = np.minimum(values, _LARGEST if span == 1 else _LARGEST_REMEMBERED)
    np.copyto(filled, 0.0, where=unknown)
    keep, shape = find_decay(span), (len(values), columns)
    totals = _weigh(filled.reshape(shape), keep, state.total.reshape(-1))
    weights = _weigh((~unknown).reshape(shape), keep, state.weight.reshape(-1))
    if len(values):
        state.total, state.weight = (
            each[-1].reshape(values.shape[1:]).copy() for each in (totals, weights)
        )
    full = 1.0 / (1.0 - keep)
    np.maximum(weights, max(least_share * full, np.finfo(np.float64).tiny), out=weights)
    mean = np.divide(totals, weights, out=totals).reshape(values.shape)
    np.copyto(mean, np.nan, where=unknown)
    return mean


def average_newest(values: Values, before: Values, least_share: float = 0.5) -> Values:
    """The mean of the newest few values up to each sample: (groups, samples, columns) to the same.

    NaN is left out; where nothing is known, it is 0.

    Args:
        before: as many values before the first sample as are averaged with each, NaN = unknown,
            (groups, count, columns).
        least_share: where less of the values is known, their sum is divided by this share of all.
    """
    count, samples = before.shape[1] + 1, values.shape[1]
    rows = np.concatenate([before, values], axis=1)
    known = ~np.isnan(rows)
    filled = np.where(known, rows, 0.0)
    total, number = np.zeros(values.shape), np.zeros(values.shape)
    for first in range(count):
        total += filled[:, first : first + samples]
        number += known[:, first : first + samples]
    return np.asarray(total / np.maximum(number, least_share * count))


def _weigh(values: NDArray[Any], keep: float, before: Values) -> Values:
    """The weighted sum up to each sample, (samples, columns), from that before the first."""
    if len(values) == 1:
        return values + keep * before
    sums = np.empty(values.shape)
    for first in range(0, len(values), _BLOCK):
        rows = slice(first, first + _BLOCK)
        decay, carried = _decays(keep, len(values[rows]))
        sums[rows] = decay @ values[rows].astype(np.float64) + carried * before
        before = sums[rows][-1]
    return sums


def skip(span: int, samples: int, state: Averages) -> None:
    """Move the state over samples without a value."""
    left = find_decay(span) ** samples
    state.total, state.weight = state.total * left, state.weight * left


def average_at(values: Values, at: NDArray[np.int64], span: int) -> Values:
    """The mean up to each row of one group's samples, some of which are left out.

    (rows, columns) to the same shape; see `average`.

    Args:
        at: the number of each row's sample, int64 (rows,).

    Raises:
        ValueError: if the numbers do not rise: rows of several groups are no one series.
    """
    steps = np.diff(at)
    if (steps <= 0).any():
        raise ValueError("sample numbers do not rise: average each group by itself")
    state, means = Averages.begin(*values.shape[1:]), []
    cuts = np.flatnonzero(steps > 1) + 1
    for part, gap in zip(np.split(values, cuts), [0, *(steps[cuts - 1] - 1)], strict=True):
        skip(span, int(gap), state)
        means.append(average(part, span, state))
    return np.concatenate(means)


@lru_cache(maxsize=8)
def _decays(keep: float, samples: int) -> tuple[Values, Values]:
    """Weights of each sample at each later one, (samples, samples), and of what came before."""
    ages = np.arange(samples)[:, np.newaxis] - np.arange(samples)
    powers = np.power(keep, np.arange(samples + 1))
    decays = np.where(ages >= 0, powers[np.maximum(ages, 0)], 0.0)
    for each in (decays, powers):
        each.setflags(write=False)
    return decays, powers[1:, np.newaxis]

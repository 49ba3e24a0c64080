"""The generalised Pareto tail: what lies above a high level, and how surely that is known.

Coles 2001, "An introduction to statistical modeling of extreme values", chapter 4 (threshold
exceedances) and 5.3 (declustering by runs). An excess `y` is exceeded with the chance
`(1 + shape * y / scale) ** (-1 / shape)`, or `exp(-y / scale)` where the shape is 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

HEAVIEST = 0.5
"""Shapes lie within this of 0: beyond, the variance is infinite, or likelihood is irregular."""

_NEARLY_ZERO = 1e-6
_ROUNDS = 4
_DRAWS = 200
_SEED = 0
_GRID = np.concatenate([np.geomspace(5e-3, 1.0, 16), np.geomspace(1.3, 1e4, 24)])
_BOUNDED_GRID = -np.concatenate([[0.9999], np.linspace(0.99, 0.02, 24)])


@dataclass(frozen=True)
class Tail:
    """A generalised Pareto tail.

    Attributes:
        shape: above 0 heavier than exponential, below 0 bounded.
        scale: above 0, in the unit of the excesses.
    """

    shape: float
    scale: float

    def level(self, share: float) -> float:
        """The excess that `share` of all excesses are above; share above 0, at most 1."""
        return float(self.levels(np.array([share]))[0])

    def levels(self, shares: Values) -> Values:
        """The same for many: (shares,) to (shares,)."""
        rarer = -np.log(shares)
        if abs(self.shape) < _NEARLY_ZERO:
            return np.asarray(self.scale * rarer, np.float64)
        return np.asarray(self.scale * np.expm1(self.shape * rarer) / self.shape, np.float64)


def by_likelihood(excesses: Values) -> tuple[Values, Values]:
    """Shapes and scales of greatest likelihood: (..., values above 0) to twice (...).

    The likelihood of unit-mean excesses is maximised along its profile (Grimshaw 1993, "Computing
    maximum likelihood estimates for the generalized Pareto distribution", Technometrics 35,
    section 2: at a given `shape / scale = x` the best shape is the mean of `log(1 + x * y)`), on a
    grid that is refined around its best point. Departure: only shapes within `HEAVIEST` of 0 are
    looked at, which takes away the infinite likelihood at the edge.
    """
    mean = excesses.mean(axis=-1)
    unit = excesses / mean[..., np.newaxis]
    bounded = _BOUNDED_GRID[:, np.newaxis] / unit.max(axis=-1).reshape(1, -1)
    rows = unit.reshape(-1, unit.shape[-1])
    heavy = np.repeat(_GRID[:, np.newaxis], len(rows), axis=1)
    candidates = np.concatenate([bounded, np.zeros((1, len(rows))), heavy])
    for _ in range(_ROUNDS):
        best = np.argmax([_likelihood(rows, x)[0] for x in candidates], axis=0)
        around = np.clip([best - 1, best, best + 1], 0, len(candidates) - 1)
        low, found, high = np.take_along_axis(candidates, around, axis=0)
        candidates = np.concatenate([np.linspace(low, found, 7), np.linspace(found, high, 7)[1:]])
    _, shapes, scales = _likelihood(rows, found)
    return shapes.reshape(mean.shape), scales.reshape(mean.shape) * mean


def _likelihood(rows: Values, x: Values) -> tuple[Values, Values, Values]:
    """Mean log-likelihood at the best shape for `x = shape / scale`, that shape and its scale."""
    shape = np.log1p(x[:, np.newaxis] * rows).mean(axis=1)
    scale = np.divide(shape, x, out=np.ones_like(x), where=x != 0)
    likelihood = -np.log(scale) - shape - 1
    return np.where(np.abs(shape) <= HEAVIEST, likelihood, -np.inf), shape, scale


def by_weighted_moments(excesses: Values, least_shape: float = 0.0) -> tuple[Values, Values]:
    """Shapes and scales by probability-weighted moments: (..., values) to twice (...).

    Hosking and Wallis 1987, "Parameter and quantile estimation for the generalized Pareto
    distribution", Technometrics 29, section 4. Steadier than likelihood on a score of values. The
    shape is kept between `least_shape` and `HEAVIEST`, and the mean is kept.
    """
    rising = np.sort(excesses, axis=-1)
    count = rising.shape[-1]
    mean = rising.mean(axis=-1)
    below = (np.arange(1, count + 1) - 0.35) / count
    spread = mean - 2 * ((1 - below) * rising).mean(axis=-1)
    ratio = np.divide(mean, spread, out=np.full_like(mean, 2 - HEAVIEST), where=spread > 0)
    shape = np.clip(2 - ratio, least_shape, HEAVIEST)
    return shape, mean * (1 - shape)


def share_interval(
    tail: Tail, count: int, excess: float, *, likelihood: bool
) -> tuple[float, float]:
    """A 90 % interval of how many are above `excess`, as multiples of `count` seen above the level.

    Parametric bootstrap: tails of `count` values drawn from this one and fitted in the same way,
    each with a Poisson number of values, by a fixed seed.
    """
    chance = np.random.default_rng(_SEED)
    shares = 1 - chance.random((_DRAWS, count))
    drawn = np.maximum(tail.levels(shares), tail.scale * 1e-12)
    fitted = by_likelihood(drawn) if likelihood else by_weighted_moments(drawn)
    above = _shares_above(*fitted, excess) * chance.poisson(count, _DRAWS) / count
    low, high = np.quantile(above, [0.05, 0.95])
    return float(low), float(high)


def _shares_above(shapes: Values, scales: Values, excess: float) -> Values:
    ratio = excess / scales
    exponential = np.abs(shapes) < _NEARLY_ZERO
    safe = np.where(exponential, 1.0, shapes)
    inside = np.maximum(1 + safe * ratio, 0.0)
    with np.errstate(divide="ignore"):
        return np.where(exponential, np.exp(-ratio), np.exp(-np.log(inside) / safe))


def count_interval(count: int) -> tuple[float, float]:
    """A 90 % interval of what a Poisson count of events was expected to be.

    Byar's approximation to the exact one (Breslow and Day 1987, "Statistical methods in cancer
    research", volume 2, chapter 2).

    >>> [round(bound, 1) for bound in count_interval(4)]
    [1.4, 9.1]
    """
    high = (count + 1) * (1 - 1 / (9 * (count + 1)) + 1.645 / (3 * (count + 1) ** 0.5)) ** 3
    if count == 0:
        return 0.0, high
    return max(count * (1 - 1 / (9 * count) - 1.645 / (3 * count**0.5)) ** 3, 0.0), high

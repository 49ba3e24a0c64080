"""Fitting the linear parts: all that they need is in the second moments of whole windows.

The moments of some windows are those of all less those of the others, so each stretch of time is
judged by parts that have not seen it at the price of one pass (cross-fitting).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from promad.config.settings import LinearSettings
from promad.data.windows import ChosenWindows, Windows, batches
from promad.models.base import Inputs
from promad.models.linear_parts import Learned, Linear, clip_tails

BASELINE_QUANTILE = 0.99
_SMALLEST_BASELINE = 1e-6
WEIGHTS = np.array([1.0, 0.5, 1.5])
"""Of the parts in the sum. The second one finds broken relations, but takes an outlier of one
feature to the predictions of all others."""
_WEIGHTS_OF_ONE = np.array([1.0, 0.5, 0.5])
"""Of a single feature, whose last two parts are one prediction and count once."""
_FREE = 1e-9
"""How much less than the other coefficients a constant is shrunk."""
_BLOCKS, _FEWEST_BLOCKS = 5, 2
_WINDOWS_OF_A_BLOCK = 4
"""A block is to have this many times the samples of a window at least."""

Values = NDArray[np.float64]
Learn = Callable[[Inputs], Learned]
"""What something else makes of the first part's residuals, of windows."""


@dataclass(frozen=True)
class Shape:
    """What is fitted to windows.

    Attributes:
        length, width: of a window, samples and columns.
        features: how many of the columns are judged.
    """

    length: int
    width: int
    features: int


def fit_parts(
    windows: Windows, features: int, settings: LinearSettings, learn: Learn | None = None
) -> Linear:
    """The parts, fitted to all of these windows.

    Args:
        learn: what is taken off the first part's residuals before its baseline is found.
    """
    shape = Shape(windows.length, windows.width, features)
    model = solve(gather_moments(windows), shape, settings)
    return replace(model, baselines=_find_baselines(_measure(model, windows, learn)))


def cross_fit(
    windows: Windows, features: int, settings: LinearSettings, learn: Learn | None = None
) -> tuple[Linear, Values] | None:
    """The parts fitted to all windows, and each window's errors by parts that have not seen it.

    Windows are in order of time, and cut into five blocks, or two if they are few. The parts that
    judge a block are fitted to the windows that share no sample with it. What is usual comes from
    these errors as well: (Hastie, Tibshirani, Friedman 2009, "The Elements of Statistical
    Learning", section 7.10).

    Args:
        learn: as for `fit_parts`; it is the same for all blocks.

    Returns:
        None if the windows are too few; the errors are float64 (windows, features), in units of
        the parts' baselines.
    """
    fewest = _WINDOWS_OF_A_BLOCK * windows.length
    blocks = _BLOCKS if len(windows) >= _BLOCKS * fewest else _FEWEST_BLOCKS
    if len(windows) < blocks * fewest:
        return None
    shape = Shape(windows.length, windows.width, features)
    bounds = np.linspace(0, len(windows), blocks + 1).astype(np.int64)
    cuts = list(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True))
    moments = [gather_moments(_cut(windows, *cut)) for cut in cuts]
    total = np.sum(moments, axis=0)
    squares = []
    for (first, last), own in zip(cuts, moments, strict=True):
        before, after = max(0, first - windows.length), min(len(windows), last + windows.length)
        near = [_cut(windows, before, first), _cut(windows, last, after)]
        unseen = own + np.sum([gather_moments(each) for each in near], axis=0)
        model = solve(total - unseen, shape, settings)
        squares.append(_measure(model, _cut(windows, first, last), learn))
    measured = np.concatenate(squares, axis=1)
    baselines = _find_baselines(measured)
    measured /= baselines[:, np.newaxis, np.newaxis]
    model = replace(solve(total, shape, settings), baselines=baselines)
    return model, measured.sum(axis=0)


def _cut(windows: Windows, first: int, last: int) -> Windows:
    return ChosenWindows(windows, np.arange(first, last))


def gather_moments(windows: Windows) -> Values:
    """The sum of (1, window) times itself: (1 + length * width, the same)."""
    size = 1 + windows.length * windows.width
    moments = np.zeros((size, size))
    for batch in _iterate_batches(windows):
        rows = np.ones((len(batch), size))
        rows[:, 1:] = batch.reshape(len(batch), -1)
        moments += rows.T @ rows
    return moments


def _iterate_batches(windows: Windows) -> Iterator[Values]:
    for batch in batches(windows):
        yield clip_tails(batch, windows.length)


def solve(moments: Values, shape: Shape, settings: LinearSettings) -> Linear:
    """The parts that fit these moments best, with baselines of 1."""
    lags = min(settings.lags, shape.length - 1)
    mean, directions = _solve_directions(moments, settings.components)
    return Linear(
        shape.features,
        shape.length,
        mean,
        directions,
        _solve_autoregression(moments, shape, lags, settings.ridge),
        lags,
        np.ones(3),
        _solve_own(moments, shape, lags, settings.ridge),
    )


def _solve_directions(moments: Values, most: int) -> tuple[Values, Values]:
    """Mean and leading directions of the flattened windows; at most a quarter of all directions.

    With more, a window of a single feature would be reconstructed as it is.
    """
    count, mean = moments[0, 0], moments[0, 1:] / moments[0, 0]
    covariance = moments[1:, 1:] / count - np.outer(mean, mean)
    directions = np.linalg.eigh(covariance).eigenvectors[:, ::-1]
    kept = max(1, min(most, len(mean) // 4))
    return mean, np.ascontiguousarray(directions[:, :kept])


def _solve_autoregression(moments: Values, shape: Shape, lags: int, ridge: float) -> Values:
    """Coefficients that predict the last sample from those before; the constant is not shrunk."""
    last = 1 + (shape.length - 1) * shape.width
    before = np.arange(last - lags * shape.width, last)
    known = np.concatenate([[0], before, _find_conditions(shape)])
    products = moments[np.ix_(known, known)] + np.diag(_penalise(len(known), ridge))
    targets = moments[np.ix_(known, np.arange(last, last + shape.features))]
    return np.asarray(np.linalg.solve(products, targets), np.float64)


def _solve_own(moments: Values, shape: Shape, lags: int, ridge: float) -> Values:
    """Coefficients that predict each feature's last sample from its own before.

    They are shrunk towards the random walk, by which a sample is as the one before it.
    """
    features, last = np.arange(shape.features), 1 + (shape.length - 1) * shape.width
    before = last - shape.width * np.arange(lags, 0, -1) + features[:, np.newaxis]
    shared = [np.tile(part, (shape.features, 1)) for part in ([0], _find_conditions(shape))]
    known = np.hstack([shared[0], before, shared[1]]).astype(np.int64)
    products = moments[known[:, :, np.newaxis], known[:, np.newaxis]]
    products = products + np.diag(_penalise(known.shape[1], ridge))
    targets = moments[known, (last + features)[:, np.newaxis]]
    steps = targets - moments[known, before[:, -1:]]
    own = np.linalg.solve(products, steps[..., np.newaxis])[..., 0].T
    own[lags] += 1.0
    return np.ascontiguousarray(own)


def _find_conditions(shape: Shape) -> NDArray[np.int64]:
    """Where the newest sample's conditions are in the moments."""
    end = 1 + shape.length * shape.width
    return np.arange(end - shape.width + shape.features, end)


def _penalise(size: int, ridge: float) -> Values:
    penalty = np.full(size, ridge)
    penalty[0] = ridge * _FREE
    return penalty


def _measure(model: Linear, windows: Windows, learn: Learn | None) -> Values:
    """Each part's squared residual at the last sample: (parts, windows, features)."""
    found = [
        model.measure_parts(batch, None if learn is None else learn(batch))
        for batch in batches(windows)
    ]
    return np.concatenate(found, axis=1)


def _find_baselines(squares: Values) -> Values:
    """What each part's mean over the features stays below for 99 % of windows, over the part's
    weight: (parts,).
    """
    found = np.quantile(squares.mean(axis=2), BASELINE_QUANTILE, axis=1)
    weights = WEIGHTS if squares.shape[2] > 1 else _WEIGHTS_OF_ONE
    return np.asarray(np.maximum(found, _SMALLEST_BASELINE) / weights, np.float64)

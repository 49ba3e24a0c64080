"""Whether the features that a detector named are those that were to blame.

HitRate@P% is that of Su et al. 2019, "Robust anomaly detection for multivariate time series through
stochastic recurrent neural network", KDD, section 5.5; NDCG is Järvelin and Kekäläinen 2002,
"Cumulated gain-based evaluation of IR techniques", ACM TOIS 20(4), with gains of 0 and 1.

Departure from both: features of equal contribution share what their places are worth, so that
nothing is won or lost by the order of columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from promad.evaluation.agreement import Flags, Reals


@dataclass(frozen=True)
class Causes:
    """Which features were to blame, for stretches of samples.

    Attributes:
        starts, ends: first row and row after the last, int64 (stretches,).
        features: bool (stretches, features), at least one True in each row.
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    features: Flags


@dataclass(frozen=True)
class Explained:
    """Means over what was to be explained, each 0 to 1; NaN if there was nothing.

    `at_100` looks at as many features as were to blame, `at_150` at half as many again, rounded
    to even at one half.
    """

    hit_rate_at_100: float
    hit_rate_at_150: float
    ndcg_at_100: float
    ndcg_at_150: float


def explained_samples(contributions: Reals, causes: Causes) -> Explained:
    """The figures over every sample of every stretch; contributions are (samples, features).

    A feature whose contribution is NaN counts as not named, so a blind sample explains nothing.
    """
    lengths = causes.ends - causes.starts
    stretch = np.repeat(np.arange(len(lengths)), lengths)
    offset = np.arange(len(stretch)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return _summarise(contributions[causes.starts[stretch] + offset], causes.features[stretch])


def explained_segments(contributions: Reals, causes: Causes) -> Explained:
    """The figures over stretches, each ranked by its mean contributions; as `explained_samples`.

    A mean leaves out the samples without a contribution.
    """
    bounds = zip(causes.starts, causes.ends, strict=True)
    means = [_mean(contributions[start:end]) for start, end in bounds]
    return _summarise(np.asarray(means).reshape(causes.features.shape), causes.features)


def _mean(contributions: Reals) -> Reals:
    """The mean of each feature's known contributions, NaN where there are none: (features,)."""
    known = ~np.isnan(contributions)
    count = known.sum(axis=0)
    total = np.where(known, contributions, 0.0).sum(axis=0)
    mean = np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
    return np.asarray(mean, np.float64)


def _summarise(contributions: Reals, blamed: Flags) -> Explained:
    if len(blamed) == 0:
        return Explained(*[float("nan")] * 4)
    gains = expected_gains(contributions, blamed)
    at_100, at_150 = (_at(gains, blamed.sum(axis=1), percent) for percent in (100, 150))
    return Explained(at_100[0], at_150[0], at_100[1], at_150[1])


def _at(gains: Reals, blamed: NDArray[np.int64], percent: int) -> tuple[float, float]:
    """Mean hit rate and mean NDCG over rows, looking at `percent` of the features to blame."""
    places = np.arange(gains.shape[1])
    looked_at = places < np.round(blamed * percent / 100)[:, np.newaxis]
    ideal = places < blamed[:, np.newaxis]
    discounts = 1 / np.log2(places + 2)
    hits = (gains * looked_at).sum(axis=1) / blamed
    best = ((ideal & looked_at) * discounts).sum(axis=1)
    return float(hits.mean()), float(((gains * looked_at) @ discounts / best).mean())


def expected_gains(contributions: Reals, blamed: Flags) -> Reals:
    """The chance that each place of a ranking holds a feature to blame, ties in random order.

    Both (rows, features) to float64 (rows, places). A feature with contribution NaN stands last
    and is never a hit.

    >>> expected_gains(np.array([[1.0, 3.0, 3.0]]), np.array([[False, True, False]]))
    array([[0.5, 0.5, 0. ]])
    """
    known = ~np.isnan(contributions)
    filled = np.where(known, contributions, -np.inf)
    order = np.argsort(-filled, axis=1, kind="stable")
    falling = np.take_along_axis(filled, order, axis=1)
    hits = np.take_along_axis(blamed & known, order, axis=1)
    new = np.ones(falling.shape, np.bool_)
    new[:, 1:] = falling[:, 1:] != falling[:, :-1]
    tie = np.cumsum(new.ravel()) - 1
    return np.asarray(
        (np.bincount(tie, hits.ravel()) / np.bincount(tie))[tie].reshape(falling.shape), np.float64
    )

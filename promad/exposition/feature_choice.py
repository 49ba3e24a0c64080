"""Which groups' features are exposed, if there are too many to expose all."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from promad.events.verdict import CONTRIBUTION, ELEVATION, FEATURE_COLUMNS
from promad.exposition.columns import GroupColumns

Values = NDArray[np.float64]
Rows = NDArray[np.int64]

_KEPT = 1.5
"""How much larger the score of a group must be than that of one shown, to take its place."""


class FeatureChoice(NamedTuple):
    """The groups whose features are exposed.

    Attributes:
        rows: those groups, ascending.
        features: theirs, (rows, features, 6); NaN where nothing is exposed.
        left_out: how many series there are besides.
    """

    rows: Rows
    features: Values
    left_out: int


def choose_features(columns: GroupColumns, limit: int, shown: NDArray[np.bool_]) -> FeatureChoice:
    """Groups with an open event first, then those with the largest score, as many as fit.

    A group is exposed with all its features, unless `limit` is too small even for one: of the
    first, as many features are exposed as fit, largest contribution first.

    Args:
        limit: the maximum number of series.
        shown: the groups that were chosen last time, bool (groups,). They stay unless another's
            score is half as large again, so that series do not come and go with every tick.
    """
    known = ~np.isnan(columns.features[:, :, ELEVATION])
    series = (np.isfinite(columns.features) & known[:, :, np.newaxis]).sum(axis=(1, 2))
    cost = len(FEATURE_COLUMNS) * known.sum(axis=1)
    ranked = _rank(columns, shown)
    ranked = ranked[cost[ranked] > 0]
    fitting = int(np.searchsorted(np.cumsum(cost[ranked]), limit, side="right"))
    rows = np.sort(ranked[:fitting] if fitting else ranked[:1])
    exposed = known[rows]
    if not fitting:
        exposed &= _find_largest(columns.features[rows, :, CONTRIBUTION], limit)
    features = np.where(exposed[:, :, np.newaxis], columns.features[rows], np.nan)
    left_out = int(series.sum()) - int(np.isfinite(features).sum())
    return FeatureChoice(rows, features, left_out)


def _rank(columns: GroupColumns, shown: NDArray[np.bool_]) -> Rows:
    """The groups with a score, in the order in which they are chosen."""
    with np.errstate(all="ignore"):
        ratio = columns.score / columns.threshold
    weight = np.where(shown, _KEPT * ratio, ratio)
    order = np.lexsort((-weight, np.isnan(columns.anomalous_since)))
    return order[~np.isnan(weight[order])]


def _find_largest(contributions: Values, limit: int) -> NDArray[np.bool_]:
    """The features with the largest contributions whose series fit, bool (rows, features)."""
    place = np.argsort(np.argsort(-contributions, axis=1, kind="stable"), axis=1)
    return place < limit // len(FEATURE_COLUMNS)

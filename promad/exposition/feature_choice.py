"""Which groups' features are exposed, if there are too many to expose all."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from promad.events.verdict import CONTRIBUTION, ELEVATION, FEATURE_COLUMNS, LARGEST_COLUMNS
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
        largest: where they deviated most, (rows, features, 4).
        left_out: how many series there are besides.
    """

    rows: Rows
    features: Values
    largest: Values
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
    deviating = _find_deviating(columns, known)
    series = (np.isfinite(columns.features) & known[:, :, np.newaxis]).sum(axis=(1, 2))
    of_largest = len(LARGEST_COLUMNS) * deviating.sum(axis=1)
    cost = len(FEATURE_COLUMNS) * known.sum(axis=1) + of_largest
    ranked = _rank(columns, shown)
    ranked = ranked[cost[ranked] > 0]
    fitting = int(np.searchsorted(np.cumsum(cost[ranked]), limit, side="right"))
    rows = np.sort(ranked[:fitting] if fitting else ranked[:1])
    exposed = known[rows]
    if not fitting:
        width = len(FEATURE_COLUMNS) + (len(LARGEST_COLUMNS) if deviating[rows].any() else 0)
        exposed &= _find_largest(columns.features[rows, :, CONTRIBUTION], limit // width)
    features = np.where(exposed[:, :, np.newaxis], columns.features[rows], np.nan)
    largest = np.full((*exposed.shape, len(LARGEST_COLUMNS)), np.nan)
    if columns.largest is not None:
        shown_largest = (exposed & deviating[rows])[:, :, np.newaxis]
        np.copyto(largest, columns.largest[rows], where=shown_largest)
    shown_series = int(np.isfinite(features).sum()) + int(np.isfinite(largest).sum())
    left_out = int((series + of_largest).sum()) - shown_series
    return FeatureChoice(rows, features, largest, left_out)


def _find_deviating(columns: GroupColumns, known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which known features have a largest deviation, bool (groups, features)."""
    if columns.largest is None:
        return np.zeros_like(known)
    return known & ~np.isnan(columns.largest[:, :, 0])


def _rank(columns: GroupColumns, shown: NDArray[np.bool_]) -> Rows:
    """The groups with a score, in the order in which they are chosen."""
    with np.errstate(all="ignore"):
        ratio = columns.score / columns.threshold
    weight = np.where(shown, _KEPT * ratio, ratio)
    order = np.lexsort((-weight, np.isnan(columns.anomalous_since)))
    return order[~np.isnan(weight[order])]


def _find_largest(contributions: Values, most: int) -> NDArray[np.bool_]:
    """So many features with the largest contributions, bool (rows, features)."""
    place = np.argsort(np.argsort(-contributions, axis=1, kind="stable"), axis=1)
    return place < most

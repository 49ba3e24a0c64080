"""Drift: the share of the newest values that is outside of what the training has seen."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from promad.data.groups import THE_ONLY_GROUP, Labels
from promad.data.possible_range import find_training_range
from promad.diagnosis.evidence import Drift
from promad.prometheus.recent_values import RecentValues
from promad.scoring.detector import Detector

Values = NDArray[np.float64]

Limits = Mapping[Labels, Values]
"""By group the lowest and the highest values of training, float64 (2, features)."""


def find_limits(detector: Detector) -> Limits:
    """The training range of each group, one unit of the scaler wider on each side.

    Without those of which nothing is known, as in bundles of earlier versions.
    """
    preparation, table = detector.preparation, detector.table
    ranges = preparation.valid_ranges
    if table is None:
        possible, scale = preparation.limits[np.newaxis], preparation.scaler.scale[np.newaxis]
        groups: tuple[Labels, ...] = (THE_ONLY_GROUP,)
    else:
        possible, scale, groups = table.rows.possible, table.rows.scale, table.groups
    known = np.isfinite(possible).all(axis=(1, 2))
    units = np.stack([-scale, scale], axis=1)
    found = find_training_range(np.where(np.isfinite(possible), possible, 0.0), ranges) + units
    return {group: found[row] for row, group in enumerate(groups) if known[row]}


def compare_with_training(
    values: RecentValues, features: tuple[str, ...], limits: Limits, seconds: float
) -> Drift:
    """The share of the values of each feature that is outside of the limits of their group.

    Groups without limits are left out, and features without values.

    Args:
        seconds: of the period that the values are from.
    """
    shares, groups = {}, set()
    for column, feature in enumerate(features):
        outside = count = 0
        for group, own in values.get(feature, {}).items():
            if group not in limits or not own.size:
                continue
            low, high = limits[group][:, column]
            outside += int(((own < low) | (own > high)).sum())
            count += own.size
            groups.add(group)
        if count:
            shares[feature] = outside / count
    return Drift(seconds, shares, len(groups))

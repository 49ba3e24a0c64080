"""`Calibration`: what a detector knows of each group by itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from promad.data.preparation import Preparation
from promad.scoring.scoring import Scoring

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """Row by row what is usual for a group; all float64.

    Attributes:
        center, scale: of the scaler, (groups, features).
        substitutes: what `mean` and `median` fill gaps with, (groups, features).
        normaliser: what errors are divided by, (groups, members * features).
        baseline: what smoothed, normalised errors stayed below for 95 % of training,
            (groups, features).
    """

    center: Values
    scale: Values
    substitutes: Values
    normaliser: Values
    baseline: Values

    @property
    def groups(self) -> int:
        """How many rows there are."""
        return len(self.center)

    def to_natural(self, scaled: Values) -> Values:
        """Scored features of all groups, (groups, samples, scored), in their own units."""
        scored = scaled.shape[-1]
        return scaled * self.scale[:, np.newaxis, :scored] + self.center[:, np.newaxis, :scored]


def pooled_calibration(preparation: Preparation, scoring: Scoring, groups: int) -> Calibration:
    """The calibration of groups that have none of their own: what was fitted on all of training."""

    def repeat(values: Values) -> Values:
        return np.broadcast_to(values, (groups, len(values)))

    return Calibration(
        center=repeat(preparation.scaler.center),
        scale=repeat(preparation.scaler.scale),
        substitutes=repeat(preparation.substitutes),
        normaliser=repeat(scoring.normaliser),
        baseline=repeat(scoring.baseline),
    )

"""The errors by which an anomaly is attributed to features: the largest of late, which fade.

A model's errors are large when a cause sets in, and small again once the model has seen its effect;
but what caused an incident is asked as long as it lasts. So the largest error of each feature is
held, and fades slowly while the score is high, and soon once it is as low as it mostly is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from promad.data.rows import Move, move_rows

Values = NDArray[np.float64]

CALM_SHARE = 0.8
"""Scores that this share of the training scores is below are calm."""
_CALM_OF_LIMIT = 0.1
"""The same as a share of the threshold, for bundles made before it was measured."""

_SLOWLY, _SOON = 0.99, 0.95
"""What is left after a sample: half of an error after 69 samples, or after 14 calm ones."""
_LARGEST = 1e12
"""No error counts for more, as in the moving average of the score."""


def find_calm(measured: float | None, limit: float) -> float:
    """The score below which held errors fade soon.

    Args:
        measured: in training, if that was done.
        limit: the threshold.
    """
    return _CALM_OF_LIMIT * limit if measured is None else measured


@dataclass
class HeldErrors:
    """The held errors of many groups; `follow` alone changes them.

    Attributes:
        largest: the largest errors, faded, (groups, features).
    """

    largest: Values

    @staticmethod
    def begin(groups: int, features: int) -> HeldErrors:
        """The state before the first sample."""
        return HeldErrors(np.zeros((groups, features)))

    def adopt(self, other: HeldErrors, move: Move) -> None:
        """Continue the groups that are moved here from another state."""
        move_rows(move, (other.largest, self.largest))

    def follow(self, errors: Values, score: Values, calm: float) -> Values:
        """The held errors at one sample, (groups, features); NaN where the error is.

        Args:
            errors: what each feature adds to the score by the sample alone, (groups, features).
            score: (groups,); that of a group whose sample does not count is NaN.
            calm: scores below it are calm.
        """
        fading = np.where(score < calm, _SOON, _SLOWLY)[:, np.newaxis]
        held = np.fmax(errors, self.largest * fading)
        np.minimum(held, _LARGEST, out=held)
        np.copyto(self.largest, held, where=~np.isnan(score)[:, np.newaxis])
        np.copyto(held, np.nan, where=np.isnan(errors))
        return held

"""Precision and recall of alarms against labels, and how much was not scored at all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from promad.data.gaps import find_runs

Reals = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Agreement:
    """Precision and recall, each between 0 and 1, NaN where there was nothing to judge by."""

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """The harmonic mean: 0 if nothing was found, NaN if there was nothing to find."""
        if np.isnan(self.recall) or self.recall == 0:
            return self.recall
        return 2 * self.precision * self.recall / (self.precision + self.recall)


def share_blind(scores: Reals) -> float:
    """The share of samples without a score; NaN if there are no samples.

    >>> share_blind(np.array([np.nan, 1.0, 2.0, 3.0]))
    0.25
    """
    return float(np.isnan(scores).mean()) if len(scores) else float("nan")


def alarms(scores: Reals, limits: Reals) -> Flags:
    """Where a score is above its limit: bool (samples,), False where the score is unknown."""
    return np.asarray(scores > limits, np.bool_)


def segments(flags: Flags) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First row and row after the last of every maximal run: both int64 (segments,).

    >>> segments(np.array([True, False, True, True]))
    (array([0, 2]), array([1, 4]))
    """
    starts, ends = np.asarray(find_runs(flags), np.int64).reshape(-1, 2).T
    return starts, ends

"""Anomalies counted as sequences, the way the Telemanom paper counts them.

Hundman et al. 2018, "Detecting spacecraft anomalies using LSTMs and nonparametric dynamic
thresholding", KDD, section 4.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class SequenceCounts:
    """Known sequences that were found and missed, and predicted ones that met none.

    Counts of several series are added up before precision and recall are taken; a mean over seeds
    need not be whole.
    """

    found: float
    missed: float
    false: float

    def __add__(self, other: SequenceCounts) -> SequenceCounts:
        return SequenceCounts(
            self.found + other.found, self.missed + other.missed, self.false + other.false
        )

    @property
    def precision(self) -> float:
        """Found over found and false; NaN if nothing was predicted."""
        predicted = self.found + self.false
        return self.found / predicted if predicted else float("nan")

    @property
    def recall(self) -> float:
        """Found over all known; NaN if none is known."""
        known = self.found + self.missed
        return self.found / known if known else float("nan")

    def f_beta(self, beta: float) -> float:
        """F with recall worth `beta` times precision (the paper's is F0.5); NaN as `recall`."""
        if self.found + self.missed == 0:
            return float("nan")
        weight = beta**2
        total = (1 + weight) * self.found + weight * self.missed + self.false
        return (1 + weight) * self.found / total


def count_sequences(
    starts: Rows, ends: Rows, known_starts: Rows, known_ends: Rows
) -> SequenceCounts:
    """Compare predicted sequences with known ones; ends are the rows after the last.

    A prediction credits the first known sequence, in the order given, that it overlaps, and no
    other: one that covers two finds one, and several within one find it once.
    """
    if len(known_starts) == 0:
        return SequenceCounts(0, 0, len(starts))
    after, before = known_starts < ends[:, np.newaxis], known_ends > starts[:, np.newaxis]
    meets = after & before
    valid = meets.any(axis=1)
    found = len(np.unique(meets.argmax(axis=1)[valid]))
    return SequenceCounts(found, len(known_starts) - found, int((~valid).sum()))

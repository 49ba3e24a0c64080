"""Segments: stretches of a recorded series above the threshold, and what each is made of.

Unlike events they know no hysteresis: a segment is a maximal run of samples above their limits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from promad.data.gaps import find_runs
from promad.scoring.attribution import share_excess

Values = NDArray[np.float64]

MOST_PARTS = 5


@dataclass(frozen=True)
class Segment:
    """Samples in a row above their limits; positions are those in the scores.

    Attributes:
        first, last: where it begins and ends, both included.
        peak_at: where the highest score is, the first of several.
        peak: that score.
        mean: the mean score.
    """

    first: int
    last: int
    peak_at: int
    peak: float
    mean: float

    @property
    def length(self) -> int:
        """How many samples it has."""
        return self.last - self.first + 1


@dataclass(frozen=True)
class Part:
    """What one feature has to do with a segment.

    Attributes:
        column: which feature.
        elevation: its mean error over its baseline in training: above 1 it deviates.
        contribution: its share of what lies above all features' baselines, 0 to 1.
    """

    column: int
    elevation: float
    contribution: float


def find_segments(scores: Values, limits: Values) -> list[Segment]:
    """The segments in order of time; both float64 (samples,). A score of NaN is in none.

    >>> find_segments(np.array([0.0, 3.0, 5.0, 0.0]), np.ones(4))
    [Segment(first=1, last=2, peak_at=2, peak=5.0, mean=4.0)]
    """
    return [_segment(scores, first, after) for first, after in find_runs(scores > limits)]


def _segment(scores: Values, first: int, after: int) -> Segment:
    own = scores[first:after]
    highest = int(own.argmax())
    return Segment(first, after - 1, first + highest, float(own[highest]), float(own.mean()))


def find_parts(segment: Segment, errors: Values, baseline: Values) -> list[Part]:
    """The features that contribute most to a segment, five at most, largest contribution first.

    Args:
        errors: what each feature adds to the score, float64 (samples, features) without NaN.
        baseline: what each stayed below for 95 % of training, float64 (features,).
    """
    mean = errors[segment.first : segment.last + 1].mean(axis=0)
    contributions = share_excess(mean, baseline)
    largest = np.argsort(-contributions, kind="stable")[:MOST_PARTS]
    return [
        Part(int(column), float(mean[column] / baseline[column]), float(contributions[column]))
        for column in largest
        if contributions[column] > 0
    ]

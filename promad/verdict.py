"""What scoring and judging come to: `Scores` and `Verdict`.

`Verdict` is the one thing that the exporter, the API and the pages publish.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray


class State(StrEnum):
    """How things stand with a group. Only OK and ANOMALOUS come with a score."""

    WARMING = "warming"
    OK = "ok"
    ANOMALOUS = "anomalous"
    BLIND = "blind"


@dataclass(frozen=True)
class Scores:
    """How badly the newest sample of each window fits what was learned.

    Attributes:
        times: unix seconds of each window's last sample, float64 (windows,).
        score: mean squared reconstruction error in scaled units, float64 (windows,); NaN = unknown.
        errors: the same per feature, float64 (windows, features); `score` is their mean.
        observed: the last sample in the features' own units, float64 (windows, features).
        expected: what the model would have had there, same units and shape.

    Higher is worse everywhere, and row `i` depends on samples up to `times[i]` alone.
    """

    times: NDArray[np.float64]
    score: NDArray[np.float64]
    errors: NDArray[np.float64]
    observed: NDArray[np.float64]
    expected: NDArray[np.float64]


@dataclass(frozen=True)
class FeatureView:
    """One feature within a verdict.

    Attributes:
        name: the query's alias.
        error: its squared reconstruction error in scaled units, mean over the window.
        contribution: its share of the window's error, 0 to 1; the shares sum to 1.
        observed: the newest value, in the feature's own units.
        expected: the value the model would have had there, same units.
    """

    name: str
    error: float
    contribution: float
    observed: float
    expected: float


@dataclass(frozen=True)
class Verdict:
    """The judgement of one group at one time.

    `score_mse` and `threshold_mse` are in the model's scaled units squared; `score_mse` is None
    and `features` is empty unless `state` is OK or ANOMALOUS: a blind group has no number to show.
    `why` says in words what made the group blind or what it is still warming for, else is "".
    """

    at: float
    state: State
    threshold_mse: float
    score_mse: float | None = None
    features: tuple[FeatureView, ...] = ()
    why: str = ""

    @property
    def score_ratio(self) -> float | None:
        """Error over threshold: above 1 is anomalous, whatever the model; None when unknown."""
        return None if self.score_mse is None else self.score_mse / self.threshold_mse

    @property
    def top_features(self) -> tuple[FeatureView, ...]:
        """The three features with the largest contribution, largest first."""
        return tuple(sorted(self.features, key=lambda view: -view.contribution)[:3])

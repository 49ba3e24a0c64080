"""Point-adjusted F1, for comparison with papers only, and never without chance beside it.

Point adjustment (Xu et al. 2018, "Unsupervised anomaly detection via variational auto-encoder",
WWW, section 4.2) counts a whole segment as found once one sample of it alarms. Kim et al. 2022,
"Towards a rigorous evaluation of time-series anomaly detection", AAAI, sections 3 and 4, show that
a random score then looks like the state of the art, and propose PA%K: adjust only the segments of
which more than K % alarm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from promad.evaluation.agreement import Flags, Reals, segments
from promad.evaluation.ranking import best_f1

_RANDOM_SCORES = 5


@dataclass(frozen=True)
class AdjustedF1:
    """An adjusted F1, and what a uniform random score gets on the same labels (mean of five)."""

    value: float
    of_random: float


def point_adjusted_f1(
    scores: Reals, labels: Flags, seed: int, more_than: float = 0.0
) -> AdjustedF1:
    """The F1 over samples after point adjustment, at the threshold that is best for it.

    0 to 1; NaN if no sample is labelled.

    Args:
        more_than: the share of a segment, 0 to 1, that must be exceeded for it to be adjusted:
            0 is plain point adjustment, 0.2 is PA%K with K = 20, 1 adjusts nothing.
    """
    chance = np.random.default_rng(seed)
    draws = [chance.random(len(scores)) for _ in range(_RANDOM_SCORES)]
    random = [best_f1(adjusted_scores(draw, labels, more_than), labels) for draw in draws]
    value = best_f1(adjusted_scores(scores, labels, more_than), labels)
    return AdjustedF1(value, float(np.mean(random)))


def adjusted_scores(scores: Reals, labels: Flags, more_than: float) -> Reals:
    """Scores of which each threshold makes just what alarms after adjustment: float64 (samples,).

    A segment of n samples is adjusted at the thresholds that more than n * `more_than` of its
    scores reach, which is one of its own scores; no sample of it is then below that.
    """
    adjusted = scores.copy()
    for start, end in zip(*segments(labels), strict=True):
        falling = -np.sort(-scores[start:end])  # unknown ones last
        needed = int((end - start) * more_than + 1e-9)
        if needed < len(falling):
            adjusted[start:end] = np.fmax(scores[start:end], falling[needed])
    return adjusted

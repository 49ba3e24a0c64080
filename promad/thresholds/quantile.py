"""A limit that normal data crosses no more often than the alert budget allows.

Scores come in runs, so single scores above the limit say little about alarms. What is counted is
episodes: stretches in which the score stayed above the limit long enough to begin an event.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from promad.errors import DataError
from promad.events import episode_peaks, sustained_level
from promad.thresholds.base import Threshold, ThresholdSettings

_WEEK = 7 * 86400.0
_TAIL_SHARE = 0.1
_FEWEST_IN_TAIL, _MOST_IN_TAIL = 5, 100
_LARGEST_FACTOR = 10.0
_MARGIN = 1.0 + 1e-9


def fit(scores: NDArray[np.float64], settings: ThresholdSettings) -> Threshold:
    """The limit with `false_alarms_per_week` episodes per week, counted on scores of normal data.

    With as many episodes seen as the budget allows for so much data, the limit is the next lower
    peak: an empirical quantile of the episodes' peaks. A budget below one alarm in the data at
    hand is extrapolated with the estimator of Weissman (1978, "Estimation of parameters and large
    quantiles based on the k largest observations", JASA 73), at most to ten times the largest
    peak; the tail's index is Hill's.

    Args:
        scores: float64 (samples,), NaN = unknown, in chronological order.

    Raises:
        DataError: if fewer than ten scores are known.
    """
    known = scores[~np.isnan(scores)]
    if len(known) < 10:
        raise DataError(
            f"only {len(known)} validation scores: too few to choose a threshold by — "
            "collect a longer period or set anomaly_threshold_mse to a number"
        )
    level = sustained_level(known, settings.enter_after)
    peaks = episode_peaks(level, settings.enter_after + settings.leave_after)
    weeks = len(known) * settings.step / _WEEK
    allowed = settings.false_alarms_per_week * weeks
    value, how = _seen(peaks, allowed) if allowed >= 1 else _extrapolated(peaks, allowed)
    value = max(value, float(np.finfo(np.float32).tiny))
    why = (
        f"{value:.4g} is expected to give {settings.false_alarms_per_week:g} false alarms a week: "
        f"{weeks * 7:.1f} days of validation data hold {len(peaks)} episodes, {how}"
    )
    return Threshold("quantile", value, settings.false_alarms_per_week, why)


def _seen(peaks: NDArray[np.float64], allowed: float) -> tuple[float, str]:
    """The highest level that is crossed in at most `allowed` episodes."""
    rank = min(int(allowed), len(peaks) - 1)
    return float(peaks[rank]) * _MARGIN, f"of which {rank} peak above it"


def _extrapolated(peaks: NDArray[np.float64], allowed: float) -> tuple[float, str]:
    """A level above all peaks, which `allowed` < 1 episodes are expected to reach."""
    share = int(np.clip(len(peaks) * _TAIL_SHARE, _FEWEST_IN_TAIL, _MOST_IN_TAIL))
    tail = np.log(np.maximum(peaks[: min(share, len(peaks) - 1) + 1], np.finfo(float).tiny))
    count = max(len(tail) - 1, 1)
    index = float(np.mean(tail[:count] - tail[-1]))
    level = float(np.exp(tail[-1] + index * np.log(count / allowed)))
    highest = float(peaks[0])
    value = float(np.clip(level, highest * _MARGIN, highest * _LARGEST_FACTOR))
    return value, f"the highest at {highest:.4g}, and the {count} highest were extrapolated"

"""Peaks over threshold that go on learning: `fit` is SPOT, `fit_with_drift` is DSPOT.

Siffer et al. 2017, "Anomaly detection in streams with extreme value theory", KDD, sections 4.3 and
4.4. What happens after fitting is in `promad.thresholds.peaks`.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from promad.clock import WEEK_SECONDS
from promad.thresholds import pot
from promad.thresholds.base import Threshold, ThresholdSettings, take_known_scores
from promad.thresholds.peaks import (
    FEWEST_PEAKS,
    MOST_PEAKS,
    Peaks,
    PeaksOfOne,
    Plan,
    fit_tail,
    gap_of,
    in_log,
)
from promad.thresholds.pot import Clusters, Values


def fit(scores: Values, settings: ThresholdSettings) -> Threshold:
    """The limit that `pot` begins with, moved by the peaks of later scores that are no alarms.

    Raises:
        DataError: as `pot.fit` does.
    """
    return _fit("spot", scores, replace(settings, drift_samples=0))


def fit_with_drift(scores: Values, settings: ThresholdSettings) -> Threshold:
    """The same for the distance of scores from the mean of the last `drift_samples` normal ones.

    The distance is that of logarithms, so a score that doubles for good doubles the limit. All
    calibration scores are taken as normal; at most half of them make the first mean.

    Raises:
        DataError: as `pot.fit` does.
    """
    return _fit("dspot", scores, settings)


def _fit(method: str, scores: Values, settings: ThresholdSettings) -> Threshold:
    known = take_known_scores(scores, settings)
    typical = pot.typical_score(known)
    plain = in_log(known, typical)
    drift = min(settings.drift_samples, (len(known) - settings.enter_after) // 2)
    values = plain[drift:] - _means_before(plain, drift)
    found = pot.choose_clusters(values, settings)
    begun = pot.fit(scores, settings)
    at_end = math.fsum(plain[len(plain) - drift :]) / drift if drift else 0.0
    share = pot.share_of_clusters(found, settings)
    usable = not found.tied and share < 1 and len(found.excesses) >= FEWEST_PEAKS
    limit = math.log1p(begun.value / typical) - at_end
    if not found.tied and share >= 1:
        limit = min(limit, found.level)
    if usable:
        tail = fit_tail(found.excesses)
        limit = found.level + tail.level(share)
        begun = replace(begun, interval=pot.rates(tail, found, limit - found.level, settings))
    plan = Plan(
        typical=typical,
        level=found.level,
        chance=settings.false_alarms_per_week * settings.step / WEEK_SECONDS,
        gap=gap_of(settings.leave_after),
        enter_after=settings.enter_after,
        drift_samples=drift,
        highest_limit=max(float(known.max()) * pot.LARGEST_FACTOR, begun.value),
    )
    peaks = _begin_peaks(plan, limit, found, values, plain)
    value = float(Peaks(plan, peaks, 1).limits()[0])
    why = f"initial value, moved by later peaks: {begun.why}"
    expected = settings.false_alarms_per_week if usable else begun.expected_false_alarms_per_week
    return Threshold(method, value, expected, why, begun.interval, peaks.to_json(plan))


def _begin_peaks(
    plan: Plan, limit: float, found: Clusters, values: Values, plain: Values
) -> PeaksOfOne:
    kept = found.excesses[-MOST_PEAKS:]
    dropped = len(found.excesses) - len(kept)
    return PeaksOfOne(
        limit=limit,
        excesses=tuple(kept.tolist()),
        taken=tuple(found.taken[dropped:].tolist()),
        samples=found.samples,
        since=int(found.taken[dropped - 1]) if dropped else 0,
        recent=tuple(plain[len(plain) - plan.drift_samples :].tolist()),
        last=tuple(values[len(values) - plan.enter_after + 1 :].tolist()),
    )


def _means_before(plain: Values, drift: int) -> Values:
    """The mean of the `drift` values before each but the first `drift`; zeros if that is 0."""
    if drift == 0:
        return np.zeros(len(plain))
    return np.lib.stride_tricks.sliding_window_view(plain, drift)[:-1].mean(axis=1)

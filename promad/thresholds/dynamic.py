"""Nonparametric dynamic thresholding: fitting what the stream begins with.

Hundman et al. 2018, "Detecting spacecraft anomalies using LSTMs and nonparametric dynamic
thresholding", KDD, sections 3.2 and 3.3. Its steps are in `promad.thresholds.epsilon`.
"""

from __future__ import annotations

import numpy as np

from promad.clock import WEEK_SECONDS
from promad.events.event_levels import EventLevels, event_levels
from promad.thresholds.base import Threshold, ThresholdSettings, take_known_scores
from promad.thresholds.epsilon import Errors, Gate, epsilon_of
from promad.thresholds.history import History, HistoryOfOne, Plan
from promad.thresholds.tail import count_interval
from promad.thresholds.threshold_state import LOWEST_LIMIT, follow_each


def fit(scores: Errors, settings: ThresholdSettings) -> Threshold:
    """Epsilon of the newest `history` scores, moved by every later score.

    Scores are taken as smoothed already. How spread the target is, which the published gate asks
    for, is not known here: the spread of the scores stands in. The alert budget has no say; how
    many events to expect is counted by following the newer half of the scores from the older one.

    Args:
        scores: float64 (samples,), NaN = unknown, in chronological order.

    Raises:
        DataError: as `quantile.fit` does.
    """
    known, how = take_known_scores(scores, settings), settings.dynamic
    plan = Plan(
        Gate.of(known),
        how.history,
        how.batch,
        how.error_buffer,
        how.minimum_drop,
        how.mode,
    )
    half = len(known) // 2
    after = History(plan, _seed(plan, known[:half]), 1)
    limits = follow_each(after, known[half:, np.newaxis])[:, 0]
    events = _events(known[half:] / limits, settings)
    weeks = (len(known) - half) * settings.step / WEEK_SECONDS
    low, high = count_interval(events)
    history = _seed(plan, known)
    value = max(history.epsilon, LOWEST_LIMIT)
    why = (
        f"initial value, moved by every later score: epsilon of the newest {len(history.scores)} "
        f"scores; {events} events in {weeks * 7:.2g} days of normal data"
    )
    anomalous = after.of(0).known[-len(history.scores) :]
    kept = HistoryOfOne(history.scores, anomalous, history.epsilon)
    interval = (low / weeks, high / weeks)
    return Threshold("dynamic", value, events / weeks, why, interval, kept.to_json(plan))


def _seed(plan: Plan, scores: Errors) -> HistoryOfOne:
    newest = scores[-plan.history :]
    epsilon = epsilon_of(newest, float(newest.mean()), float(newest.std()), plan.error_buffer)
    return HistoryOfOne(newest, np.zeros(len(newest), np.bool_), epsilon)


def _events(ratios: Errors, settings: ThresholdSettings) -> int:
    levels: EventLevels = event_levels(ratios, settings.enter_after, settings.leave_after)
    return levels.above(1.0)

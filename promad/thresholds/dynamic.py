"""Nonparametric dynamic thresholding, as published and as a stream.

Hundman et al. 2018, "Detecting spacecraft anomalies using LSTMs and nonparametric dynamic
thresholding", KDD, sections 3.2 and 3.3. Its steps are in `promad.thresholds.epsilon`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from promad.events.events import EventLevels, event_levels
from promad.thresholds.base import WEEK, Threshold, ThresholdSettings, known_scores
from promad.thresholds.epsilon import (
    Errors,
    Gate,
    History,
    MovingGate,
    Plan,
    anomalous_points,
    epsilon_of,
)
from promad.thresholds.tail import count_interval
from promad.thresholds.threshold_state import LOWEST_LIMIT, followed

__all__ = ["Gate", "MovingGate", "Sequences", "fit", "ignored", "sequences", "smooth"]


@dataclass(frozen=True)
class Sequences:
    """Anomalous sequences in time order.

    Attributes:
        starts, ends: their first row and the row after their last, int64 (sequences,).
        scores: how far beyond epsilon, float64 (sequences,).
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    scores: Errors


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
    known, how = known_scores(scores, settings), settings.dynamic
    plan = Plan(
        Gate.of(known),
        how.history,
        how.batch,
        how.error_buffer,
        how.minimum_drop,
        how.mode,
    )
    half = len(known) // 2
    limits, after = followed(_seeded(plan, known[:half]), known[half:])
    events = _events(known[half:] / limits, settings)
    weeks = (len(known) - half) * settings.step / WEEK
    low, high = count_interval(events)
    history = _seeded(plan, known)
    value = max(history.epsilon, LOWEST_LIMIT)
    why = (
        f"{value:.4g} to begin with is epsilon of the newest {len(history.scores)} scores, moved "
        f"by every later one: it made {events} events in {weeks * 7:.2g} days of normal data"
    )
    kept = History(plan, history.scores, after.known[-len(history.scores) :], history.epsilon)
    interval = (low / weeks, high / weeks)
    return Threshold("dynamic", value, events / weeks, why, interval, kept.to_json())


def _seeded(plan: Plan, scores: Errors) -> History:
    newest = scores[-plan.history :]
    epsilon = epsilon_of(newest, float(newest.mean()), float(newest.std()), plan.error_buffer)
    return History(plan, newest, np.zeros(len(newest), np.bool_), epsilon)


def _events(ratios: Errors, settings: ThresholdSettings) -> int:
    levels: EventLevels = event_levels(ratios, settings.enter_after, settings.leave_after)
    return levels.above(1.0)


def sequences(
    errors: Errors,
    gate: Gate | MovingGate,
    *,
    history: int = 2100,
    batch: int = 70,
    error_buffer: int = 100,
    minimum_drop: float = 0.13,
    ignore: int = 0,
    complete: bool = False,
) -> Sequences:
    """The anomalous sequences in smoothed errors, float64 (samples,) without NaN, as published.

    Low errors are looked at as well as high ones, mirrored. Sequences of one sample are dropped.

    Args:
        gate: what errors are measured against; `MovingGate(target)` is the published one.
        history: `window_size * batch_size` of the paper's code.
        ignore: errors at the beginning that are not judged (see `ignored`).
        complete: also judge the up to `batch - 1` errors that the published form passes over.
    """
    points = anomalous_points(
        errors,
        gate,
        history=history,
        batch=batch,
        error_buffer=error_buffer,
        minimum_drop=minimum_drop,
        ignore=ignore,
        complete=complete,
    )
    edges = np.flatnonzero(np.diff(np.concatenate([[False], ~np.isnan(points), [False]])))
    bounds = [(int(a), int(b)) for a, b in edges.reshape(-1, 2) if b - a > 1]
    return Sequences(
        np.array([start for start, _ in bounds], np.int64),
        np.array([end for _, end in bounds], np.int64),
        np.array([points[start:end].max() for start, end in bounds], np.float64),
    )


def ignored(samples: int, length: int) -> int:
    """How many errors at the beginning the paper's code passes over, for windows of `length`.

    >>> [ignored(samples, 250) for samples in (1799, 2499, 2500)]
    [0, 250, 500]
    """
    if samples < 1800:
        return 0
    return length if samples < 2500 else 2 * length


def smooth(errors: Errors, span: int, settling: int = 0) -> Errors:
    """The exponentially weighted mean of errors up to each: (samples,) to (samples,), no NaN.

    Weights fall by `1 - 2 / (span + 1)` with each sample and add up to 1 (pandas' `adjust=True`).
    The first `settling` are replaced by the mean of the first `2 * settling`; the paper's code does
    so with one window's length.

    >>> smooth(np.array([3.0, 0.0]), 1)
    array([3., 0.])
    """
    keep = 1 - 2 / (span + 1)
    smoothed, total, weight = np.empty(len(errors)), 0.0, 0.0
    for row, error in enumerate(errors.tolist()):
        total, weight = keep * total + error, keep * weight + 1
        smoothed[row] = total / weight
    if settling and len(errors):
        smoothed[:settling] = smoothed[: 2 * settling].mean()
    return smoothed

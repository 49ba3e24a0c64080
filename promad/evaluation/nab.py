"""The NAB score: windows found early are worth most, alarms elsewhere cost, missed windows cost.

Lavin and Ahmad 2015, "Evaluating real-time anomaly detection algorithms: the Numenta anomaly
benchmark", ICMLA, sections II.C and II.D, with the weights of the published profiles.

The score of several series is one: what they earn is added up before it is normalised, so that 0
is a detector that never alarms and 100 one that alarms at the first sample of every window and
nowhere else. Three figures are told apart:

    by event          alarms are the samples that began an event, one each: what an operator is told
    at the threshold  alarms are all samples above their limit, as NAB counts detections: of an
                      event that lasts past its window, each sample is one more false alarm
    optimised         one threshold for all series is picked with the labels at hand, for each
                      profile its own, as the published leaderboard does; scores of different
                      series are then compared as multiples of their own limits

The probationary 15 % of each series take no part: here they are what a model is trained on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promad.evaluation.agreement import Flags, Reals

Rows = NDArray[np.int64]

_STEEPNESS = 5.0
_FARTHEST = 3.0


@dataclass(frozen=True)
class Profile:
    """What a false alarm and a missed window cost; an early detection earns 1."""

    false_alarm: float
    missed: float


PROFILES: Mapping[str, Profile] = {
    "standard": Profile(0.11, 1.0),
    "reward_low_fp": Profile(0.22, 1.0),
    "reward_low_fn": Profile(0.11, 2.0),
}


@dataclass(frozen=True)
class NabSeries:
    """One series as the score sees it.

    Attributes:
        ratios: the scores as multiples of their limits, float64 (samples,), NaN where unknown:
            above 1 is an alarm.
        starts, ends: first row and row after the last of each window, int64 (windows,), in order.
        flagged: the row of the sample that made each event, int64 (events,).
    """

    ratios: Reals
    starts: Rows
    ends: Rows
    flagged: Rows = field(default_factory=lambda: np.empty(0, np.int64))

    def to_json(self) -> dict[str, Any]:
        """Lists, from which `from_json` makes the same series."""
        return {name: values.tolist() for name, values in vars(self).items()}

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> NabSeries:
        """The series that `to_json` described."""
        rows = (np.array(content[name], np.int64) for name in ("starts", "ends", "flagged"))
        return NabSeries(np.array(content["ratios"], np.float64), *rows)


def nab_series(scores: Reals, limits: Reals, starts: Rows, ends: Rows, flagged: Rows) -> NabSeries:
    """Scores held to limits above zero, the windows in their order, and where events were made."""
    order = np.argsort(starts, kind="stable")
    return NabSeries(np.asarray(scores / limits, np.float64), starts[order], ends[order], flagged)


def by_event(series: Sequence[NabSeries], profile: Profile) -> float:
    """The score of the samples that made events, at most 100; NaN without windows."""
    earned = sum(
        _sum_worth(each, np.isin(np.arange(len(each.ratios)), each.flagged), profile)
        for each in series
    )
    return _normalise(earned, series, profile)


def at_threshold(series: Sequence[NabSeries], profile: Profile) -> float:
    """The score of the samples above their limits, at most 100; NaN without windows."""
    return _normalise(
        sum(_sum_worth(each, each.ratios > 1, profile) for each in series), series, profile
    )


def optimised(series: Sequence[NabSeries], profile: Profile) -> float:
    """The best score that one multiple of the limits gets on all series; NaN without windows.

    Between 0, which alarming nowhere gets, and 100.
    """
    found = [_sweep(each, profile) for each in series]
    levels = np.concatenate([levels for levels, _ in found])
    gains = np.concatenate([gains for _, gains in found])
    order = np.argsort(-levels, kind="stable")
    falling, total = levels[order], np.cumsum(gains[order])
    last_of_level = np.append(falling[1:] != falling[:-1], True)[: len(falling)]
    best = np.max(total[last_of_level], initial=0.0)
    nothing = sum(
        _sum_worth(each, np.zeros(len(each.ratios), np.bool_), profile) for each in series
    )
    return _normalise(nothing + float(best), series, profile)


def _normalise(earned: float, series: Sequence[NabSeries], profile: Profile) -> float:
    windows = sum(len(each.starts) for each in series)
    if windows == 0:
        return float("nan")
    return 100 * (earned + profile.missed * windows) / ((1 + profile.missed) * windows)


def _sum_worth(series: NabSeries, alarming: Flags, profile: Profile) -> float:
    """What the alarms of one series earn, before normalising.

    The first alarm in a window counts, which is the one that earns most.
    """
    worth = _worth(series, profile)
    inside = _window_of(series)
    earned = float(worth[alarming & (inside < 0)].sum())
    for window in range(len(series.starts)):
        hits = worth[alarming & (inside == window)]
        earned += float(hits[0]) if len(hits) else -profile.missed
    return earned


def _sweep(series: NabSeries, profile: Profile) -> tuple[Reals, Reals]:
    """What each sample adds to what is earned, as the threshold falls to its score.

    Returns:
        The scores and what they add, both float64 (known samples,): in a window only by how much
        a sample that lies before all those with higher scores earns more than they did.
    """
    known = np.flatnonzero(~np.isnan(series.ratios))
    order = known[np.argsort(-series.ratios[known], kind="stable")]
    gains = _worth(series, profile)
    inside = _window_of(series)[order]
    for window in range(len(series.starts)):
        rows = order[inside == window]
        best = np.maximum.accumulate(np.append(-profile.missed, gains[rows]))
        gains[rows] = np.diff(best)
    return series.ratios[order], gains[order]


def _worth(series: NabSeries, profile: Profile) -> Reals:
    """What an alarm at each sample earns by itself: float64 (samples,).

    In a window 1 at its first sample, falling along a sigmoid to 0 behind its last; after a window
    from 0 down to a whole false alarm, by the samples since then as a share of its width; before
    the first window a whole false alarm.
    """
    rows = np.arange(len(series.ratios))
    inside, before = _window_of(series), np.searchsorted(series.ends, rows, side="right") - 1
    worth = np.full(len(rows), -profile.false_alarm)
    after = (inside < 0) & (before >= 0)
    width = series.ends - series.starts
    since = rows - series.ends[before] + 1 if len(series.ends) else rows
    reach = np.maximum(width[before] - 1, 1) if len(series.ends) else np.ones(len(rows))
    worth[after] = (_sigmoid(since / reach) * profile.false_alarm)[after]
    within = inside >= 0
    place = (rows[within] - series.ends[inside[within]]) / width[inside[within]]
    worth[within] = _sigmoid(place) / _sigmoid(np.array([-1.0]))
    return worth


def _sigmoid(place: Reals) -> Reals:
    """Falls from almost 1 at -1 over 0 at 0 to -1; exactly that beyond 3."""
    return np.where(
        place > _FARTHEST, -1.0, 2 / (1 + np.exp(_STEEPNESS * np.minimum(place, _FARTHEST))) - 1
    )


def _window_of(series: NabSeries) -> Rows:
    """Which window each sample lies in, int64 (samples,), -1 for none."""
    found = np.full(len(series.ratios), -1)
    for window, (start, end) in enumerate(zip(series.starts, series.ends, strict=True)):
        found[start:end] = window
    return found

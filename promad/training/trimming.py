"""Trimming: which windows of the training part a network should not learn from.

Incidents in the training part teach a network to reproduce incidents. The windows that it still
reproduces worst are dropped before it trains again, within three limits: no more than a small
share, nothing that does not stand out, and nothing that recurs on another day with the same
features as its cause. What recurs is normal, however rare (a backup, a weekly report), and a
detector that never saw it would flag it every time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Rows = NDArray[np.int64]

NOT_TRIMMED = frozenset({"linear"})
"""Models that are not trimmed: they gain nothing by it, and lose rare regimes."""
OTHER_DAY_SECONDS = 18 * 3600.0
"""Two stretches are on separate days if they begin at least this far apart. In hours rather than by
the calendar, as an incident around midnight is still one incident."""
ALIKE = 0.9
"""Two stretches have the same causes if the cosine between their contributions is above this."""
_SMALLEST = 1e-12
_FAR_OUT = 3.0
"""Tukey's "far out": this many interquartile ranges above the third quartile. (Exploratory Data
Analysis, 1977, section 2E.)"""


@dataclass(frozen=True)
class Trimmed:
    """What trimming has chosen: rows of windows, each array of them one stretch of time.

    Attributes:
        dropped: stretches to leave out of the next training, in order of time, with those that an
            earlier round has dropped.
        recurring: stretches that stand out as much but recur on another day, and stay.
    """

    dropped: tuple[Rows, ...]
    recurring: tuple[Rows, ...]

    @property
    def rows(self) -> Rows:
        """Every window dropped."""
        return np.concatenate([np.empty(0, np.int64), *self.dropped])


NOTHING_TRIMMED = Trimmed((), ())


@dataclass(frozen=True)
class TrimLimits:
    """How much is trimmed.

    Attributes:
        score: the detector's threshold; a window above it stands out.
        share: of the windows that may be dropped, at most, over all rounds.
        near: windows that stand out and are no further apart than this make one stretch, seconds.
    """

    score: float
    share: float
    near: float


def trim(
    scores: Values, contributions: Values, times: Values, limits: TrimLimits, before: Rows
) -> Trimmed:
    """Choose what to drop: the worst windows that stand out and do not recur.

    A window stands out if its score is above the limit, or far above all the others'. What was
    dropped before stays dropped, and is not merged with what is near it: a model that no longer
    learned from an incident may find a job near it that recurs, and both would come back. If it
    recurs itself, its repetitions stay, and teach the model the same.

    Args:
        scores: float64 (windows,), without NaN.
        contributions: each feature's share of what is unusual, float64 (windows, features).
        times: unix seconds of each window's last sample, rising.
        before: rows that an earlier round has dropped.
    """
    if len(scores) == 0:
        return NOTHING_TRIMMED
    standing_out = np.flatnonzero(scores > min(limits.score, find_outlier_limit(scores)))
    gone = _split_stretches(before, times, limits.near)
    new = _split_stretches(np.setdiff1d(standing_out, before), times, limits.near)
    stretches = [*gone, *new]
    begins = np.array([times[rows[0]] for rows in stretches])
    recurs = _find_recurring([contributions[rows].mean(axis=0) for rows in stretches], begins)
    recurs = recurs[len(gone) :]
    once = [rows for rows, again in zip(new, recurs, strict=True) if not again]
    again = tuple(rows for rows, again in zip(new, recurs, strict=True) if again)
    candidates = np.concatenate([np.empty(0, np.int64), *once])
    left = max(int(limits.share * len(scores)) - len(before), 0)
    worst = candidates[np.argsort(-scores[candidates], kind="stable")][:left]
    dropped = np.union1d(before, worst)
    return Trimmed(tuple(_split_stretches(dropped, times, limits.near)), again)


def find_outlier_limit(scores: Values) -> float:
    """Where scores begin to be far above the rest; no score is below 0.

    Scores rise and fall by factors, so it is their logarithms that are held against each other:
    by themselves the few highest of any quiet week would be far out.

    >>> round(find_outlier_limit(np.array([1.0, 2.0, 4.0, 8.0, 16.0])), 9)
    512.0
    """
    first, third = np.quantile(np.log(np.maximum(scores, _SMALLEST)), [0.25, 0.75])
    return float(np.exp(third + _FAR_OUT * (third - first)))


def _split_stretches(rows: Rows, times: Values, near: float) -> list[Rows]:
    """Rising rows, cut wherever the next one is further away in time than `near`."""
    cuts = np.flatnonzero(np.diff(times[rows]) > near) + 1
    return [part for part in np.split(rows, cuts) if len(part)]


def _find_recurring(causes: list[Values], begins: Values) -> NDArray[np.bool_]:
    """Which stretches have the same causes as another one on a separate day: bool (stretches,)."""
    if not causes:
        return np.zeros(0, np.bool_)
    lengths = np.linalg.norm(causes, axis=1, keepdims=True)
    directions = np.array(causes) / np.where(lengths > 0, lengths, 1.0)
    apart = np.abs(begins[:, np.newaxis] - begins) >= OTHER_DAY_SECONDS
    return np.asarray(((directions @ directions.T > ALIKE) & apart).any(axis=1))

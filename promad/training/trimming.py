"""Trimming: which windows of the training part a network had better not have learned from.

Incidents in the training part teach a network to reproduce incidents. What it nevertheless
reproduces worst is dropped before it trains again, with three reins: no more than a small share,
nothing that does not stand out, and nothing that came back on another day with the same features to
blame. What comes back is part of normal life, however rare (a backup, a weekly report), and a
detector that never saw it would flag it every time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Rows = NDArray[np.int64]

NOT_TRIMMED = frozenset({"linear"})
"""Models of which nothing is dropped: they gain nothing by it, and lose rare regimes."""
OTHER_DAY_SECONDS = 18 * 3600.0
"""How far apart two stretches begin, at the least, that are said to be on separate days. In hours
rather than by the calendar, as an incident around midnight is still one incident."""
ALIKE = 0.9
"""Two stretches have the same causes if the cosine between their contributions is above this."""
_SMALLEST = 1e-12
_FAR_OUT = 3.0
"""Tukey's "far out": this many interquartile ranges above the third quartile. (Exploratory Data
Analysis, 1977, section 2E.)"""


@dataclass(frozen=True)
class Trimmed:
    """What came of trimming: rows of windows, each array of them one stretch of time.

    Attributes:
        dropped: stretches to leave out of the next training, in order of time.
        recurring: stretches that stand out as much but came back on another day, and stay.
    """

    dropped: tuple[Rows, ...]
    recurring: tuple[Rows, ...]

    @property
    def rows(self) -> Rows:
        """Every window dropped."""
        return np.concatenate([np.empty(0, np.int64), *self.dropped])


def trim(
    scores: Values, contributions: Values, times: Values, limit: float, share: float, near: float
) -> Trimmed:
    """Choose what to drop: the worst windows that stand out and do not recur.

    A window stands out if its score is above the limit, or far above all the others'.

    Args:
        scores: float64 (windows,), without NaN.
        contributions: each feature's share of what is unusual, float64 (windows, features).
        times: unix seconds of each window's last sample, rising.
        limit: the detector's threshold.
        share: of the windows that may be dropped, at most.
        near: windows that stand out and are no further apart than this make one stretch, seconds.
    """
    if len(scores) == 0:
        return Trimmed((), ())
    stretches = _stretches(np.flatnonzero(scores > min(limit, far_out(scores))), times, near)
    begins = np.array([times[rows[0]] for rows in stretches])
    recurs = _recurring([contributions[rows].mean(axis=0) for rows in stretches], begins)
    once = [rows for rows, again in zip(stretches, recurs, strict=True) if not again]
    again = tuple(rows for rows, again in zip(stretches, recurs, strict=True) if again)
    candidates = np.concatenate([np.empty(0, np.int64), *once])
    worst = candidates[np.argsort(-scores[candidates], kind="stable")][: int(share * len(scores))]
    return Trimmed(tuple(_stretches(np.sort(worst), times, near)), again)


def far_out(scores: Values) -> float:
    """Where scores begin to be far above the rest; no score is below 0.

    Scores rise and fall by factors, so it is their logarithms that are held against each other:
    by themselves the few highest of any quiet week would be far out.

    >>> round(far_out(np.array([1.0, 2.0, 4.0, 8.0, 16.0])), 9)
    512.0
    """
    first, third = np.quantile(np.log(np.maximum(scores, _SMALLEST)), [0.25, 0.75])
    return float(np.exp(third + _FAR_OUT * (third - first)))


def _stretches(rows: Rows, times: Values, near: float) -> list[Rows]:
    """Rising rows, cut wherever the next one is further away in time than `near`."""
    cuts = np.flatnonzero(np.diff(times[rows]) > near) + 1
    return [part for part in np.split(rows, cuts) if len(part)]


def _recurring(causes: list[Values], begins: Values) -> NDArray[np.bool_]:
    """Which stretches have the same causes as another one on a separate day: bool (stretches,)."""
    if not causes:
        return np.zeros(0, np.bool_)
    lengths = np.linalg.norm(causes, axis=1, keepdims=True)
    directions = np.array(causes) / np.where(lengths > 0, lengths, 1.0)
    apart = np.abs(begins[:, np.newaxis] - begins) >= OTHER_DAY_SECONDS
    return np.asarray(((directions @ directions.T > ALIKE) & apart).any(axis=1))

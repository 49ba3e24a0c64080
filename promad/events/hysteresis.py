"""Hysteresis: when samples above a threshold become an event, so that a flicker is none.

An event begins once `enter_after` scored samples in a row were above the threshold. It ends once
`leave_after` in a row did not keep it open: the score is a long average, which remembers an
incident long after it, so the recent score, a short average, decides. Where there is none, samples
above the threshold keep an event open. Samples without a score neither begin nor end anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from promad.data.rows import Move, move_rows

Flags = NDArray[np.bool_]
Counts = NDArray[np.int64]
Values = NDArray[np.float64]


class Changes(NamedTuple):
    """Which groups' events began and ended with a sample; both bool (groups,)."""

    began: Flags
    ended: Flags


@dataclass
class Hysteresis:
    """The counters of many groups; `advance` and `put` alone change them.

    Attributes:
        enter_after: samples above the threshold that begin an event.
        leave_after: samples in a row that do not keep one open and so end it.
        open: whether an event is open, bool (groups,).
        above: while none is, samples above the threshold in a row, int64 (groups,).
        below: while one is, samples in a row that do not keep it open, int64 (groups,).
        leave_below: what the recent score must exceed to keep an event open, as a share of the way
            from the typical score to the limit; None where samples above the limit do.
        typical: the typical score of normal data.
        hold_seconds: so long after its onset an event is compared with the state before it.
    """

    enter_after: int
    leave_after: int
    open: Flags
    above: Counts
    below: Counts
    leave_below: float | None = None
    hold_seconds: float = 0.0
    typical: float = 0.0

    @staticmethod
    def begin(
        groups: int,
        enter_after: int,
        leave_after: int,
        leave_below: float | None = None,
        hold_seconds: float = 0.0,
        typical: float = 0.0,
    ) -> Hysteresis:
        """Counters before the first sample."""
        return Hysteresis(
            enter_after,
            leave_after,
            np.zeros(groups, np.bool_),
            np.zeros(groups, np.int64),
            np.zeros(groups, np.int64),
            leave_below,
            hold_seconds,
            typical,
        )

    def find_lasting(self, scores: Values, recent: Values | None, limits: Values) -> Flags:
        """Which samples keep an event open; all (groups,).

        Args:
            recent: the recent scores; None where there are none.
        """
        if self.leave_below is None or recent is None:
            return np.asarray(scores > limits, np.bool_)
        needed = self.typical + self.leave_below * np.maximum(limits - self.typical, 0.0)
        return np.asarray(recent > needed, np.bool_)

    def adopt(self, other: Hysteresis, move: Move) -> None:
        """Continue the groups that are moved here from other counters."""
        move_rows(
            move, (other.open, self.open), (other.above, self.above), (other.below, self.below)
        )

    def put(self, group: int, open_: bool, above: int, below: int) -> None:
        """Let a group continue with these counters."""
        self.open[group], self.above[group], self.below[group] = open_, above, below

    def advance(self, anomalous: Flags, scored: Flags, lasting: Flags | None = None) -> Changes:
        """Count one sample of each group.

        Args:
            anomalous: whether it is above the threshold, bool (groups,).
            scored: whether it has a score at all, bool (groups,).
            lasting: whether it keeps an event open, bool (groups,); by default if it is above.
        """
        rising = scored & anomalous
        if not (rising.any() or self.open.any() or self.above.any()):
            return Changes(rising, rising)
        kept = rising if lasting is None else scored & lasting
        above = np.where(rising, self.above + 1, np.where(scored, 0, self.above))
        below = np.where(kept, 0, self.below + scored)
        began = ~self.open & (above >= self.enter_after)
        ended = self.open & (below >= self.leave_after)
        self.open = (self.open | began) & ~ended
        self.above = np.where(self.open | ended, 0, above)
        self.below = np.where(self.open & ~began, below, 0)
        return Changes(began, ended)


def find_events(
    anomalous: Flags, enter_after: int, leave_after: int, lasting: Flags | None = None
) -> list[tuple[int, int, int]]:
    """The events in one group's scored samples, bool (samples,), in order of time.

    Each as its first sample above the threshold, the sample that made it an event, and the sample
    after the last one that kept it open. The newest may still be open.

    Args:
        lasting: which samples keep an event open, bool (samples,); those above by default.

    >>> find_events(np.array([True, True, False, True, False, False]), 2, 2)
    [(0, 1, 4)]
    """
    kept = anomalous if lasting is None else lasting
    found: list[tuple[int, int, int]] = []
    is_open, above, below = False, 0, 0
    changes = np.flatnonzero((anomalous[1:] != anomalous[:-1]) | (kept[1:] != kept[:-1])) + 1
    for first, last in pairwise([0, *changes.tolist(), len(anomalous)]):
        at = first
        while at < last:
            alike = last - at
            if not is_open:
                taken = min(alike, enter_after - above)
                above = above + taken if anomalous[at] else 0
                at = at + taken if anomalous[at] else last
                if above == enter_after:
                    found.append((at - enter_after, at - 1, at))
                    is_open, above, below = True, 0, 0
            elif kept[at]:
                found[-1] = (*found[-1][:2], last)
                at, below = last, 0
            else:
                taken = min(alike, leave_after - below)
                at, below = at + taken, below + taken
                is_open = below < leave_after
    return found

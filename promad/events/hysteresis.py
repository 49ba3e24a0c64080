"""Hysteresis: when samples above a threshold become an event, so that a flicker is none.

An event begins once `enter_after` scored samples in a row were above the threshold, and ends once
`leave_after` in a row were not. Samples without a score neither begin nor end anything.
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


class Changes(NamedTuple):
    """Which groups' events began and ended with a sample; both bool (groups,)."""

    began: Flags
    ended: Flags


@dataclass
class Hysteresis:
    """The counters of many groups; `advance` and `put` alone change them.

    Attributes:
        enter_after: samples above the threshold that begin an event.
        leave_after: samples not above it that end one.
        open: whether an event is open, bool (groups,).
        above: while none is, samples above the threshold in a row, int64 (groups,).
        below: while one is, samples not above it in a row, int64 (groups,).
    """

    enter_after: int
    leave_after: int
    open: Flags
    above: Counts
    below: Counts

    @staticmethod
    def begin(groups: int, enter_after: int, leave_after: int) -> Hysteresis:
        """Counters before the first sample."""
        return Hysteresis(
            enter_after,
            leave_after,
            np.zeros(groups, np.bool_),
            np.zeros(groups, np.int64),
            np.zeros(groups, np.int64),
        )

    def adopt(self, other: Hysteresis, move: Move) -> None:
        """Continue the groups that are moved here from other counters."""
        move_rows(
            move, (other.open, self.open), (other.above, self.above), (other.below, self.below)
        )

    def put(self, group: int, open_: bool, above: int, below: int) -> None:
        """Let a group continue with these counters."""
        self.open[group], self.above[group], self.below[group] = open_, above, below

    def advance(self, anomalous: Flags, scored: Flags, samples: int = 1) -> Changes:
        """Count one sample of each group, or several that are all alike.

        Args:
            anomalous: whether it is above the threshold, bool (groups,).
            scored: whether it has a score at all, bool (groups,).
        """
        rising = scored & anomalous
        if not (rising.any() or self.open.any() or self.above.any()):
            return Changes(rising, rising)
        falling = scored & ~anomalous
        above = np.where(rising, self.above + samples, np.where(falling, 0, self.above))
        below = np.where(falling, self.below + samples, np.where(rising, 0, self.below))
        began = ~self.open & (above >= self.enter_after)
        ended = self.open & (below >= self.leave_after)
        self.open = (self.open | began) & ~ended
        self.above = np.where(self.open | ended, 0, above)
        self.below = np.where(self.open & ~began, below, 0)
        return Changes(began, ended)


def find_events(anomalous: Flags, enter_after: int, leave_after: int) -> list[tuple[int, int, int]]:
    """The events in one group's scored samples, bool (samples,), in order of time.

    Each as its first sample above the threshold, the sample that made it an event, and the sample
    after its last one above. The newest may still be open.

    >>> find_events(np.array([True, True, False, True, False, False]), 2, 2)
    [(0, 1, 4)]
    """
    counters, found = Hysteresis.begin(1, enter_after, leave_after), []
    everything = np.ones(1, np.bool_)
    changes = np.flatnonzero(np.diff(anomalous)) + 1
    for first, last in pairwise([0, *changes.tolist(), len(anomalous)]):
        if first == last:
            continue
        above = anomalous[first : first + 1]
        if counters.advance(above, everything, last - first).began[0]:
            found.append((first, first + enter_after - 1, last))
        elif above[0] and counters.open[0]:
            found[-1] = (*found[-1][:2], last)
    return found

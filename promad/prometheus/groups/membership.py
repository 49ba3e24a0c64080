"""Which groups are watched: who is admitted, refused and forgotten."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
from numpy.typing import NDArray

from promad.data.groups import Labels
from promad.prometheus.groups.buffer import GroupBuffer
from promad.prometheus.groups.rows import GroupRows

Values = NDArray[np.float64]
Rows = NDArray[np.int64]


class Membership:
    """The groups of the first rows are admitted; the others wait for a second sample.

    A group is forgotten after `forget_after` seconds without a sample; once there are `max_groups`,
    no other is admitted.

    Attributes:
        admitted: how many groups are.
        groups: they, in the order of their rows.
        seen_at: unix seconds of the newest sample of each group that has a row, float64 (rows,).
    """

    def __init__(
        self, rows: GroupRows, buffer: GroupBuffer, max_groups: int, forget_after: float
    ) -> None:
        self.admitted = 0
        self.groups: tuple[Labels, ...] = ()
        self.seen_at: Values = np.empty(0)
        self._rows = rows
        self._buffer = buffer
        self._max_groups = max_groups
        self._forget_after = forget_after
        self._chosen_at = -np.inf
        self._preferred: frozenset[Labels] = frozenset()

    def prefer(self, groups: Iterable[Labels]) -> None:
        """Admit these groups before others, should there be too many."""
        self._preferred = frozenset(groups)

    def make_room(self) -> None:
        """Let groups that have just got a row wait."""
        rows = len(self._rows.groups)
        self._buffer.grow(rows)
        unseen = np.full(rows - len(self.seen_at), -np.inf)
        self.seen_at = np.concatenate([self.seen_at, unseen])

    def choose(self, newest: float, ambiguous: Collection[int]) -> Rows:
        """Forget and admit groups: the rows they had, in the order of those that they have now.

        While time stands still, nothing changes: a tick without a new sample knows no new group.
        A group with several series has no sample, but it is there, so it is admitted.
        """
        rows = len(self._rows.groups)
        everyone = np.arange(rows)
        if newest == self._chosen_at:
            return everyone
        self._chosen_at = newest
        self._rows.readmit(newest - self._forget_after)
        fresh = newest - self.seen_at <= self._forget_after
        kept = np.flatnonzero(fresh[: self.admitted])
        waiting = self.admitted + np.flatnonzero(fresh[self.admitted :])
        if len(kept) < self.admitted:
            self._rows.readmit()
        if len(kept) == rows:
            return everyone
        sightings = self._count_sightings(waiting)
        sightings[np.isin(waiting, list(ambiguous))] = 2
        ready = self._rank(waiting[sightings >= 2])
        admitted = ready[: max(0, self._max_groups - len(kept))]
        refused = [self._rows.groups[row] for row in ready[len(admitted) :].tolist()]
        chosen = fill_holes(np.concatenate([kept, admitted]))
        order = np.concatenate([chosen, waiting[sightings < 2]])
        if not np.array_equal(order, everyone):
            self._buffer.keep(order)
            self.seen_at = self.seen_at[order]
            self._rows.keep(order)
        self._rows.refuse(refused, newest)
        self.admitted = len(kept) + len(admitted)
        self.groups = tuple(self._rows.groups[: self.admitted])
        return order

    def _rank(self, rows: Rows) -> Rows:
        """The same rows, those of preferred groups first."""
        others = [self._rows.groups[row] not in self._preferred for row in rows.tolist()]
        return rows[np.argsort(others, kind="stable")]

    def _count_sightings(self, rows: Rows) -> Rows:
        """How many samples each of these groups has, of any feature: int64 (rows,)."""
        held = self._buffer.view()
        return np.array([int((~np.isnan(held[row])).any(axis=1).sum()) for row in rows], np.int64)


def fill_holes(rows: Rows) -> Rows:
    """The rows in an order in which few have to move: those from the end fill the holes.

    >>> fill_holes(np.array([0, 2, 3, 4])).tolist()
    [0, 4, 2, 3]
    """
    count = len(rows)
    order = np.full(count, -1, np.int64)
    stays = rows < count
    order[rows[stays]] = rows[stays]
    order[order < 0] = rows[~stays]
    return order

"""`Mutes`: which groups are muted at a time, as arrays over groups.

    entries of `mute` ─► Mutes.find(at) ─► Muted(flags, entries)

Periods and windows by the clock are computed. What a query mutes is told: live by its newest
answer, in a replay by the ranges of its series.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from promad.config.mute_settings import Mute
from promad.data.groups import Labels
from promad.events.mute_windows import WindowClock

Flags = NDArray[np.bool_]
Rows = NDArray[np.int64]

_TOLERANCE = 1e-3
"""Seconds by which a sample may miss a range of the grid."""


class MarkedSeries(NamedTuple):
    """When one series of a query mutes.

    Attributes:
        labels: those of the groups that it has; none mute all groups.
        ranges: unix seconds of a first and a last sample each, both included.
    """

    labels: Labels
    ranges: Sequence[tuple[float, float]]


MuteMarks = Mapping[str, Sequence[MarkedSeries]]
"""By query the series that mute."""


class Muted(NamedTuple):
    """Which groups are muted at one time.

    Attributes:
        flags: bool (groups,).
        entries: by which entry of `mute`, int64 (groups,); -1 where by none.
        counts: how many groups each entry mutes, int64 (entries,); a group counts for each of its
            entries.
        titles: of the entries.
        is_configured: whether there are entries at all.
    """

    flags: Flags
    entries: Rows
    counts: Rows
    titles: Sequence[str]
    is_configured: bool

    def find_title(self, row: int) -> str:
        """The title of the entry that mutes a group; empty if none does."""
        return self.titles[self.entries[row]] if self.flags[row] else ""


class Mutes:
    """The entries of `mute` on some groups; `answer`, `mark` and `adopt` alone change it."""

    def __init__(self, entries: Sequence[Mute], groups: Sequence[Labels]) -> None:
        self._entries = tuple(entries)
        self._groups = groups
        self._clocks = [WindowClock(entry) for entry in self._entries]
        self._chosen = [choose_groups(entry, groups) for entry in self._entries]
        self._titles = tuple(entry.title for entry in self._entries)
        self._rows_by_labels: dict[tuple[str, ...], Mapping[tuple[str, ...], Rows]] = {}
        self._answers: dict[str, tuple[Labels, ...]] = {}
        self._answered: dict[str, Flags] = {}
        self._marks: dict[str, _Marks] = {}
        self._newest: tuple[float, Muted] | None = None

    @property
    def queries(self) -> tuple[str, ...]:
        """The PromQL of the entries with a query, each once."""
        queries = (entry.query for entry in self._entries)
        return tuple(dict.fromkeys(query for query in queries if query is not None))

    def find(self, at: float) -> Muted:
        """Which groups are muted at a time, in unix seconds."""
        if self._newest is None or self._newest[0] != at:
            self._newest = (at, self._find(at))
        return self._newest[1]

    def _find(self, at: float) -> Muted:
        flags = np.zeros(len(self._groups), np.bool_)
        entries = np.full(len(self._groups), -1, np.int64)
        counts = np.zeros(len(self._entries), np.int64)
        for place, entry in reversed([*enumerate(self._entries)]):
            if entry.query is not None:
                own = self._find_by_query(entry.query, at) & self._chosen[place]
            elif self._clocks[place].is_open(at):
                own = self._chosen[place]
            else:
                continue
            flags |= own
            entries[own], counts[place] = place, own.sum()
        return Muted(flags, entries, counts, self._titles, bool(self._entries))

    def _find_by_query(self, query: str, at: float) -> Flags:
        if query in self._marks:
            return self._match(self._marks[query].list_labels(at))
        nothing = np.zeros(len(self._groups), np.bool_)
        return self._answered.get(query, nothing)

    def answer(self, query: str, series: Iterable[Labels]) -> None:
        """Let a query mute the groups of these series until it is answered again.

        Args:
            series: of each its labels as in `MarkedSeries`; none if the query mutes nothing, or
                if nobody knows.
        """
        given = tuple(dict.fromkeys(series))
        if self._answers.get(query) != given:
            self._answers[query], self._answered[query] = given, self._match(given)
        self._newest = None

    def mark(self, marks: MuteMarks) -> None:
        """Let queries mute what is marked, at its time."""
        self._marks = {query: _Marks.of(series) for query, series in marks.items()}
        self._newest = None

    def adopt(self, other: Mutes) -> None:
        """Take over what queries mute from mutes of other groups."""
        for query in set(self.queries) & other._answers.keys():
            self.answer(query, other._answers[query])
        self._marks, self._newest = other._marks, None

    def _match(self, series: Iterable[Labels]) -> Flags:
        """The groups that have the labels of any of the series: bool (groups,)."""
        found = np.zeros(len(self._groups), np.bool_)
        for labels in series:
            names = tuple(name for name, _ in labels)
            values = tuple(value for _, value in labels)
            if names not in self._rows_by_labels:
                self._rows_by_labels[names] = _index_groups(self._groups, names)
            rows = self._rows_by_labels[names].get(values)
            if rows is not None:
                found[rows] = True
        return found


def choose_groups(entry: Mute, groups: Sequence[Labels]) -> Flags:
    """The groups that an entry is about: bool (groups,)."""
    chosen = np.ones(len(groups), np.bool_)
    for name, wanted in entry.groups.items():
        pattern = re.compile(wanted, re.ASCII)  # as in RE2, where \d and \w are ASCII
        values = (dict(labels).get(name, "") for labels in groups)
        own = [value == wanted or pattern.fullmatch(value) is not None for value in values]
        chosen &= np.array(own, np.bool_)
    return chosen


def _index_groups(
    groups: Sequence[Labels], names: tuple[str, ...]
) -> Mapping[tuple[str, ...], Rows]:
    """The rows of the groups by their values of some labels; of groups that have all of these."""
    rows: dict[tuple[str, ...], list[int]] = {}
    for row, labels in enumerate(groups):
        own = dict(labels)
        if own.keys() >= set(names):
            rows.setdefault(tuple(own[name] for name in names), []).append(row)
    return {values: np.array(places, np.int64) for values, places in rows.items()}


class _Marks(NamedTuple):
    """The ranges of all series of a query: begin, end and series of each, (ranges,)."""

    starts: NDArray[np.float64]
    ends: NDArray[np.float64]
    series: Rows
    labels: Sequence[Labels]

    @staticmethod
    def of(marked: Sequence[MarkedSeries]) -> _Marks:
        ranges = [(*each, place) for place, one in enumerate(marked) for each in one.ranges]
        starts, ends, series = np.array(ranges, np.float64).reshape(-1, 3).T
        return _Marks(starts, ends, series.astype(np.int64), [one.labels for one in marked])

    def list_labels(self, at: float) -> list[Labels]:
        """The labels of the series that mute at a time."""
        inside = (self.starts - _TOLERANCE <= at) & (at <= self.ends + _TOLERANCE)
        return [self.labels[place] for place in np.unique(self.series[inside]).tolist()]

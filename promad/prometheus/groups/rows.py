"""From the series of an answer to rows of groups."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from promad.data.frame import points_between
from promad.data.groups import Grouping, Labels
from promad.prometheus.grid import Span, find_places
from promad.prometheus.parsing import Table, read_labels

Values = NDArray[np.float64]
Rows = NDArray[np.int64]

_MOST_KNOWN = 500_000
"""Series whose group is remembered: churn must not fill the memory."""
_NONE, _REFUSED = -1, -2


class _Answer(NamedTuple):
    """The label sets of an expression's last answer, and the number of each one's group."""

    metrics: bytes
    numbers: Rows


@dataclass(eq=False)
class GroupRows:
    """Gives each group a row, in the order in which the groups are first seen.

    The labels of a series are read once, and found again by their bytes. What is found is the
    number of a group, which stays the same while groups come and go, and by that its row.

    Attributes:
        groups: the groups that have a row.
        refused: groups that get none, and when each was last seen, in unix seconds.
        renumberings: how often groups got other numbers.
    """

    grouping: Grouping
    groups: list[Labels] = field(default_factory=list)
    refused: dict[Labels, float] = field(default_factory=dict)
    renumberings: int = 0
    _numbered: list[Labels] = field(default_factory=list)
    _number_of: dict[Labels, int] = field(default_factory=dict)
    _row_of: list[int] = field(default_factory=list)
    _known: dict[bytes, int] = field(default_factory=dict)
    _answers: dict[str, _Answer] = field(default_factory=dict)
    _table: Rows | None = None

    def find(self, metrics: Sequence[bytes], expr: str = "", at: float = 0.0) -> Rows:
        """The row of each series, by the JSON of its labels: int64 (series,); -1 if it has none.

        Args:
            expr: what they are the answer to; the same label sets as in its last are found at once.
            at: unix seconds of the answer.

        Raises:
            ValueError: if it is not the JSON of labels.
        """
        return self.find_rows(self._find_numbers(metrics, expr), at)

    def find_rows(self, numbers: Rows, at: float) -> Rows:
        """The rows of groups by their numbers, -1 for none: int64 (numbers,)."""
        rows = self._look_up(numbers)
        if (rows < 0).any():
            rows = self._find_others(numbers, rows, at)
        return np.asarray(rows, np.int64)

    def _look_up(self, numbers: Rows) -> Rows:
        """The rows of groups by their numbers; -1, of a series that is dropped, is the last."""
        if self._table is None or len(self._table) != len(self._row_of) + 1:
            self._table = np.append(self._row_of, _NONE).astype(np.int64)
        return np.asarray(self._table[numbers], np.int64)

    def _find_numbers(self, metrics: Sequence[bytes], expr: str) -> Rows:
        joined = b"\n".join(metrics)
        last = self._answers.get(expr)
        if last is not None and last.metrics == joined:
            return last.numbers
        known = self._known
        keys = [bytes(metric) for metric in metrics]
        numbers = [known[key] if key in known else self._add(key) for key in keys]
        self._answers[expr] = _Answer(joined, np.array(numbers, np.int64))
        return self._answers[expr].numbers

    def _add(self, metric: bytes) -> int:
        group = self.grouping.find_group(read_labels(metric))
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        number = self._known[metric] = -1 if group is None else self.find_number(group)
        return number

    def find_number(self, group: Labels) -> int:
        """The number of a group, which stays the same while `renumberings` does."""
        number = self._number_of.setdefault(group, len(self._numbered))
        if number == len(self._numbered):
            self._numbered.append(group)
            self._row_of.append(_REFUSED if group in self.refused else _NONE)
        return number

    def _find_others(self, numbers: Rows, rows: Rows, at: float) -> Rows:
        """The rows once groups without one have got one; it is noted which are refused."""
        for number in np.unique(numbers[rows < 0]).tolist():
            if number < 0:
                continue
            if self._row_of[number] == _REFUSED:
                self.refused[self._numbered[number]] = at
            else:
                self._row_of[number] = len(self.groups)
                self.groups.append(self._numbered[number])
                self._table = None
        return np.maximum(self._look_up(numbers), _NONE)

    def refuse(self, groups: Iterable[Labels], at: float) -> None:
        """Give these groups, which have no row, none from now on; `at` in unix seconds."""
        self._set_refused({**self.refused, **dict.fromkeys(groups, at)})

    def readmit(self, since: float = np.inf) -> None:
        """Give refused groups another chance that were not seen since then, in unix seconds."""
        self._set_refused({group: at for group, at in self.refused.items() if at >= since})

    def _set_refused(self, refused: dict[Labels, float]) -> None:
        changed = self.refused.keys() ^ refused.keys()
        self.refused, self._table = refused, None
        for group in changed:
            self._row_of[self.find_number(group)] = _REFUSED if group in refused else _NONE

    def keep(self, rows: Rows) -> None:
        """Forget all groups but those in these rows, which are numbered anew in this order."""
        kept = [self.groups[row] for row in rows.tolist()]
        for group in self.groups:
            self._row_of[self._number_of[group]] = _NONE
        for row, group in enumerate(kept):
            self._row_of[self._number_of[group]] = row
        self.groups, self._table = kept, None
        if len(self._numbered) > 2 * (len(kept) + len(self.refused)) + 1000:
            self._renumber()

    def _renumber(self) -> None:
        """Forget the numbers of groups that are gone."""
        self._numbered, self._number_of, self._row_of = [], {}, []
        self.renumberings += 1
        self._known.clear()
        self._answers.clear()
        for row, group in enumerate(self.groups):
            self._row_of[self.find_number(group)] = row
        for group in self.refused:
            self.find_number(group)


@dataclass(frozen=True, eq=False)
class Spread:
    """The samples of one query by group.

    Attributes:
        values: float64 (groups, samples); NaN where no series of a group has a value, and where
            several have one.
        overlaps: bool (groups, samples), where several have one; None if they do nowhere.
    """

    values: Values
    overlaps: NDArray[np.bool_] | None


def spread_samples(table: Table, rows: Rows, groups: int, span: Span, step: float) -> Spread:
    """The samples of a table at each time of the span, by group.

    Args:
        rows: of each series its group, -1 for none.
        groups: how many there are.

    Raises:
        ValueError: if a sample's time is not in the span, or a series has two values at one time.
    """
    samples = points_between(span.start, span.end, step)
    place, found = _find_cells(table, rows, samples, span, step)
    values = np.full(groups * samples, np.nan)
    values[place] = found
    if np.count_nonzero(~np.isnan(values)) == len(place):
        return Spread(values.reshape(groups, samples), None)
    series = np.repeat(np.arange(len(rows)), table.counts)
    series = series[~np.isnan(table.values) & (rows[series] >= 0)]
    metrics = [bytes(metric) for metric in table.metrics]
    _, names = np.unique(np.array(metrics, object), return_inverse=True)
    overlaps = _find_overlaps(place, names[series], found, len(values))
    values[overlaps] = np.nan
    return Spread(
        values.reshape(groups, samples),
        overlaps.reshape(groups, samples) if overlaps.any() else None,
    )


def _find_cells(
    table: Table, rows: Rows, samples: int, span: Span, step: float
) -> tuple[Rows, Values]:
    """The place of each known sample of a group, row by row, and its value; both (samples,)."""
    times = list_common_times(table)
    if times is None:
        index = find_places(table.times, span, step)
        rows = np.repeat(rows, table.counts)
        place = rows * samples + index
    else:
        index = find_places(times, span, step)
        place = (rows[:, np.newaxis] * samples + index).reshape(-1)
    used = ~np.isnan(table.values) & (place >= 0)
    return (place, table.values) if used.all() else (place[used], table.values[used])


def list_common_times(table: Table) -> NDArray[np.float64] | None:
    """The times of each series, float64 (samples,), if all have the same; None if not."""
    points = int(table.counts[0]) if len(table.counts) else 0
    if points == 0 or (table.counts != points).any():
        return None
    times = table.times.reshape(-1, points)
    return times[0] if (times == times[0]).all() else None


def _find_overlaps(place: Rows, series: Rows, values: Values, places: int) -> NDArray[np.bool_]:
    """The places at which several series have a value: bool (places,)."""
    order = np.lexsort((values, series, place))
    place, series, values = place[order], series[order], values[order]
    same = np.r_[False, (np.diff(place) == 0) & (np.diff(series) == 0)]
    if (same[1:] & (np.diff(values) != 0)).any():
        raise ValueError(
            "two values of one series at one time — query one replica, or deduplicate on the server"
        )
    return np.bincount(place[~same], minlength=places) > 1

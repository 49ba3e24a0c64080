"""From the series of an answer to rows of groups."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

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


@dataclass(eq=False)
class GroupRows:
    """Gives each group a row, in the order in which the groups are first seen.

    The labels of a series are read once, and found again by their bytes.

    Attributes:
        groups: the groups that have a row.
        refused: groups that get none.
    """

    grouping: Grouping
    groups: list[Labels] = field(default_factory=list)
    refused: set[Labels] = field(default_factory=set)
    _row_of: dict[Labels, int] = field(default_factory=dict)
    _known: dict[bytes, int] = field(default_factory=dict)

    def find(self, metrics: Sequence[bytes]) -> Rows:
        """The row of each series, by the JSON of its labels: int64 (series,); -1 if it is dropped.

        Raises:
            ValueError: if it is not the JSON of labels.
        """
        known = self._known
        keys = [bytes(metric) for metric in metrics]
        rows = [known[key] if key in known else self._add(key) for key in keys]
        return np.array(rows, np.int64)

    def _add(self, metric: bytes) -> int:
        group = self.grouping.find_group(read_labels(metric))
        if group is None or group in self.refused:
            row = -1
        elif (row := self._row_of.get(group, -1)) < 0:
            row = self._row_of[group] = len(self.groups)
            self.groups.append(group)
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[metric] = row
        return row

    def refuse(self, groups: Iterable[Labels], *, anew: bool) -> None:
        """Give these groups, which have no row, none from now on.

        Args:
            anew: forget whom was refused before.
        """
        before = len(self.refused)
        if anew:
            self.refused.clear()
        self.refused.update(groups)
        if len(self.refused) != before:
            self._known.clear()

    def keep(self, rows: Rows) -> None:
        """Forget all groups but those in these rows, which are numbered anew in this order."""
        self.groups = [self.groups[row] for row in rows.tolist()]
        self._row_of = {labels: row for row, labels in enumerate(self.groups)}
        self._known.clear()


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
    index = find_places(table.times, span, step)
    row_of_sample = np.repeat(rows, table.counts)
    used = ~np.isnan(table.values) & (row_of_sample >= 0)
    place = row_of_sample[used] * samples + index[used]
    values = np.full(groups * samples, np.nan)
    values[place] = table.values[used]
    counts = np.bincount(place, minlength=groups * samples)
    if not (counts > 1).any():
        return Spread(values.reshape(groups, samples), None)
    series = np.repeat(np.arange(len(rows)), table.counts)[used]
    metrics = [bytes(metric) for metric in table.metrics]
    _, names = np.unique(np.array(metrics, object), return_inverse=True)
    overlaps = _find_overlaps(place, names[series], table.values[used], len(values))
    values[overlaps] = np.nan
    return Spread(values.reshape(groups, samples), overlaps.reshape(groups, samples))


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

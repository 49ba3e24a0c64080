"""The newest samples of every query for every group, kept in memory and completed at each poll."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import floor

import numpy as np
from numpy.typing import NDArray

from promad.data.frame import MetricFrame
from promad.data.groups import Labels
from promad.errors import PrometheusError
from promad.prometheus.client import PrometheusClient
from promad.prometheus.groups.buffer import GroupBuffer
from promad.prometheus.groups.columns import Column
from promad.prometheus.groups.membership import Membership
from promad.prometheus.groups.options import PollOptions
from promad.prometheus.groups.rows import GroupRows
from promad.prometheus.groups.sources import ColumnSource, QueriedColumns

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]

_ROUNDING = 1e-9


@dataclass(frozen=True)
class GroupPoll:
    """What is known after a poll of groups.

    Attributes:
        frame: the newest samples of each group on the absolute grid; NaN = missing. It is a view
            that the next poll changes.
        failures: why a query got no answer, by alias; its new samples are missing.
        newest: unix time of the newest value of any group, by alias; None if there is none.
        corrected_from: by group the unix time of the earliest sample that is not what it was in
            the poll before, float64 (groups,); NaN if only new samples came.
        ambiguous: by row the query of which several series of the group have the newest value.
        refused: groups that are not admitted, because there are `max_groups` already.
        clock_offset: seconds that the server's clock is ahead of ours; None if unknown.
    """

    frame: MetricFrame
    failures: Mapping[str, PrometheusError]
    newest: Mapping[str, float | None]
    corrected_from: Values
    ambiguous: Mapping[int, str]
    refused: tuple[Labels, ...]
    clock_offset: float | None = None


class GroupPoller:
    """Keeps the newest samples of each query for each group.

    Only what is not known yet is asked for, and the last minute again. A group is admitted once it
    has two samples, and forgotten after `forget_after` without any; once there are `max_groups`, no
    other is admitted, and those that were there before a restart come first.

    Args:
        make_source: what the samples come from in place of queries, given the rows of the groups.
    """

    def __init__(
        self,
        client: PrometheusClient,
        options: PollOptions,
        make_source: Callable[[GroupRows], ColumnSource] | None = None,
    ) -> None:
        self._options = options
        self._rows = GroupRows(options.grouping)
        self._source = (
            make_source(self._rows) if make_source else QueriedColumns(client, options, self._rows)
        )
        self._buffer = GroupBuffer(options.samples, len(options.queries))
        self._members = Membership(
            self._rows, self._buffer, options.max_groups, options.forget_after
        )
        self._last_value: dict[str, float] = {}
        self._lagging = 0

    def prefer(self, groups: Iterable[Labels]) -> None:
        """Admit these groups before others, should there be too many."""
        self._members.prefer(groups)

    def poll(self, at: float) -> GroupPoll:
        """The newest samples up to the last multiple of the step that is not after `at`."""
        options, members = self._options, self._members
        newest = floor(at / options.step + 1e-9)
        start = (newest - options.samples + 1) * options.step
        asked_before = self._buffer.move_to(newest)
        if asked_before == 0:
            self._last_value.clear()
            members.seen_at = np.minimum(members.seen_at, newest * options.step)
        failures, columns = self._source.read(start, self._last_value, self._buffer.view())
        members.make_room()
        ambiguous = self._blank_overlaps(columns, newest * options.step)
        corrected_from = self._enter(columns, start, asked_before)
        order = members.choose(newest * options.step, ambiguous)
        self._note_lagging(newest * options.step)
        values = self._buffer.view()[: members.admitted]
        rows = order[: members.admitted].tolist()
        return GroupPoll(
            MetricFrame(start, options.step, tuple(options.queries), members.groups, values),
            failures,
            {alias: self._last_value.get(alias) for alias in options.queries},
            corrected_from[rows],
            {row: ambiguous[before] for row, before in enumerate(rows) if before in ambiguous}
            if ambiguous
            else {},
            tuple(self._rows.refused),
            self._source.clock_offset,
        )

    def _note_lagging(self, newest: float) -> None:
        """Let the source look for groups soon, if more than before have no new sample."""
        seen_at = self._members.seen_at[: self._members.admitted]
        before, self._lagging = self._lagging, int((seen_at < newest - self._options.step).sum())
        if self._lagging > before:
            self._source.note_missing()

    def _blank_overlaps(self, columns: Mapping[str, Column], newest: float) -> dict[int, str]:
        """Make all features missing where several series of a group have a value for one of them.

        Returns:
            The rows of the groups of which that is so now, with the query.
        """
        ambiguous: dict[int, str] = {}
        for alias, column in columns.items():
            if column.overlaps is None:
                continue
            rows, samples = column.overlaps.nonzero()
            for other in columns.values():
                place = samples + column.first - other.first
                inside = (place >= 0) & (rows < len(other.values))
                other.values[rows[inside], place[inside]] = np.nan
            for row in rows[samples == column.overlaps.shape[1] - 1].tolist():
                ambiguous.setdefault(row, alias)
                self._members.seen_at[row] = newest
        return ambiguous

    def _enter(self, columns: Mapping[str, Column], start: float, asked_before: int) -> Values:
        """Put the answers into the buffer.

        Returns:
            By row since when samples differ from what they were, unix seconds, float64 (rows,);
            NaN if only new samples came.
        """
        held, step = self._buffer.view(), self._options.step
        earliest = np.full(len(held), np.nan)
        for feature, alias in enumerate(self._options.queries):
            column = columns.get(alias)
            if column is None:
                continue
            now = column.values
            known = max(0, asked_before - column.first)
            before = held[: len(now), column.first : column.first + known, feature]
            changed = ~find_same(now[:, :known], before)
            held[: len(now), column.first + known :, feature] = now[:, known:]
            if changed.any():
                np.copyto(before, now[:, :known], where=changed)
                rows = np.flatnonzero(changed.any(axis=1))
                first_change = start + step * (column.first + changed[rows].argmax(axis=1))
                earliest[rows] = np.fmin(earliest[rows], first_change)
            self._see(alias, now, start + step * column.first)
        return earliest

    def _see(self, alias: str, values: Values, start: float) -> None:
        """Remember when each group, and any of them, had its newest value."""
        newest = np.full(len(values), -np.inf)
        for sample in range(values.shape[1] - 1, -1, -1):
            unseen = newest == -np.inf
            newest[unseen & ~np.isnan(values[:, sample])] = start + self._options.step * sample
            if sample and (newest > -np.inf).all():
                break
        seen_at = self._members.seen_at[: len(newest)]
        np.maximum(seen_at, newest, out=seen_at)
        if len(newest) and newest.max() > -np.inf:
            self._last_value[alias] = max(float(newest.max()), self._last_value.get(alias, -np.inf))


def find_same(now: Values, before: Values) -> Flags:
    """Where values are the same but for rounding, or both missing."""
    same = np.isnan(now) & np.isnan(before)
    same |= np.abs(now - before) <= _ROUNDING * np.abs(before)
    return same

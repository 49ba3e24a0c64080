"""The newest samples of every query for every group, kept in memory and completed at each poll."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from math import ceil, floor

import numpy as np
import structlog
from numpy.typing import NDArray

from promad.data.frame import MetricFrame
from promad.data.groups import Grouping, Labels
from promad.errors import BusyError, PrometheusError, UnreachableError
from promad.prometheus.client import PrometheusClient
from promad.prometheus.grid import Span, requests_for
from promad.prometheus.groups.buffer import GroupBuffer
from promad.prometheus.groups.freshness import build_stale_query, list_labels
from promad.prometheus.groups.rows import GroupRows, spread_samples
from promad.prometheus.one_series import add_alias, build_not_asked_error, check_warnings
from promad.prometheus.parsing import MOST_SERIES

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]
Rows = NDArray[np.int64]

_SETTLING_SECONDS = 60.0
_ROUNDING = 1e-9
_REFUSALS = frozenset({"bad_data", "execution"})

log = structlog.get_logger()


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


@dataclass(frozen=True)
class PollOptions:
    """What is polled.

    Attributes:
        queries: alias → PromQL.
        grouping: which group each series belongs to.
        step: seconds between samples.
        samples: how many of the newest are kept.
        stale_after: the age in seconds from which repeated samples count as missing.
        max_groups: groups that are admitted at most.
        forget_after: seconds without a sample after which a group is forgotten.
        allow_partial: whether answers with warnings are accepted.
    """

    queries: Mapping[str, str]
    grouping: Grouping
    step: float
    samples: int
    stale_after: float
    max_groups: int
    forget_after: float
    allow_partial: bool = False

    @property
    def most_series(self) -> int:
        """Series that an answer may have: more than are watched, so that the others are refused."""
        return max(MOST_SERIES, 4 * self.max_groups)


@dataclass(frozen=True)
class _Column:
    """One query's samples of a poll, from sample `first` of the buffer on.

    `values` and `overlaps` are (rows, samples); there may be more groups than rows by now.
    """

    first: int
    values: Values
    overlaps: Flags | None


class GroupPoller:
    """Keeps the newest samples of each query for each group.

    Only what is not known yet is asked for, and the last minute again. A group is admitted once it
    has two samples, and forgotten after `forget_after` without any; once there are `max_groups`, no
    other is admitted, and those that were there before a restart come first.
    """

    def __init__(self, client: PrometheusClient, options: PollOptions) -> None:
        self._client = client
        self._options = options
        self._rows = GroupRows(options.grouping)
        self._buffer = GroupBuffer(options.samples, len(options.queries))
        self._admitted = 0
        self._groups: tuple[Labels, ...] = ()
        self._seen_at = np.empty(0)
        self._chosen_at = -np.inf
        self._last_value: dict[str, float] = {}
        self._refused_alias: str | None = None
        rules = options.grouping.rules
        labels = list_labels(
            options.grouping.by, (name for rule in rules for name in rule.source_labels)
        )
        self._stale = build_stale_query(options.queries, labels, options.stale_after)
        self._has_ages = self._stale is not None
        self._knows_ages = False
        self._ageless: set[str] = set()
        self._labels = labels
        self._preferred: frozenset[Labels] = frozenset()

    def prefer(self, groups: Iterable[Labels]) -> None:
        """Admit these groups before others, should there be too many."""
        self._preferred = frozenset(groups)

    def poll(self, at: float) -> GroupPoll:
        """The newest samples up to the last multiple of the step that is not after `at`."""
        options = self._options
        newest = floor(at / options.step + 1e-9)
        start = (newest - options.samples + 1) * options.step
        asked_before = self._buffer.move_to(newest)
        if asked_before == 0:
            self._last_value.clear()
            self._seen_at = np.minimum(self._seen_at, newest * options.step)
        failures, columns = self._ask_all(start)
        self._make_room()
        ambiguous = self._blank_overlaps(columns, newest * options.step)
        corrected_from = self._enter(columns, start, asked_before)
        order = self._choose_groups(newest * options.step, ambiguous)
        values = self._buffer.view()[: self._admitted]
        rows = order[: self._admitted].tolist()
        return GroupPoll(
            MetricFrame(start, options.step, tuple(options.queries), self._groups, values),
            failures,
            {alias: self._last_value.get(alias) for alias in options.queries},
            corrected_from[rows],
            {row: ambiguous[before] for row, before in enumerate(rows) if before in ambiguous}
            if ambiguous
            else {},
            tuple(self._rows.refused),
            self._client.clock_offset,
        )

    def _ask_all(self, start: float) -> tuple[dict[str, PrometheusError], dict[str, _Column]]:
        """Each query's answer, or why there is none; then what is too old is taken out."""
        failures: dict[str, PrometheusError] = {}
        columns: dict[str, _Column] = {}
        lost: PrometheusError | None = None
        queries = self._options.queries
        for alias in sorted(queries, key=lambda alias: alias == self._refused_alias):
            if lost is not None and self._refused_alias is not None:
                failures[alias] = build_not_asked_error(alias, self._refused_alias, lost)
                continue
            try:
                columns[alias] = self._ask(alias, start)
            except PrometheusError as error:
                failures[alias] = add_alias(alias, error)
                if isinstance(error, UnreachableError | BusyError):
                    lost, self._refused_alias = error, alias
        if self._has_ages and columns:
            self._drop_old(start, columns, failures)
        return failures, columns

    def _ask(self, alias: str, start: float) -> _Column:
        options = self._options
        settling = ceil(_SETTLING_SECONDS / options.step)
        known = self._last_value.get(alias, start - options.step)
        first = max(0, round((known - start) / options.step) + 1 - settling)
        expr = options.queries[alias]
        return self._spread(expr, expr, first, start, self._client.max_points)

    def _spread(self, expr: str, shown: str, first: int, start: float, most_points: int) -> _Column:
        """The samples of an expression by row, from sample `first` on.

        Raises:
            PrometheusError: if it fails, or the server warned and that is not accepted.
        """
        options, client, most = self._options, self._client, self._options.most_series
        step = options.step
        span = Span(start + first * step, start + (options.samples - 1) * step)
        bodies = [
            body
            for part in requests_for([span], step, most_points)
            for body in client.range_bodies(
                expr, part.start, part.end, step, subject=shown, most_series=most
            )
        ]
        answers = client.read_tables(bodies, shown, most)
        try:
            for answer in answers:
                check_warnings(shown, answer.warnings, options.allow_partial)
            rows = [self._rows.find(each.table.metrics, expr, span.end) for each in answers]
            groups = len(self._rows.groups)
            parts = [
                spread_samples(answer.table, own, groups, span, step)
                for answer, own in zip(answers, rows, strict=True)
            ]
        except ValueError as error:
            raise client.bad_answer(shown, str(error)) from None
        if len(parts) == 1:
            return _Column(first, parts[0].values, parts[0].overlaps)
        values = np.full((groups, options.samples - first), np.nan)
        overlaps = np.zeros(values.shape, np.bool_)
        for part in parts:  # parts of the time, so they share no sample
            np.copyto(values, part.values, where=~np.isnan(part.values))
            overlaps |= False if part.overlaps is None else part.overlaps
        return _Column(first, values, overlaps if overlaps.any() else None)

    def _drop_old(
        self,
        start: float,
        columns: dict[str, _Column],
        failures: dict[str, PrometheusError],
    ) -> None:
        """Make values missing that rest on samples older than `stale_after`."""
        first = min(column.first for column in columns.values())
        shown = "age of the samples of all queries"
        try:
            if (
                self._stale is not None
                and not self._find_old(self._stale, shown, first, start).any()
            ):
                return
        except PrometheusError as error:
            if error.reason not in _REFUSALS:
                failures.update({alias: add_alias(alias, error) for alias in columns})
                columns.clear()
                return
            if not self._knows_ages:
                self._stale = None
        self._drop_old_by_query(columns, failures, start)

    def _drop_old_by_query(
        self, columns: dict[str, _Column], failures: dict[str, PrometheusError], start: float
    ) -> None:
        refused: dict[str, PrometheusError] = {}
        for alias in list(columns):
            try:
                self._drop_old_of(alias, columns[alias], start)
            except PrometheusError as error:
                if error.reason in _REFUSALS and not self._knows_ages:
                    refused[alias] = error
                    continue
                failures[alias] = add_alias(alias, error)
                del columns[alias]
        if refused:  # no one wrote the question, and no one could fix it
            self._ageless.update(refused)
            alias, first = next(iter(refused.items()))
            log.warning(
                "age of samples not checked", queries=len(refused), first=alias, err=str(first)
            )
            self._has_ages = not self._ageless >= self._options.queries.keys()

    def _drop_old_of(self, alias: str, column: _Column, start: float) -> None:
        """The same for one query; a server that refused the question at first is not asked again.

        Raises:
            PrometheusError: if the age is not known.
        """
        expr = self._options.queries[alias]
        query = build_stale_query({alias: expr}, self._labels, self._options.stale_after)
        if query is None or alias in self._ageless:
            return
        old = self._find_old(query, f"age of the samples of {expr}", column.first, start)
        rows = min(len(old), len(column.values))
        column.values[:rows][old[:rows]] = np.nan

    def _find_old(self, query: str, shown: str, first: int, start: float) -> Flags:
        """Where the samples are too old: bool (rows, samples from `first` on)."""
        stale = self._spread(query, shown, first, start, self._client.max_points).values
        self._knows_ages = True
        return ~np.isnan(stale)

    def _make_room(self) -> None:
        rows = len(self._rows.groups)
        self._buffer.grow(rows)
        unseen = np.full(rows - len(self._seen_at), -np.inf)
        self._seen_at = np.concatenate([self._seen_at, unseen])

    def _blank_overlaps(self, columns: Mapping[str, _Column], newest: float) -> dict[int, str]:
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
                self._seen_at[row] = newest
        return ambiguous

    def _enter(self, columns: Mapping[str, _Column], start: float, asked_before: int) -> Values:
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
        self._seen_at[: len(newest)] = np.maximum(self._seen_at[: len(newest)], newest)
        if len(newest) and newest.max() > -np.inf:
            self._last_value[alias] = max(float(newest.max()), self._last_value.get(alias, -np.inf))

    def _choose_groups(self, newest: float, ambiguous: Collection[int]) -> Rows:
        """Forget and admit groups: the rows they had, in the order of those that they have now.

        While time stands still, nothing changes: a tick without a new sample knows no new group.
        A group with several series has no sample, but it is there, so it is admitted.
        """
        options, rows = self._options, len(self._rows.groups)
        everyone = np.arange(rows)
        if newest == self._chosen_at:
            return everyone
        self._chosen_at = newest
        self._rows.readmit(newest - options.forget_after)
        fresh = newest - self._seen_at <= options.forget_after
        kept = np.flatnonzero(fresh[: self._admitted])
        waiting = self._admitted + np.flatnonzero(fresh[self._admitted :])
        if len(kept) < self._admitted:
            self._rows.readmit()
        if len(kept) == rows:
            return everyone
        sightings = self._count_sightings(waiting)
        sightings[np.isin(waiting, list(ambiguous))] = 2
        ready = self._rank(waiting[sightings >= 2])
        admitted = ready[: max(0, options.max_groups - len(kept))]
        refused = [self._rows.groups[row] for row in ready[len(admitted) :].tolist()]
        chosen = fill_holes(np.concatenate([kept, admitted]))
        order = np.concatenate([chosen, waiting[sightings < 2]])
        if not np.array_equal(order, everyone):
            self._buffer.keep(order)
            self._seen_at = self._seen_at[order]
            self._rows.keep(order)
        self._rows.refuse(refused, newest)
        self._admitted = len(kept) + len(admitted)
        self._groups = tuple(self._rows.groups[: self._admitted])
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


def find_same(now: Values, before: Values) -> Flags:
    """Where values are the same but for rounding, or both missing."""
    same = np.isnan(now) & np.isnan(before)
    same |= np.abs(now - before) <= _ROUNDING * np.abs(before)
    return same

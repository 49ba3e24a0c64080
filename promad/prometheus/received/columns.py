"""`ReceivedColumns`: what was received, in the form of a poll; what was missed is queried."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from promad.config.durations import format_duration
from promad.errors import PrometheusError
from promad.prometheus.groups.columns import Column
from promad.prometheus.groups.options import PollOptions
from promad.prometheus.groups.rows import GroupRows
from promad.prometheus.groups.sources import Columns, ColumnSource
from promad.prometheus.received.store import SampleStore, Slots

Values = NDArray[np.float64]
Rows = NDArray[np.int64]

_RETRY_SECONDS = 60.0
"""Between two attempts to query what was missed."""
_START_SECONDS = 60.0
"""For how long samples are queried after the start, as long as none arrive: a sender that could not
reach promad waits before it tries again, and sends what is old first."""

OnCatchUp = Callable[[Mapping[str, PrometheusError]], None]
"""Called with the queries that failed when what was missed was queried."""


@dataclass(frozen=True, eq=False)
class _Cells:
    """Received values at consecutive grid times, all arrays (times, rows, queries).

    Attributes:
        known: whether there is a sample that is not too old, even if it says that there is none.
        overlaps: whether several series of a group have a value; None if they do nowhere.
    """

    first: int
    values: Values
    known: NDArray[np.bool_]
    overlaps: NDArray[np.bool_] | None


class ReceivedColumns:
    """The newest received samples by group.

    What was missed is queried in the first minute, until samples arrive, and once they arrive again
    after they had stopped.
    Without samples for `stale_after`, or a step where that is longer, every query has failed.
    """

    def __init__(
        self,
        store: SampleStore,
        options: PollOptions,
        rows: GroupRows,
        missed: ColumnSource,
        on_catch_up: OnCatchUp = lambda failures: None,
    ) -> None:
        self._store = store
        self._options = options
        self._rows = rows
        self._missed = missed
        self._on_catch_up = on_catch_up
        self._start_anew()
        self._numbers = np.zeros(0, np.int64)
        self._numbered: tuple[int, int] = (0, 0)

    def _start_anew(self) -> None:
        """At the start, and where the clock was set back."""
        self._is_behind = True
        self._begun_at: float | None = None
        self._asks_from = self._fresh_until = -np.inf
        self._read_until: int | None = None

    @property
    def clock_offset(self) -> float | None:
        """None: samples that lie in the future are refused."""
        return None

    def read(self, start: float, last_value: Mapping[str, float], held: Values) -> Columns:
        """What was received of each query, and what was missed; see `ColumnSource`."""
        options = self._options
        begin = round(start / options.step)
        newest = begin + options.samples - 1
        end = newest * options.step
        if self._read_until is not None and newest < self._read_until:
            self._start_anew()
        arrives, until = self._arrives(end), self._read_until
        self._is_behind = self._is_behind or until is None or newest - until > self._store.kept
        missed = (
            self._catch_up(start, end, last_value, held) if self._must_ask(arrives, end) else {}
        )
        self._is_behind = self._is_behind or not arrives
        first = max(begin, self._find_first(newest, bool(missed)))
        self._read_until = newest
        cells = self._place(first - begin, self._store.read(first, newest), held, end)
        columns = {
            alias: _join(missed.get(alias), cells, feature)
            for feature, alias in enumerate(options.queries)
        }
        self._fresh_until = max(self._fresh_until, end if missed else self._store.newest or -np.inf)
        if end - self._fresh_until <= max(options.stale_after, options.step):
            return Columns({}, columns)
        return Columns({alias: self._explain(alias) for alias in options.queries}, columns)

    def note_missing(self) -> None:
        """Groups that had samples have no new ones: what is asked for may be for others."""
        self._missed.note_missing()

    def _find_first(self, newest: int, everything: bool) -> int:
        """The first grid time at which something may be new."""
        touched, until = self._store.take_touched(), self._read_until
        if everything or until is None:
            return newest - self._store.kept + 1
        return min(newest, until + 1, newest if touched is None else touched)

    def _arrives(self, end: float) -> bool:
        """Whether samples of this grid time, or of the one before, were received."""
        newest = self._store.newest
        return newest is not None and newest > end - 2 * self._options.step

    def _must_ask(self, arrives: bool, end: float) -> bool:
        """Whether something was missed and can be had, or a sender may not have begun yet."""
        if self._begun_at is None:
            self._begun_at = end
        return self._is_behind and (arrives or end - self._begun_at < _START_SECONDS)

    def _catch_up(
        self, start: float, end: float, last_value: Mapping[str, float], held: Values
    ) -> Mapping[str, Column]:
        """The answers of queries for what was missed; none if they are not due again."""
        if end < self._asks_from:
            return {}
        self._asks_from = end + _RETRY_SECONDS
        failures, columns = self._missed.read(start, last_value, held)
        self._on_catch_up(failures)
        self._is_behind = bool(failures)
        if not failures:
            self._asks_from = end
        return columns

    def _explain(self, alias: str) -> PrometheusError:
        newest = self._store.newest
        ago = format_duration(round(self._options.stale_after))
        fault = (
            "no samples were received by remote write"
            if newest is None
            else f"no samples were received by remote write for more than {ago}"
        )
        return PrometheusError(
            f"query {alias}: {fault} — check the recording rules and remote_write of the sender",
            "not_received",
            fault,
        )

    def _place(self, first: int, slots: Slots, held: Values, at: float) -> _Cells:
        """Received values by row; where there is no sample, what is held stays."""
        series = slots.values.shape[1]
        used = np.flatnonzero(slots.known.any(axis=0))
        rows = np.full(series, -1, np.int64)
        rows[used] = self._rows.find_rows(self._find_numbers(slots)[used], at)
        count, features = len(self._rows.groups), len(self._options.queries)
        shape = (len(slots.values), count, features)
        values = np.full(shape, np.nan)
        values[:, : len(held)] = held[:, first:].transpose(1, 0, 2)
        known, overlaps = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
        cell = rows * features + slots.features
        for place in range(len(values)):
            seen = slots.known[place] & (rows >= 0)
            _scatter(values[place], known[place], overlaps[place], cell, slots.values[place], seen)
        return _Cells(first, values, known, overlaps if overlaps.any() else None)

    def _find_numbers(self, slots: Slots) -> Rows:
        """The number of the group of each series."""
        series, state = slots.values.shape[1], (slots.changes, self._rows.renumberings)
        if state != self._numbered:
            self._numbers, self._numbered = np.zeros(0, np.int64), state
        new = [self._rows.find_number(each) for each in slots.groups[len(self._numbers) : series]]
        self._numbers = np.concatenate([self._numbers, np.array(new, np.int64)])
        return self._numbers


def _scatter(
    values: Values,
    known: NDArray[np.bool_],
    overlaps: NDArray[np.bool_],
    cell: Rows,
    sent: Values,
    seen: NDArray[np.bool_],
) -> None:
    """Write the values of one grid time into their cells: (rows, queries).

    A series that has ended leaves its cell to another one.
    """
    flat = values.reshape(-1)
    known.reshape(-1)[cell[seen]] = True
    flat[cell[seen]] = np.nan
    there = seen & ~np.isnan(sent)
    flat[cell[there]] = sent[there]
    several = np.bincount(cell[there], minlength=flat.size) > 1
    if several.any():
        overlaps.reshape(-1)[:] = several
        flat[several] = np.nan


def _join(missed: Column | None, cells: _Cells, feature: int) -> Column:
    """The column of a query: what was received, and before and between it what was missed."""
    values, known = cells.values[:, :, feature].T, cells.known[:, :, feature].T
    overlaps = None if cells.overlaps is None else cells.overlaps[:, :, feature].T
    if missed is None:
        return Column(cells.first, values, overlaps)
    first = min(missed.first, cells.first)
    shape = (len(values), values.shape[1] + cells.first - first)
    joined, several = np.full(shape, np.nan), np.zeros(shape, np.bool_)
    joined[:, cells.first - first :] = values
    asked = missed.values.shape
    joined[: asked[0], missed.first - first :] = missed.values
    if missed.overlaps is not None:
        several[: asked[0], missed.first - first :] = missed.overlaps
    np.copyto(joined[:, cells.first - first :], values, where=known)
    received = np.zeros(known.shape, np.bool_) if overlaps is None else overlaps
    np.copyto(several[:, cells.first - first :], received, where=known)
    return Column(first, joined, several if several.any() else None)

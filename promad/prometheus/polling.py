"""The newest samples of every query, kept in memory and completed at each poll."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil, floor, isnan

import numpy as np
from numpy.typing import NDArray

from promad.data.frame import MetricFrame, single_group
from promad.errors import BusyError, PrometheusError, UnreachableError
from promad.prometheus.client import PrometheusClient
from promad.prometheus.grid import Span, requests_for
from promad.prometheus.one_series import (
    MOST_PARTS,
    OneSeries,
    add_alias,
    build_not_asked_error,
    require_one,
    take_series,
    take_table,
)
from promad.prometheus.sample_ages import SampleAges
from promad.prometheus.united import UnitedQueries

Samples = NDArray[np.float64]

_SETTLING_SECONDS = 60.0
"""For how long a sample may still change: VictoriaMetrics repeats values for its newest 30 s."""
_SAME = 1e-9
"""Relative difference of two answers that only add up in another order."""


@dataclass(frozen=True, eq=False)
class _Column:
    """The values of a query over a span, float64 (samples,)."""

    span: Span
    values: Samples


@dataclass(frozen=True)
class Poll:
    """What is known after a poll.

    Attributes:
        frame: the newest samples on the absolute grid; NaN = missing. Later polls leave it be.
        failures: why a query got no answer, by alias; its new samples are missing.
        newest: unix time of the newest value, by alias; None where there is no value at all.
        corrected_from: unix time of the earliest sample that is not what it was in the poll before:
            another value, late, or gone; None if only new samples came.
        clock_offset: seconds that the server's clock is ahead of ours; None if unknown.
    """

    frame: MetricFrame
    failures: Mapping[str, PrometheusError]
    newest: Mapping[str, float | None]
    corrected_from: float | None = None
    clock_offset: float | None = None


class Poller:
    """Keeps the newest `samples` samples of each query (alias → PromQL), `step` seconds apart.

    Only what is not final yet is asked for: from a minute before the newest value of each query,
    so an outage is caught up with by itself, and values that were provisional are corrected.
    `stale_after`, in seconds, is the age from which samples that the server merely repeats count
    as missing, and with them what was computed from them.
    """

    def __init__(
        self,
        client: PrometheusClient,
        queries: Mapping[str, str],
        step: float,
        samples: int,
        stale_after: float,
        *,
        allow_partial: bool = False,
    ) -> None:
        self._client = client
        self._queries = dict(queries)
        self._step = step
        self._samples = samples
        self._ages = SampleAges(client, queries, step, stale_after, allow_partial=allow_partial)
        self._union = UnitedQueries(client, queries, step, allow_partial=allow_partial)
        self._allow_partial = allow_partial
        self._columns = {alias: column for column, alias in enumerate(queries)}
        self._refused: str | None = None
        self._last: Poll | None = None

    def poll(self, at: float) -> Poll:
        """The `samples` newest samples up to the last multiple of the step that is not after `at`.

        If that is the time of the poll before, only what failed then is asked again, and nothing
        if nothing failed. If time went backwards, everything is asked anew.
        """
        newest_step = floor(at / self._step + 1e-9)
        start = (newest_step - self._samples + 1) * self._step
        if self._last is None or self._last.failures or start != self._last.frame.start:
            known, asked_before = self._move_to(start)
            values = known.copy()
            failures = self._complete(start, values)
            _keep_rounded(known, values)
            values.flags.writeable = False
            frame = single_group(start, self._step, tuple(self._queries), values)
            changed = (values != known) & ~(np.isnan(values) & np.isnan(known))
            rows = np.flatnonzero(changed[:asked_before].any(axis=1))
            corrected_from = float(frame.times[rows[0]]) if rows.size else None
            newest, clock_offset = _find_newest(frame), self._client.clock_offset
            self._last = Poll(frame, failures, newest, corrected_from, clock_offset)
        elif self._last.corrected_from is not None:
            self._last = replace(self._last, corrected_from=None)
        return self._last

    def adopt(self, other: Poller) -> None:
        """Continue with the samples that another poller of the same queries has, if it has enough.

        What a query that fails now has yielded before stays known.
        """
        if (
            other._last is None
            or other._queries != self._queries
            or other._step != self._step
            or other._samples < self._samples
        ):
            return
        frame = other._last.frame
        newest = frame.slice(frame.samples - self._samples, frame.samples)
        self._last = replace(other._last, frame=newest, corrected_from=None)

    def _move_to(self, start: float) -> tuple[Samples, int]:
        """A copy of what is known, (samples, features), and how many samples were asked before."""
        values = np.full((self._samples, len(self._queries)), np.nan)
        if self._last is None:
            return values, 0
        known = self._last.frame
        moved = round((start - known.start) / self._step)
        if not 0 <= moved < self._samples:
            return values, 0
        values[: self._samples - moved] = known.values[0, moved:]
        return values, self._samples - moved

    def _complete(self, start: float, values: Samples) -> dict[str, PrometheusError]:
        """Ask for what is not final at the end of each column; why some of it is still missing."""
        columns, failures = self._ask_queries(start, values)
        failures |= self._drop_old(columns)
        for alias, column in columns.items():
            if alias not in failures:
                held = values[:, self._columns[alias]]
                held[len(held) - len(column.values) :] = column.values
        return {alias: failures[alias] for alias in self._queries if alias in failures}

    def _ask_queries(
        self, start: float, known: Samples
    ) -> tuple[dict[str, _Column], dict[str, PrometheusError]]:
        """The end of each column, and why some cannot be had."""
        spans = self._find_spans(start, known)
        asked = {alias: spans[alias] for alias in self._sort_queries() if alias in spans}
        found = self._union.ask(asked)
        columns = {alias: _Column(asked[alias], values) for alias, values in found.values.items()}
        failures: dict[str, PrometheusError] = {}
        lost: PrometheusError | None = None
        if found.lost is not None:
            self._refused, lost = found.lost
            failures[self._refused] = add_alias(self._refused, lost)
        for alias, span in asked.items():
            if alias in columns or alias in failures:
                continue
            if lost is not None and self._refused is not None:
                failures[alias] = build_not_asked_error(alias, self._refused, lost)
                continue
            try:
                columns[alias] = self._ask_alone(alias, span)
            except PrometheusError as error:
                failures[alias] = add_alias(alias, error)
                if isinstance(error, UnreachableError | BusyError):
                    lost, self._refused = error, alias
        return columns, failures

    def _ask_alone(self, alias: str, span: Span) -> _Column:
        """The end of a column; what came of the query decides whether it is asked with others."""
        try:
            values = self._ask(self._queries[alias], span)
        except PrometheusError:
            self._union.note_failure(alias)
            raise
        self._union.note_answer(alias, has_samples=not np.isnan(values).all())
        return _Column(span, values)

    def _sort_queries(self) -> list[str]:
        """The queries in the order of the poll.

        The one after which the rest was not asked comes last, in case it alone was the reason.
        """
        return sorted(self._queries, key=lambda alias: alias == self._refused)

    def _find_spans(self, start: float, known: Samples) -> dict[str, Span]:
        """What to ask each query for: from a minute before its newest value on."""
        samples = len(known)
        end = start + (samples - 1) * self._step
        unknown_from = samples - np.argmax(~np.isnan(known[::-1]), axis=0)
        unknown_from[np.isnan(known).all(axis=0)] = 0
        settling = ceil(_SETTLING_SECONDS / self._step)
        return {
            alias: Span(start + max(0, first - settling) * self._step, end)
            for alias, first in zip(self._queries, unknown_from.tolist(), strict=True)
            if first < samples
        }

    def _drop_old(self, columns: dict[str, _Column]) -> dict[str, PrometheusError]:
        """Make values missing that are merely repeated; why that is not known of some columns."""
        asked = [
            alias
            for alias, column in columns.items()
            if self._ages.has_sources(alias) and not np.isnan(column.values).all()
        ]
        if not asked:
            return {}
        start = min(columns[alias].span.start for alias in asked)
        end = columns[asked[0]].span.end
        fresh, failures = self._ages.find_fresh(asked, Span(start, end))
        for alias, flags in fresh.items():
            values = columns[alias].values
            values[~flags[len(flags) - len(values) :]] = np.nan
        return failures

    def _ask(self, expr: str, span: Span) -> Samples:
        """The samples of the span; where several series overlap earlier than now, they are missing.

        Raises:
            PrometheusError: if several series have a value at the end of the span, among others.
        """
        parts = requests_for([span], self._step, self._client.max_points)
        taken = [self._ask_once(expr, part) for part in parts]
        require_one(expr, taken[-1].newest)
        return np.concatenate([part.values for part in taken])

    def _ask_once(self, expr: str, span: Span) -> OneSeries:
        client, step = self._client, self._step
        bodies = client.range_bodies(expr, span.start, span.end, step)
        tables = client.read_tables(bodies, expr, MOST_PARTS)
        try:
            if len(tables) == 1 and len(tables[0].table.metrics) == 1:
                return take_table(expr, tables[0], span, step, self._allow_partial)
            answer = client.read(bodies, expr)
            return take_series(expr, answer, span, step, self._allow_partial)
        except ValueError as error:
            raise client.bad_answer(expr, str(error)) from None


def _keep_rounded(before: Samples, now: Samples) -> None:
    """Undo in `now` where only rounding makes a difference."""
    same = np.abs(now - before) <= _SAME * np.abs(before)
    np.copyto(now, before, where=same)


def _find_newest(frame: MetricFrame) -> dict[str, float | None]:
    known = ~np.isnan(frame.values[0])
    last = frame.samples - 1 - np.argmax(known[::-1], axis=0)
    newest = np.where(known.any(axis=0), frame.times[last], np.nan).tolist()
    return {
        alias: None if isnan(at) else at for alias, at in zip(frame.features, newest, strict=True)
    }

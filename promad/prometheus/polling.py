"""The newest samples of every query, kept in memory and completed at each poll."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil, floor

import numpy as np
import structlog
from numpy.typing import NDArray

from promad.data.frame import MetricFrame, single_group
from promad.errors import BusyError, PrometheusError, UnreachableError
from promad.prometheus.client import PrometheusClient
from promad.prometheus.freshness import Source, find_sources
from promad.prometheus.grid import Span, requests_for
from promad.prometheus.one_series import (
    OneSeries,
    add_alias,
    build_not_asked_error,
    require_one,
    take_series,
)

Samples = NDArray[np.float64]

_PIECE_SECONDS = 7200.0
"""Time of one request for the times of samples: its cost in Prometheus grows with the square."""
_REFUSALS = frozenset({"bad_data", "execution", "several_series"})

_SETTLING_SECONDS = 60.0
"""For how long a sample may still change: VictoriaMetrics repeats values for its newest 30 s."""
_SAME = 1e-9
"""Relative difference of two answers that only add up in another order."""

log = structlog.get_logger()


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
        self._stale_after = stale_after
        self._allow_partial = allow_partial
        self._sources = {alias: list(_find_known(alias, queries[alias])) for alias in queries}
        self._accepted: set[Source] = set()
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
        failures: dict[str, PrometheusError] = {}
        lost: PrometheusError | None = None
        for alias in self._sort_queries():
            if lost is not None and self._refused is not None:
                failures[alias] = build_not_asked_error(alias, self._refused, lost)
                continue
            try:
                self._complete_column(alias, start, values[:, self._columns[alias]])
            except PrometheusError as error:
                failures[alias] = add_alias(alias, error)
                if isinstance(error, UnreachableError | BusyError):
                    lost, self._refused = error, alias
        return {alias: failures[alias] for alias in self._queries if alias in failures}

    def _sort_queries(self) -> list[str]:
        """The queries in the order of the poll.

        The one after which the rest was not asked comes last, in case it alone was the reason.
        """
        return sorted(self._queries, key=lambda alias: alias == self._refused)

    def _complete_column(self, alias: str, start: float, values: Samples) -> None:
        known = np.flatnonzero(~np.isnan(values))
        missing = int(known[-1]) + 1 if known.size else 0
        if missing == len(values):
            return
        first = max(0, missing - ceil(_SETTLING_SECONDS / self._step))
        span = Span(start + first * self._step, start + (len(values) - 1) * self._step)
        values[first:] = _correct(values[first:], self._fetch(alias, span))

    def _fetch(self, alias: str, span: Span) -> Samples:
        """The query's values over the span, without those that are merely repeated."""
        expr = self._queries[alias]
        values = self._ask(expr, expr, span, self._client.max_points)
        evaluated_at = span.start + self._step * np.arange(len(values))
        for source in tuple(self._sources[alias]):
            if np.isnan(values).all():
                break
            sampled_at = self._ask_times(alias, source, span)
            if sampled_at is not None:
                age = evaluated_at - source.offset - sampled_at
                values = np.where(age <= self._stale_after, values, np.nan)
        return values

    def _ask_times(self, alias: str, source: Source, span: Span) -> Samples | None:
        """When the source was sampled, or None if the server does not accept the question.

        It is not asked again then: no one wrote the question, and no one could fix it. Once it was
        accepted, a refusal is a failure like any other.
        """
        shown = f"age of the samples of {self._queries[alias]}"
        most = min(max(1, round(_PIECE_SECONDS / self._step)), self._client.max_points)
        try:
            times = self._ask(source.query, shown, span, most)
        except PrometheusError as error:
            if error.reason not in _REFUSALS or source in self._accepted:
                raise
            self._sources[alias].remove(source)
            log.warning("age of samples not checked", query=alias, err=str(error))
            return None
        self._accepted.add(source)
        return times

    def _ask(self, expr: str, shown: str, span: Span, most: int) -> Samples:
        """The samples of the span; where several series overlap earlier than now, they are missing.

        Raises:
            PrometheusError: if several series have a value at the end of the span, among others.
        """
        parts = requests_for([span], self._step, most)
        taken = [self._ask_once(expr, shown, part) for part in parts]
        require_one(shown, taken[-1].newest)
        return np.concatenate([part.values for part in taken])

    def _ask_once(self, expr: str, shown: str, span: Span) -> OneSeries:
        answer = self._client.query_range(expr, span.start, span.end, self._step, subject=shown)
        try:
            return take_series(shown, answer, span, self._step, self._allow_partial)
        except ValueError as error:
            raise self._client.bad_answer(shown, str(error)) from None


def _find_known(alias: str, expr: str) -> tuple[Source, ...]:
    """The sources that can be asked for; logs it if some cannot."""
    sources = find_sources(expr)
    if sources.unknown:
        log.info("age of samples not checked", query=alias, reason=sources.unknown)
    return sources.known


def _correct(before: Samples, now: Samples) -> Samples:
    """The values of now, but those of before where only rounding makes a difference."""
    return np.where(np.isclose(now, before, rtol=_SAME, atol=0.0), before, now)


def _find_newest(frame: MetricFrame) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for alias, values in zip(frame.features, frame.values[0].T, strict=True):
        known = np.flatnonzero(~np.isnan(values))
        found[alias] = float(frame.times[known[-1]]) if known.size else None
    return found

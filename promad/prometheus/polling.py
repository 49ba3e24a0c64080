"""The newest samples of every query, kept in memory and completed at each poll."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import floor

import numpy as np
from numpy.typing import NDArray

from promad.data.frame import MetricFrame, single_group
from promad.errors import PrometheusError, UnreachableError
from promad.prometheus.client import PrometheusClient
from promad.prometheus.freshness import find_sources
from promad.prometheus.grid import Span, on_grid, requests_for
from promad.prometheus.one_series import add_alias, take_series

Samples = NDArray[np.float64]


@dataclass(frozen=True)
class Poll:
    """What is known after a poll.

    Attributes:
        frame: the newest samples on the absolute grid; NaN = missing. Later polls leave it be.
        failures: why a query got no answer, by alias; its new samples are missing.
        newest: unix time of the newest value, by alias; None where there is no value at all.
        corrected_from: unix time of the earliest sample that was missing in the poll before and is
            known now; None if only new samples came.
    """

    frame: MetricFrame
    failures: Mapping[str, PrometheusError]
    newest: Mapping[str, float | None]
    corrected_from: float | None = None


class Poller:
    """Keeps the newest `samples` samples of each query (alias → PromQL), `step` seconds apart.

    Only what is not known yet is asked for, back to the newest value of each query, so an outage
    is caught up with by itself. `stale_after`, in seconds, is the age from which samples that the
    server merely repeats count as missing, and with them what was computed from them.
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
        self._sources = {alias: find_sources(expr) for alias, expr in queries.items()}
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
            late = np.isnan(known) & ~np.isnan(values)
            rows = np.flatnonzero(late[:asked_before].any(axis=1))
            corrected_from = float(frame.times[rows[0]]) if rows.size else None
            self._last = Poll(frame, failures, _find_newest(frame), corrected_from)
        elif self._last.corrected_from is not None:
            self._last = replace(self._last, corrected_from=None)
        return self._last

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
        """Ask for what is missing at the end of each column; why some of it is still missing."""
        failures: dict[str, PrometheusError] = {}
        lost: UnreachableError | None = None
        for column, alias in enumerate(self._queries):
            try:
                if lost is None:
                    self._complete_column(alias, start, values[:, column])
                else:
                    failures[alias] = add_alias(alias, lost)
            except UnreachableError as error:
                lost, failures[alias] = error, add_alias(alias, error)
            except PrometheusError as error:
                failures[alias] = add_alias(alias, error)
        return failures

    def _complete_column(self, alias: str, start: float, values: Samples) -> None:
        known = np.flatnonzero(~np.isnan(values))
        first = int(known[-1]) + 1 if known.size else 0
        if first == len(values):
            return
        missing = Span(start + first * self._step, start + (len(values) - 1) * self._step)
        values[first:] = self._fetch(alias, missing)

    def _fetch(self, alias: str, span: Span) -> Samples:
        """The query's values over the span, without those that are merely repeated."""
        values = self._ask(self._queries[alias], span)
        evaluated_at = span.start + self._step * np.arange(len(values))
        for source in self._sources[alias]:
            if np.isnan(values).all():
                break
            age = evaluated_at - source.offset - self._ask(source.query, span)
            values = np.where(age <= self._stale_after, values, np.nan)
        return values

    def _ask(self, expr: str, span: Span) -> Samples:
        pieces = [self._ask_once(expr, part) for part in requests_for([span], self._step)]
        return np.concatenate(pieces)

    def _ask_once(self, expr: str, span: Span) -> Samples:
        answer = self._client.query_range(expr, span.start, span.end, self._step)
        series = take_series(expr, answer, {}, self._allow_partial)
        if series is None:
            return np.full(round((span.end - span.start) / self._step) + 1, np.nan)
        try:
            return on_grid(series, span, self._step)
        except ValueError as error:
            raise self._client.bad_answer(expr, str(error)) from None


def _find_newest(frame: MetricFrame) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for alias, values in zip(frame.features, frame.values[0].T, strict=True):
        known = np.flatnonzero(~np.isnan(values))
        found[alias] = float(frame.times[known[-1]]) if known.size else None
    return found

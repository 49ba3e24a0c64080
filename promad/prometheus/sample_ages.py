"""Which samples of one group are fresh: one question for all queries."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import structlog
from numpy.typing import NDArray

from promad.data.frame import points_between
from promad.errors import BusyError, PrometheusError, UnreachableError
from promad.prometheus.client import PrometheusClient
from promad.prometheus.freshness import SOURCE_LABEL, Source, find_sources, unite_queries
from promad.prometheus.grid import Span, on_grid, requests_for
from promad.prometheus.one_series import MOST_PARTS, add_alias, check_warnings
from promad.prometheus.parsing import MOST_SERIES, Answer

Flags = NDArray[np.bool_]
Times = NDArray[np.float64]

_PIECE_SECONDS = 7200.0
"""Time of one request for the times of samples: its cost in Prometheus grows with the square."""
_REFUSALS = frozenset({"bad_data", "execution"})
_REFUSALS_OF_MANY = _REFUSALS | {"bad_answer", "bad_request", "partial", "timeout"}
"""Reasons that may hold for the question for all sources, and not for that for each."""

log = structlog.get_logger()


class SampleAges:
    """Asks a server how old the samples are that values rest on; see `freshness`.

    A source that it refuses to tell of is left out from then on: no one wrote the question, and no
    one could fix it. Once it has told, a refusal is a failure like any other.

    Args:
        queries: alias → PromQL.
        step: seconds between samples.
        stale_after: the age in seconds above which a sample is too old.
    """

    def __init__(
        self,
        client: PrometheusClient,
        queries: Mapping[str, str],
        step: float,
        stale_after: float,
        *,
        allow_partial: bool,
    ) -> None:
        self._client = client
        self._queries = queries
        self._step = step
        self._stale_after = stale_after
        self._allow_partial = allow_partial
        self._sources = {alias: list(_find_known(alias, queries[alias])) for alias in queries}
        self._accepted: set[Source] = set()
        self._asks_at_once = True
        self._was_told_at_once = False

    def has_sources(self, alias: str) -> bool:
        """Whether the server can tell how old the samples of a query are."""
        return bool(self._sources[alias])

    def find_fresh(
        self, aliases: Collection[str], span: Span
    ) -> tuple[dict[str, Flags], dict[str, PrometheusError]]:
        """Where the values of queries rest on fresh samples, and why that is not known of others.

        Returns:
            By alias bool (samples,) over the span; and by alias the error.
        """
        owners: dict[Source, list[str]] = {}
        for alias in aliases:
            for source in self._sources[alias]:
                owners.setdefault(source, []).append(alias)
        found, errors = self._ask_all(owners, span)
        self._accepted.update(found)
        self._leave_out(errors, owners)
        evaluated_at = span.start + self._step * np.arange(self._count(span))
        fresh = {
            source: evaluated_at - source.offset - sampled_at <= self._stale_after
            for source, sampled_at in found.items()
        }
        failures = {
            alias: add_alias(alias, error)
            for source, error in errors.items()
            for alias in owners[source]
            if source in self._sources[alias]
        }
        return {
            alias: _combine([fresh[each] for each in self._sources[alias]], len(evaluated_at))
            for alias in aliases
            if alias not in failures
        }, failures

    def _ask_all(
        self, owners: Mapping[Source, Sequence[str]], span: Span
    ) -> tuple[dict[Source, Times], dict[Source, PrometheusError]]:
        """When each source was sampled, and why that is not known of others."""
        found: dict[Source, Times] = {}
        errors: dict[Source, PrometheusError] = {}
        sources = list(owners)
        if len(sources) > 1 and self._asks_at_once:
            try:
                found = self._ask(sources, "age of the samples of all queries", span)
            except PrometheusError as error:
                lost = isinstance(error, UnreachableError | BusyError)
                if lost or error.reason not in _REFUSALS_OF_MANY:
                    return {}, dict.fromkeys(sources, error)
                self._asks_at_once = self._was_told_at_once
            else:
                self._was_told_at_once = True
                return found, {}
        for source in sources:
            shown = f"age of the samples of {self._queries[owners[source][0]]}"
            try:
                found |= self._ask([source], shown, span)
            except PrometheusError as error:
                errors[source] = error
        return found, errors

    def _leave_out(
        self, errors: Mapping[Source, PrometheusError], owners: Mapping[Source, Sequence[str]]
    ) -> None:
        for source, error in errors.items():
            if error.reason in _REFUSALS and source not in self._accepted:
                self._asks_at_once = True  # the others
                for alias in owners[source]:
                    self._sources[alias].remove(source)
                    log.warning("age of samples not checked", query=alias, err=str(error))

    def _ask(self, sources: Sequence[Source], shown: str, span: Span) -> dict[Source, Times]:
        """When each source was sampled, float64 (samples,); NaN where it has no sample."""
        query = unite_queries([source.query for source in sources])
        most_points = min(max(1, round(_PIECE_SECONDS / self._step)), self._client.max_points)
        most_series = min(MOST_PARTS * len(sources), MOST_SERIES)
        parts = []
        for part in requests_for([span], self._step, most_points):
            answer = self._client.query_range(
                query, part.start, part.end, self._step, subject=shown, most_series=most_series
            )
            check_warnings(shown, answer.warnings, self._allow_partial)
            try:
                parts.append(self._place(answer, len(sources), part))
            except ValueError as error:
                raise self._client.bad_answer(shown, str(error)) from None
        return dict(zip(sources, np.concatenate(parts, axis=1), strict=True))

    def _place(self, answer: Answer, sources: int, span: Span) -> Times:
        """The newest times of each source, float64 (sources, samples).

        Raises:
            ValueError: if a series is of none, or has other times.
        """
        sampled_at = np.full((sources, self._count(span)), np.nan)
        for series in answer.series:
            number = int(dict(series.labels).get(SOURCE_LABEL, "0"))
            if number >= sources:
                raise ValueError("a series that was not asked for")
            row = sampled_at[number]
            np.fmax(row, on_grid(series, span, self._step), out=row)
        return sampled_at

    def _count(self, span: Span) -> int:
        return points_between(span.start, span.end, self._step)


def _find_known(alias: str, expr: str) -> tuple[Source, ...]:
    """The sources that can be asked for; logs it if some cannot."""
    sources = find_sources(expr)
    if sources.unknown:
        log.info("age of samples not checked", query=alias, reason=sources.unknown)
    return sources.known


def _combine(fresh: Sequence[Flags], samples: int) -> Flags:
    """Where all are fresh."""
    return np.logical_and.reduce(fresh) if fresh else np.ones(samples, np.bool_)

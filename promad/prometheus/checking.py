"""One look at every query, for `check-config --online`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from promad.config import format_duration
from promad.data.frame import align_down, points_between
from promad.errors import PrometheusError, UnreachableError
from promad.prometheus.client import PrometheusClient
from promad.prometheus.freshness import Source, find_sources
from promad.prometheus.grid import MOST_POINTS, Span, on_grid
from promad.prometheus.latency import SHORTEST_SECONDS, choose_offset, measure_repetition
from promad.prometheus.one_series import (
    OneSeries,
    add_alias,
    build_no_series_error,
    build_not_asked_error,
    require_one,
    take_series,
)
from promad.prometheus.parsing import Answer, Series

_WINDOW_SECONDS = 3600.0
_OLD_SECONDS = 300.0
"""Prometheus returns a series for this long after its last scrape."""


@dataclass(frozen=True)
class QueryCheck:
    """The result of one query over the last hour.

    Attributes:
        alias: the query's name.
        expr: its PromQL.
        series: how many series it yields; None if it was not answered.
        newest_age_seconds: age of the newest sample of any of them; None if there is none.
        points: how many samples the fullest series has.
        points_possible: how many it would have if none were missing.
        problem: what is wrong and what to do, in one line; None if the query is usable.
    """

    alias: str
    expr: str
    series: int | None
    newest_age_seconds: float | None
    points: int
    points_possible: int
    problem: str | None


@dataclass(frozen=True)
class LatencyCheck:
    """How far behind the clock samples are read, and what the server requires.

    Attributes:
        offset: seconds behind the clock.
        repeated: for how many of its newest seconds the server repeats values; None if it did not
            answer.
    """

    offset: float
    repeated: float | None

    @property
    def is_too_short(self) -> bool:
        """Whether the newest samples are repetitions."""
        return self.repeated is not None and self.offset < self.repeated


def inspect_latency(
    client: PrometheusClient, setting: float | Literal["auto"], now: float
) -> LatencyCheck:
    """The offset of the configuration, or the one the server requires if it is `auto`."""
    try:
        repeated = measure_repetition(client, now)
    except PrometheusError:
        return LatencyCheck(SHORTEST_SECONDS if setting == "auto" else setting, None)
    return LatencyCheck(choose_offset(repeated) if setting == "auto" else setting, repeated)


def inspect_queries(
    client: PrometheusClient, queries: Mapping[str, str], step: float, at: float
) -> list[QueryCheck]:
    """A check of each query (alias → PromQL) at `step` over the hour before `at` (unix seconds).

    A query that fails is a finding, not an error. Once the server is found unreachable it is not
    asked about the remaining queries.
    """
    end = align_down(at, step)
    start = end - min(align_down(_WINDOW_SECONDS, step), (MOST_POINTS - 1) * step)
    checks: list[QueryCheck] = []
    lost: tuple[str, UnreachableError] | None = None
    possible = points_between(start, end, step)
    for alias, expr in queries.items():
        if lost is not None:
            problem = str(build_not_asked_error(alias, *lost))
            checks.append(QueryCheck(alias, expr, None, None, 0, possible, problem))
            continue
        try:
            checks.append(_inspect(client, alias, expr, Span(start, end), step, at))
        except PrometheusError as error:
            lost = (alias, error) if isinstance(error, UnreachableError) else None
            problem = str(add_alias(alias, error))
            checks.append(QueryCheck(alias, expr, None, None, 0, possible, problem))
    return checks


def _inspect(
    client: PrometheusClient, alias: str, expr: str, span: Span, step: float, at: float
) -> QueryCheck:
    answer = client.query_range(expr, span.start, span.end, step)
    try:
        columns = [on_grid(series, span, step) for series in answer.series]
        taken = take_series(expr, answer, span, step)
    except ValueError as error:
        raise client.bad_answer(expr, str(error)) from None
    known = [int((~np.isnan(values)).sum()) for values in columns]
    age = _measure_age(client, expr, answer, at)
    return QueryCheck(
        alias=alias,
        expr=expr,
        series=len(answer.series),
        newest_age_seconds=age,
        points=max(known, default=0),
        points_possible=points_between(span.start, span.end, step),
        problem=_find_problem(alias, expr, answer, taken, age),
    )


def _measure_age(client: PrometheusClient, expr: str, answer: Answer, at: float) -> float | None:
    """Age of the newest sample: the time of the scrape, where the server reports it.

    Of other expressions it is the age of the newest grid time with a value.
    """
    times = [
        series.times[~np.isnan(series.values)].max()
        for series in answer.series
        if not np.isnan(series.values).all()
    ]
    if not times:
        return None
    newest = float(max(times))
    sampled = [
        float(series.values[0]) + source.offset
        for source in find_sources(expr).known
        for series in _query_times(client, source, newest)
    ]
    return at - min(sampled, default=newest)


def _query_times(client: PrometheusClient, source: Source, at: float) -> Sequence[Series]:
    """The answer to the source's own query; none if the server refuses what nobody wrote."""
    try:
        return client.query(source.query, at).series
    except UnreachableError:
        raise
    except PrometheusError:
        return ()


def _find_problem(
    alias: str, expr: str, answer: Answer, taken: OneSeries, age: float | None
) -> str | None:
    at_once = np.flatnonzero(~np.isnan(taken.values) | taken.overlaps)
    if taken.exceeds_overlap() or taken.overlaps[at_once[-1:]].any():
        try:
            require_one(expr, [series.labels for series in answer.series])
        except PrometheusError as error:
            return str(add_alias(alias, error))
    if not answer.series:
        return str(add_alias(alias, build_no_series_error(expr)))
    if age is None:
        return (
            f"query {alias}: {expr}: all values are NaN or infinite — "
            "check for a division by zero, or add `> 0` to the divisor"
        )
    if age > _OLD_SECONDS:
        return (
            f"query {alias}: {expr}: the newest sample is {format_duration(age)} old — "
            "check that its target is still scraped"
        )
    return None

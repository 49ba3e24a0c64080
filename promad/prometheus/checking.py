"""One look at every query, for `check-config --online`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from promad.config import format_duration
from promad.config.promql import find_lookahead
from promad.data.frame import align_down, points_between
from promad.errors import PrometheusError, UnreachableError
from promad.prometheus.client import PrometheusClient
from promad.prometheus.freshness import Source, find_sources
from promad.prometheus.grid import Span, on_grid
from promad.prometheus.latency import SHORTEST_SECONDS, choose_offset, measure_repetition
from promad.prometheus.one_series import (
    OneSeries,
    add_alias,
    build_no_series_error,
    build_not_asked_error,
    flatten_text,
    require_one,
    suggest_zero,
    take_series,
)
from promad.prometheus.parsing import Answer
from promad.prometheus.sample_gaps import CheckLimits, find_gap_problem
from promad.prometheus.server_clock import find_clock_difference

Values = NDArray[np.float64]

_MOST_POINTS = 10_000
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
        failure: the error if the query failed; None if it was answered.
    """

    alias: str
    expr: str
    series: int | None
    newest_age_seconds: float | None
    points: int
    points_possible: int
    problem: str | None
    failure: PrometheusError | None = None


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
    client: PrometheusClient,
    queries: Mapping[str, str],
    step: float,
    at: float,
    limits: CheckLimits | None = None,
) -> list[QueryCheck]:
    """A check of each query (alias → PromQL) at `step` over the hour before `at` (unix seconds).

    A query that fails is a finding, not an error. Once the server is found unreachable it is not
    asked about the remaining queries. If its clock differs from this machine's by more than
    `limits` accept, the hour is that of the server. Without `limits` only the newest sample must
    not be too old.
    """
    checks = _inspect_all(client, queries, step, at, limits)
    if limits and find_clock_difference(client.clock_offset, limits.latency_offset):
        return _inspect_all(client, queries, step, at + (client.clock_offset or 0.0), limits)
    return checks


def find_clock_problem(client: PrometheusClient, latency_offset: float) -> str | None:
    """What to do if the server's clock differs by more than `latency_offset` seconds, one line."""
    offset = client.clock_offset
    difference = find_clock_difference(offset, latency_offset)
    if offset is None or not difference:
        return None
    enough = format_duration(ceil(latency_offset - offset + 1.0))
    otherwise = (
        f"synchronise both clocks, or set latency_offset to at least {enough}"
        if offset < 0
        else "synchronise both clocks; until then new samples are scored late"
    )
    return (
        f"{client.url}: the server's clock is {difference} this machine's, more than "
        f"latency_offset ({format_duration(latency_offset)}) — {otherwise}"
    )


def _inspect_all(
    client: PrometheusClient,
    queries: Mapping[str, str],
    step: float,
    at: float,
    limits: CheckLimits | None,
) -> list[QueryCheck]:
    end = align_down(at, step)
    start = end - min(align_down(_WINDOW_SECONDS, step), (_MOST_POINTS - 1) * step)
    hour = _Hour(Span(start, end), step, at, limits)
    checks: list[QueryCheck] = []
    lost: tuple[str, UnreachableError] | None = None
    for alias, expr in queries.items():
        if lost is not None:
            checks.append(_report_failure(alias, expr, hour, build_not_asked_error(alias, *lost)))
            continue
        try:
            checks.append(_inspect(client, alias, expr, hour))
        except PrometheusError as error:
            lost = (alias, error) if isinstance(error, UnreachableError) else None
            checks.append(_report_failure(alias, expr, hour, add_alias(alias, error)))
    return checks


@dataclass(frozen=True)
class _Hour:
    """Which samples are looked at, at which time (unix seconds), and what they are held to."""

    span: Span
    step: float
    at: float
    limits: CheckLimits | None

    @property
    def times(self) -> Values:
        """The unix time of each sample."""
        return self.span.start + self.step * np.arange(self.points, dtype=np.float64)

    @property
    def points(self) -> int:
        """How many samples there can be."""
        return points_between(self.span.start, self.span.end, self.step)


def _report_failure(alias: str, expr: str, hour: _Hour, error: PrometheusError) -> QueryCheck:
    return QueryCheck(alias, expr, None, None, 0, hour.points, str(error), error)


def _inspect(client: PrometheusClient, alias: str, expr: str, hour: _Hour) -> QueryCheck:
    answer = client.query_range(expr, hour.span.start, hour.span.end, hour.step)
    try:
        columns = [on_grid(series, hour.span, hour.step) for series in answer.series]
        taken = take_series(expr, answer, hour.span, hour.step)
    except ValueError as error:
        raise client.bad_answer(expr, str(error)) from None
    known = [int((~np.isnan(values)).sum()) for values in columns]
    ages = _measure_ages(client, expr, hour) if any(known) else np.full(hour.points, np.nan)
    newest = _find_newest_age(columns, ages, hour)
    try:
        _require_one_at_once(expr, answer, taken)
        problem = _find_problem(expr, taken.values, ages, newest, hour)
        problem = problem and f"query {alias}: {flatten_text(expr)}: {problem}"
    except PrometheusError as error:
        problem = str(add_alias(alias, error))
    return QueryCheck(
        alias=alias,
        expr=expr,
        series=len(answer.series),
        newest_age_seconds=newest,
        points=max(known, default=0),
        points_possible=hour.points,
        problem=problem,
    )


def _require_one_at_once(expr: str, answer: Answer, taken: OneSeries) -> None:
    """Raise PrometheusError if there is no series, or several overlap now or for too long."""
    at_once = np.flatnonzero(~np.isnan(taken.values) | taken.overlaps)
    if taken.exceeds_overlap() or taken.overlaps[at_once[-1:]].any():
        require_one(expr, [series.labels for series in answer.series])
    if not answer.series:
        raise build_no_series_error(expr)


def _measure_ages(client: PrometheusClient, expr: str, hour: _Hour) -> Values:
    """Seconds since the oldest scrape that each sample rests on; NaN where the server cannot say.

    float64 (samples,).
    """
    ages = np.full(hour.points, np.nan)
    for source in find_sources(expr).known:
        ages = np.fmax(ages, hour.times - source.offset - _query_times(client, source, hour))
    return ages


def _query_times(client: PrometheusClient, source: Source, hour: _Hour) -> Values:
    """When the source was scraped; NaN if the server refuses what nobody wrote."""
    unknown = np.full(hour.points, np.nan)
    try:
        answer = client.query_range(source.query, hour.span.start, hour.span.end, hour.step)
        columns = [on_grid(series, hour.span, hour.step) for series in answer.series]
    except UnreachableError:
        raise
    except (PrometheusError, ValueError):
        return unknown
    return columns[0] if len(columns) == 1 else unknown


def _find_newest_age(columns: list[Values], ages: Values, hour: _Hour) -> float | None:
    """Age of the newest sample at the time of the check: that of its scrape, where it is known."""
    known = np.flatnonzero((~np.isnan(np.reshape(columns, (-1, hour.points)))).any(axis=0))
    if not known.size:
        return None
    newest = int(known[-1])
    age = 0.0 if np.isnan(ages[newest]) else float(ages[newest])
    return hour.at - float(hour.times[newest]) + age


def _find_problem(
    expr: str, values: Values, ages: Values, newest: float | None, hour: _Hour
) -> str | None:
    """What is wrong with the one series of an expression and what to do."""
    if newest is None:
        return (
            "all values are NaN or infinite — check for a division by zero, or add `> 0` to the "
            "divisor"
        )
    if hour.limits is not None:
        found = find_lookahead_problem(expr, hour.limits.latency_offset) or find_gap_problem(
            values, ages, hour.step, hour.limits
        )
        if found:
            return found
    accepted = hour.limits.stale_after if hour.limits else _OLD_SECONDS
    since = newest - (hour.at - hour.span.end)
    if since <= accepted:
        return None
    return (
        f"the newest sample is {format_duration(round(newest))} old — "
        f"check that its target is still scraped{suggest_zero(expr)}"
    )


def find_lookahead_problem(expr: str, latency_offset: float) -> str | None:
    """What to do about an expression that looks further ahead than samples are read behind."""
    lookahead = find_lookahead(expr)
    if lookahead <= latency_offset:
        return None
    return (
        f"a negative offset looks {format_duration(lookahead)} ahead, where there are no samples "
        "yet — remove it, or set latency_offset to at least "
        f"{format_duration(lookahead)}"
    )

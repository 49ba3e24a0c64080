"""One look at every query for every group, for `check-config --online`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from promad.config import format_duration
from promad.data.frame import align_down, points_between
from promad.data.groups import Grouping, Labels
from promad.errors import PrometheusError, UnreachableError
from promad.prometheus.checking import find_lookahead_problem
from promad.prometheus.client import PrometheusClient
from promad.prometheus.grid import Span, on_grid
from promad.prometheus.groups.freshness import build_oldest_query, list_labels
from promad.prometheus.one_series import (
    MOST_OVERLAP,
    add_alias,
    build_no_series_error,
    build_not_asked_error,
    flatten_text,
    format_labels,
)
from promad.prometheus.sample_gaps import CheckLimits, find_gap_problem
from promad.prometheus.server_clock import find_clock_difference

Values = NDArray[np.float64]

_WINDOW_SECONDS = 3600.0
_MOST_POINTS = 120
_MOST_NAMED = 3


@dataclass(frozen=True)
class GroupCheckOptions:
    """What is asked, and what the answers are held to.

    Attributes:
        queries: alias → PromQL.
        grouping: which group each series belongs to.
        step: seconds between samples.
        limits: what `detect` and `preprocess` require of samples.
        max_groups: groups that are admitted at most.
    """

    queries: Mapping[str, str]
    grouping: Grouping
    step: float
    limits: CheckLimits
    max_groups: int

    @property
    def most_series(self) -> int:
        """Series that an answer may have: of each group some that follow one another."""
        return 2 * self.max_groups + 1000


@dataclass(frozen=True)
class GroupCheck:
    """The result of one query over the last hour.

    Attributes:
        alias: the query's name.
        groups: the groups that have a sample of it.
        series: how many series it yields; None if it was not answered.
        dropped: how many of them a relabelling rule drops.
        lacking: groups that only other queries have.
        newest_age_seconds: age of the newest sample of any group; None if there is none.
        problem: what is wrong and what to do, in one line; None if the query is usable.
        failure: the error if the query failed; None if it was answered.
    """

    alias: str
    groups: frozenset[Labels] = frozenset()
    series: int | None = None
    dropped: int = 0
    lacking: tuple[Labels, ...] = ()
    newest_age_seconds: float | None = None
    problem: str | None = None
    failure: PrometheusError | None = None


def inspect_groups(
    client: PrometheusClient, options: GroupCheckOptions, at: float
) -> list[GroupCheck]:
    """A check of each query over the hour before `at` (unix seconds).

    A query that fails is a finding, not an error. Once the server is found unreachable it is not
    asked about the remaining queries. If its clock differs from this machine's by more than
    `limits` accept, the hour is that of the server.
    """
    checks = _inspect_all(client, options, at)
    if find_clock_difference(client.clock_offset, options.limits.latency_offset):
        return _inspect_all(client, options, at + (client.clock_offset or 0.0))
    return checks


def _inspect_all(
    client: PrometheusClient, options: GroupCheckOptions, at: float
) -> list[GroupCheck]:
    checks: list[GroupCheck] = []
    lost: tuple[str, UnreachableError] | None = None
    for alias, expr in options.queries.items():
        try:
            if lost is not None:
                raise build_not_asked_error(alias, *lost)
            checks.append(_inspect(client, alias, expr, options, at))
        except PrometheusError as error:
            if lost is None:
                lost = (alias, error) if isinstance(error, UnreachableError) else None
                error = add_alias(alias, error)
            checks.append(GroupCheck(alias, problem=str(error), failure=error))
    known = list_groups(checks)
    return [_compare(check, known) for check in checks]


def list_groups(checks: Sequence[GroupCheck]) -> frozenset[Labels]:
    """The groups that any query has."""
    return frozenset(group for check in checks for group in check.groups)


def name_groups(groups: Sequence[Labels]) -> str:
    """A few of the groups, and how many more there are."""
    shown = ", ".join(map(format_labels, groups[:_MOST_NAMED]))
    more = len(groups) - _MOST_NAMED
    return f"{shown} and {more} more" if more > 0 else shown


def _compare(check: GroupCheck, known: frozenset[Labels]) -> GroupCheck:
    """The check with the groups that only other queries have."""
    if check.series is None:
        return check
    lacking = tuple(sorted(known - check.groups))
    return replace(check, lacking=lacking)


def _inspect(
    client: PrometheusClient, alias: str, expr: str, options: GroupCheckOptions, at: float
) -> GroupCheck:
    step, most = options.step, options.most_series
    end = align_down(at, step)
    points = min(_MOST_POINTS, points_between(0.0, align_down(_WINDOW_SECONDS, step), step))
    span = Span(end - (points - 1) * step, end)
    answer = client.query_range(expr, span.start, span.end, step, most_series=most)
    if not answer.series:
        raise build_no_series_error(expr)
    columns: dict[Labels, list[Values]] = {}
    labels_of: dict[Labels, list[Labels]] = {}
    dropped = 0
    for series in answer.series:
        group = options.grouping.find_group(series.labels)
        if group is None:
            dropped += 1
            continue
        columns.setdefault(group, []).append(on_grid(series, span, step))
        labels_of.setdefault(group, []).append(series.labels)
    present = {group for group, own in columns.items() if not np.isnan(own).all()}
    hour = _Hour(span, step, points, at)
    ages = _measure_ages(client, expr, options, hour)
    newest = _find_newest_age(columns, ages, hour)
    found = _Found(columns, labels_of, ages, newest)
    problem = _find_problem(expr, found, hour, options)
    return GroupCheck(
        alias=alias,
        groups=frozenset(present),
        series=len(answer.series),
        dropped=dropped,
        newest_age_seconds=newest,
        problem=problem and f"query {alias}: {flatten_text(expr)}: {problem}",
    )


@dataclass(frozen=True)
class _Hour:
    """Which samples are looked at, and when: unix seconds."""

    span: Span
    step: float
    points: int
    at: float

    @property
    def times(self) -> Values:
        """The unix time of each sample."""
        return self.span.start + self.step * np.arange(self.points, dtype=np.float64)


@dataclass(frozen=True)
class _Found:
    """What an expression returned for an hour.

    Attributes:
        columns: the samples of each series of a group, float64 (points,), NaN where there is none.
        labels_of: the labels of these series.
        ages: seconds from each sample to its time, by group, where they are known.
        newest: seconds since the newest sample of all groups; None if no value is usable.
    """

    columns: Mapping[Labels, list[Values]]
    labels_of: Mapping[Labels, list[Labels]]
    ages: Mapping[Labels, Values]
    newest: float | None


def _find_gap_problem(found: _Found, hour: _Hour, limits: CheckLimits) -> str | None:
    """What is wrong with the times of the samples of the group that has the most of them.

    Other groups may have fewer because their targets were down.
    """
    counts = {
        group: int((~np.isnan(own[0])).sum())
        for group, own in found.columns.items()
        if len(own) == 1
    }
    if not counts:
        return None
    fullest = max(counts, key=lambda group: counts[group])
    own = found.ages.get(fullest, np.full(hour.points, np.nan))
    return find_gap_problem(found.columns[fullest][0], own, hour.step, limits)


def _find_problem(expr: str, found: _Found, hour: _Hour, options: GroupCheckOptions) -> str | None:
    """What is wrong with the series of an expression and what to do."""
    columns, newest = found.columns, found.newest
    if not columns:
        return "group_relabel_configs drops all series — change the rules"
    several = [group for group, own in columns.items() if _overlap_too_often(own)]
    if several:
        first = found.labels_of[several[0]]
        named = ", ".join(map(format_labels, first[:_MOST_NAMED]))
        more = f" and {len(first) - _MOST_NAMED} more" if len(first) > _MOST_NAMED else ""
        by = ", ".join(options.grouping.by)
        return (
            f"several series of one group in {len(several)} of {len(columns)} groups, such "
            f"as {named}{more} — aggregate with sum by ({by}) (…), or add labels to group_by"
        )
    if newest is None:
        return (
            "all values are NaN or infinite — check for a division by zero, or add `> 0` "
            "to the divisor"
        )
    problem = find_lookahead_problem(expr, options.limits.latency_offset) or _find_gap_problem(
        found, hour, options.limits
    )
    if problem:
        return problem
    if newest - (hour.at - hour.span.end) > options.limits.stale_after:
        return (
            f"the newest sample of all groups is {format_duration(round(newest))} old — "
            "check that the targets are still scraped"
        )
    return None


def _overlap_too_often(columns: list[Values]) -> bool:
    """Whether several series have a value now, or at more than a tenth of the times with one."""
    counts = (~np.isnan(columns)).sum(axis=0)
    known = np.flatnonzero(counts)
    if len(columns) < 2 or not known.size:
        return False
    overlaps = int((counts > 1).sum())
    return bool(counts[known[-1]] > 1) or overlaps > MOST_OVERLAP * known.size


def _find_newest_age(
    columns: Mapping[Labels, list[Values]], ages: Mapping[Labels, Values], hour: _Hour
) -> float | None:
    """Age of the newest sample of any group: that of its scrape, where the server knows it."""
    found = []
    for group, own in columns.items():
        known = np.flatnonzero((~np.isnan(own)).any(axis=0))
        if known.size:
            newest = int(known[-1])
            age = ages[group][newest] if group in ages else np.nan
            found.append(hour.at - hour.times[newest] + (0.0 if np.isnan(age) else age))
    return float(min(found)) if found else None


def _measure_ages(
    client: PrometheusClient, expr: str, options: GroupCheckOptions, hour: _Hour
) -> dict[Labels, Values]:
    """By group, seconds since the scrape that each sample rests on; NaN where it is unknown."""
    rules = options.grouping.rules
    sources = (name for rule in rules for name in rule.source_labels)
    query = build_oldest_query(expr, list_labels(options.grouping.by, sources))
    if query is None:
        return {}
    try:
        answer = client.query_range(
            query, hour.span.start, hour.span.end, hour.step, most_series=options.most_series
        )
    except UnreachableError:
        raise
    except PrometheusError:
        return {}
    ages = {}
    for series in answer.series:
        group = options.grouping.find_group(series.labels)
        if group is not None:
            ages[group] = hour.times - on_grid(series, hour.span, hour.step)
    return ages

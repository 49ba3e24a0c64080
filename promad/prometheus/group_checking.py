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
from promad.prometheus.client import PrometheusClient
from promad.prometheus.grid import Span, on_grid
from promad.prometheus.group_freshness import build_oldest_query, list_labels
from promad.prometheus.one_series import (
    MOST_OVERLAP,
    add_alias,
    build_no_series_error,
    build_not_asked_error,
    flatten_text,
    format_labels,
)

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
        stale_after: the age in seconds from which samples count as missing.
        max_groups: groups that are admitted at most.
    """

    queries: Mapping[str, str]
    grouping: Grouping
    step: float
    stale_after: float
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
    asked about the remaining queries.
    """
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
    newest = _find_newest_age(client, expr, columns, options, span, at)
    return GroupCheck(
        alias=alias,
        groups=frozenset(present),
        series=len(answer.series),
        dropped=dropped,
        newest_age_seconds=newest,
        problem=_find_problem(alias, expr, columns, labels_of, newest, options),
    )


def _find_problem(
    alias: str,
    expr: str,
    columns: Mapping[Labels, list[Values]],
    labels_of: Mapping[Labels, list[Labels]],
    newest: float | None,
    options: GroupCheckOptions,
) -> str | None:
    """What is wrong with the series of an expression and what to do."""
    shown = f"query {alias}: {flatten_text(expr)}: "
    if not columns:
        return f"{shown}group_relabel_configs drops all series — change the rules"
    several = [group for group, own in columns.items() if _overlap_too_often(own)]
    if several:
        first = labels_of[several[0]]
        named = ", ".join(map(format_labels, first[:_MOST_NAMED]))
        more = f" and {len(first) - _MOST_NAMED} more" if len(first) > _MOST_NAMED else ""
        by = ", ".join(options.grouping.by)
        return (
            f"{shown}several series of one group in {len(several)} of {len(columns)} groups, such "
            f"as {named}{more} — aggregate with sum by ({by}) (…), or add labels to group_by"
        )
    if newest is None:
        return (
            f"{shown}all values are NaN or infinite — check for a division by zero, or add `> 0` "
            "to the divisor"
        )
    if newest > options.stale_after + options.step:
        return (
            f"{shown}the newest sample of all groups is {format_duration(round(newest))} old — "
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
    client: PrometheusClient,
    expr: str,
    columns: Mapping[Labels, list[Values]],
    options: GroupCheckOptions,
    span: Span,
    at: float,
) -> float | None:
    """Age of the newest sample of any group: that of its scrape, where the server knows it."""
    known = [np.flatnonzero(~np.isnan(own)) for each in columns.values() for own in each]
    newest = max((int(places[-1]) for places in known if places.size), default=None)
    if newest is None:
        return None
    age = at - (span.start + newest * options.step)
    rules = options.grouping.rules
    sources = (name for rule in rules for name in rule.source_labels)
    query = build_oldest_query({"": expr}, list_labels(options.grouping.by, sources))
    if query is None:
        return age
    try:
        scraped = client.query_range(
            query, span.end, span.end, options.step, most_series=options.most_series
        )
    except UnreachableError:
        raise
    except PrometheusError:
        return age
    times = [series.values[-1] for series in scraped.series if len(series.values)]
    return max(age, at - max(times)) if times else age

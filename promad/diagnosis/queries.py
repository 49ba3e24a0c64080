"""Checks of the queries: PromQL that is valid but probably not meant."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from promad.config import format_duration
from promad.config.promql import find_promql_warnings
from promad.config.selectors import Selection, list_selections
from promad.config.warnings import (
    describe_raw_counter,
    find_lost_text,
    list_raw_counters,
    looks_like_counter,
)
from promad.diagnosis.evidence import Queries
from promad.diagnosis.findings import Finding, Yield, read_message

FEWEST_SCRAPES = 4
"""Scrape intervals that a range should have: a rate needs two samples, and one may be missing."""

_OF_RANGES = {"rate", "increase", "delta", "deriv"}
_OF_COUNTERS = {"rate", "irate", "increase"}
_TOLERANCE = 0.05
"""Counting samples tells the interval only about."""


def find_lost_parts(queries: Queries) -> Yield:
    """Parts of an expression that a comment hides."""
    for line in find_lost_text(queries.path):
        place, _, message = line.partition(": warning: ")
        yield read_message("error", message, place)


def find_unknown_promql(queries: Queries) -> Yield:
    """Expressions that only the server can check."""
    if queries.intervals is None:
        named = {f"queries.{alias}": expr for alias, expr in queries.promql.items()}
        for line in find_promql_warnings(named):
            yield read_message("warning", line)


def find_raw_counters(queries: Queries) -> Yield:
    """Counters that are used as they are, by the metadata of the server or by their names."""

    def is_counter(metric: str) -> bool:
        known = queries.types.get(metric)
        return looks_like_counter(metric) if known is None else known == "counter"

    for alias, expr in queries.promql.items():
        for metric in list_raw_counters(expr, is_counter):
            message = describe_raw_counter(metric)
            if metric in queries.types:
                message = message.replace("looks like a counter", "is a counter")
            yield read_message("warning", message, f"queries.{alias}")


def find_gauges_through_rate(queries: Queries) -> Yield:
    """Gauges in functions that take each fall for a reset of a counter."""
    for alias, each in _each_once(queries, lambda each: (each.metric, each.function)):
        if each.function in _OF_COUNTERS and queries.types.get(each.metric) == "gauge":
            yield Finding(
                "warning",
                f"queries.{alias}",
                f"{each.function}() of {each.metric}, which is a gauge by the metadata of the "
                "server: each time it falls counts as a reset",
                f"use delta() or deriv() for its change, or {each.metric} itself",
            )


def find_short_ranges(queries: Queries) -> Yield:
    """Rates over a range that has too few scrapes, or steps where scrapes are not known."""
    for alias, each in _each_once(queries, lambda each: (each.selector, each.range_seconds)):
        seconds = each.range_seconds
        if each.function not in _OF_RANGES or seconds is None or each.is_subquery:
            continue
        found = _find_slowest(queries, each)
        if found is None and queries.intervals is not None:
            continue
        named, interval = found or ("", queries.step)
        if seconds >= FEWEST_SCRAPES * interval * (1 - _TOLERANCE):
            continue
        limit = f"the scrape interval of {named}" if named else "step"
        remedy = f"use [{format_duration(FEWEST_SCRAPES * interval)}]"
        yield Finding(
            "warning",
            f"queries.{alias}",
            f"{each.function}() over {format_duration(seconds)}, less than {FEWEST_SCRAPES} times "
            f"{limit} ({format_duration(interval)}): a missed scrape leaves a gap",
            remedy
            if named
            else f"{remedy}, or run promad doctor --online, which looks at the scrape interval",
        )


def find_short_steps(queries: Queries) -> Yield:
    """Steps that are shorter than the scrape interval."""
    found: dict[tuple[str, float], list[str]] = {}
    for alias, expr in queries.promql.items():
        slowest = [_find_slowest(queries, each) for each in list_selections(expr)]
        known = [each for each in slowest if each is not None]
        if known:
            source, interval = max(known, key=lambda each: each[1])
            if queries.step < interval * (1 - _TOLERANCE):
                found.setdefault((source, interval), []).append(alias)
    for (source, interval), aliases in found.items():
        yield Finding(
            "warning",
            "data_settings.step",
            f"{format_duration(queries.step)} is below the scrape interval of {source} "
            f"({format_duration(interval)}), so samples of {', '.join(aliases)} repeat",
            f"set it to {format_duration(interval)}, and query_interval_seconds alike",
        )


def find_time_shifts(queries: Queries) -> Yield:
    """Expressions that look at another time than that of the sample."""
    for alias, each in _each_once(queries, lambda each: (each.offset, each.is_fixed)):
        if each.is_fixed:
            yield Finding(
                "warning",
                f"queries.{alias}",
                f"@ fixes the time of {each.metric or each.selector}, which never changes then",
                "remove @",
            )
        elif each.offset > 0:
            yield Finding(
                "warning",
                f"queries.{alias}",
                f"offset {format_duration(each.offset)}: an incident shows up again "
                f"{format_duration(each.offset)} later, as an anomaly",
                "remove offset; for daily or weekly patterns set "
                "preprocessing_settings.time_features",
            )
        elif each.offset < 0:
            yield Finding(
                "warning",
                f"queries.{alias}",
                f"offset -{format_duration(-each.offset)} looks ahead, where there are no samples "
                "yet",
                "remove offset",
            )


def _each_once(
    queries: Queries, key: Callable[[Selection], object]
) -> Iterator[tuple[str, Selection]]:
    """The selections of each query, one of those with the same key."""
    for alias, expr in queries.promql.items():
        unique: dict[object, Selection] = {}
        for each in list_selections(expr):
            unique.setdefault(key(each), each)
        for each in unique.values():
            yield alias, each


def _find_slowest(queries: Queries, each: Selection) -> tuple[str, float] | None:
    """The job of a selector that is scraped least often, and seconds; None if that is unknown."""
    jobs = (queries.intervals or {}).get(each.selector)
    if not jobs:
        return None
    job = max(jobs, key=lambda name: jobs[name])
    return (f'job "{job}"' if job else each.metric), _round_interval(jobs[job])


def _round_interval(seconds: float) -> float:
    """An interval without the inaccuracy of counting: the nearest multiple of 5 s, or of 1 s."""
    unit = 5.0 if seconds >= 12 else 1.0
    return max(round(seconds / unit) * unit, 1.0)

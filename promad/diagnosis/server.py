"""Checks of the server: whether it answers, how its clock is, and what all of it will cost."""

from __future__ import annotations

from promad.config import format_duration
from promad.diagnosis.evidence import Server
from promad.diagnosis.findings import Fact, Finding, Yield, read_message

MOST_SAMPLES = 1_000_000
"""Samples that a query may touch per tick; a server refuses more than 50,000,000 by default."""
MOST_SERIES = 100_000
"""Series that promad may expose."""
MOST_TICK_SHARE = 0.5
"""The share of the interval that a tick may take."""
MOST_MEMORY_SHARE = 0.8
"""The share of the memory of this machine that `detect` may take."""


def find_failing_queries(server: Server) -> Yield:
    """Queries that do not answer as they should."""
    for problem in server.problems:
        yield read_message("error", problem)


def find_wrong_latency(server: Server) -> Yield:
    """An offset at which samples are not final."""
    if server.latency:
        yield read_message("warning", server.latency)


def find_clock_skew(server: Server) -> Yield:
    """Clocks that differ."""
    if server.clock:
        yield read_message("error", server.clock, server.url)


def find_renamed_labels(server: Server) -> Yield:
    """Labels of groups that a scrape without honor_labels renames."""
    for line in server.hidden:
        yield read_message("error", line)


def find_refused_groups(server: Server) -> Yield:
    """Groups that are not monitored."""
    if server.refused:
        yield read_message("error", server.refused)


def find_series(server: Server) -> Yield:
    """How many groups there are, and how many series promad makes of them."""
    groups = f"{server.groups} {'group' if server.groups == 1 else 'groups'}"
    if server.series <= MOST_SERIES:
        yield Fact("series", f"{groups}, up to {server.series:,} series on /metrics")
        return
    yield Finding(
        "warning",
        "real_time_anomaly_detection.max_feature_series",
        f"up to {server.series:,} series on /metrics for {groups}, more than {MOST_SERIES:,}",
        "lower max_feature_series or max_groups, or split the groups among several configurations",
    )


def find_memory(server: Server) -> Yield:
    """The memory that `detect` takes."""
    needed, limit = server.memory_bytes, server.memory_limit
    text = f"about {needed / 1e6:,.0f} MB in detect"
    if limit is None or needed <= MOST_MEMORY_SHARE * limit:
        yield Fact("memory", text)
        return
    yield Finding(
        "error",
        "memory",
        f"{text}, more than {MOST_MEMORY_SHARE:.0%} of {limit / 1e6:,.0f} MB of this machine",
        "lower history_samples or max_groups, or run detect on a larger machine",
    )


def find_query_costs(server: Server) -> Yield:
    """The samples that the server reads for each tick."""
    known = {alias: cost.samples for alias, cost in server.costs.items()}
    samples = {alias: count for alias, count in known.items() if count is not None}
    if not samples:
        if server.costs:
            yield Fact("query cost", "unknown: the server does not report how many samples it read")
        return
    largest = max(samples, key=lambda alias: samples[alias])
    yield Fact(
        "query cost",
        f"{sum(samples.values()):,} samples read per tick, most for {largest} "
        f"({samples[largest]:,})",
    )
    for alias, count in samples.items():
        if count > MOST_SAMPLES:
            yield Finding(
                "warning",
                f"queries.{alias}",
                f"the server reads {count:,} samples for it per tick, more than {MOST_SAMPLES:,}",
                "shorten its range, narrow its label matchers, or query a recording rule",
            )


def find_slow_ticks(server: Server) -> Yield:
    """The time of a tick."""
    if server.tick_seconds is None:
        return
    taken, interval = _format_seconds(server.tick_seconds), format_duration(server.interval)
    if server.tick_seconds <= MOST_TICK_SHARE * server.interval:
        yield Fact("tick", f"about {taken} of {interval}")
        return
    slowest = max(server.costs, key=lambda alias: server.costs[alias].seconds)
    yield Finding(
        "error",
        "real_time_anomaly_detection.query_interval_seconds",
        f"a tick takes about {taken}, more than {MOST_TICK_SHARE:.0%} of {interval}; the slowest "
        f"query is {slowest} ({_format_seconds(server.costs[slowest].seconds)})",
        "make slow queries recording rules, or raise query_interval_seconds and step",
    )


def _format_seconds(seconds: float) -> str:
    """Seconds to two digits.

    >>> _format_seconds(0.0123), _format_seconds(12.3)
    ('12 ms', '12 s')
    """
    return f"{seconds * 1000:.2g} ms" if seconds < 0.1 else f"{seconds:.2g} s"

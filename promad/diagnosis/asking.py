"""What `doctor --online` asks the server, as evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf

from promad.config import Config
from promad.config.selectors import list_selections
from promad.data.groups import THE_ONLY_GROUP, Labels
from promad.diagnosis.evidence import Queries, Server
from promad.diagnosis.files import read_memory_limit
from promad.diagnosis.online import (
    check_groups,
    check_labels,
    choose_limits,
    estimate_memory,
    find_latency_problem,
    find_refused,
    predict_fleet_series,
)
from promad.diagnosis.side_queries import inspect_side_queries
from promad.errors import PrometheusError
from promad.prometheus.checking import (
    LatencyCheck,
    QueryCheck,
    find_clock_problem,
    inspect_latency,
    inspect_queries,
)
from promad.prometheus.client import PrometheusClient
from promad.prometheus.groups.checking import GroupCheck, list_groups
from promad.prometheus.metric_types import ask_types
from promad.prometheus.one_series import flatten_text
from promad.prometheus.query_costs import QueryCost, measure_costs
from promad.prometheus.scrape_intervals import measure_intervals
from promad.prometheus.server_faults import find_server_fault

_TICK_SECONDS = 0.01
_VALUE_SECONDS = 5e-6
"""What promad itself takes for a tick, and for each value of it; see docs/cost.md."""


_NO_ANSWER = "the server does not answer queries — fix that first"


@dataclass(frozen=True)
class Asked:
    """What the server answered.

    Attributes:
        server: how it and the queries fare.
        lost: why only `problems` of that are known; empty if all of it is.
        queries: with the types and the scrape intervals of their metrics; without if it is lost.
        at: unix seconds of the newest samples that are final, by the clock of the server.
    """

    server: Server
    queries: Queries
    at: float
    lost: str = ""


def ask_server(client: PrometheusClient, config: Config, queries: Queries, now: float) -> Asked:
    """Run every query, and ask for what is known of its metrics; `now` is unix seconds.

    A query that fails is no error, and neither is a server that does not answer: both are in the
    result.
    """
    latency = inspect_latency(client, config.real_time_anomaly_detection.latency_offset, now)
    checks = _check(client, config, latency, now)
    problems, lost = _list_problems(checks, config.promql)
    clock = find_clock_problem(client, latency.offset)
    at = now - latency.offset + ((client.clock_offset or 0.0) if clock else 0.0)
    server = Server(
        client.url,
        problems,
        latency=_name_key(find_latency_problem(latency)),
        clock=clock or "",
        interval=_choose_interval(config),
    )
    if lost:
        return Asked(server, queries, at, lost)
    found = _list_groups(checks)
    sides = inspect_side_queries(client, config, at, found)
    problems = [*problems, *(f"{each.key}: {each.problem}" for each in sides if each.problem)]
    server = replace(server, problems=problems)
    try:
        measured = _measure(client, queries, at)
        costs = measure_costs(client, config.promql, at, 2 * config.max_groups + 1000)
        hidden = check_labels(client, config, now) if config.group_by else []
    except PrometheusError as error:
        return Asked(replace(server, problems=[*problems, str(error)]), queries, at, _NO_ANSWER)
    sized = _predict(config, server, len(found), costs)
    refused = find_refused(config, len(found)) if config.group_by else None
    return Asked(replace(sized, hidden=hidden, refused=refused or ""), measured, at)


def _check(
    client: PrometheusClient, config: Config, latency: LatencyCheck, now: float
) -> Sequence[QueryCheck | GroupCheck]:
    limits, at = choose_limits(config, latency.offset), now - latency.offset
    if config.group_by:
        return check_groups(client, config, limits, at)
    return inspect_queries(client, config.promql, config.data_settings.step, at, limits)


def _list_problems(
    checks: Sequence[QueryCheck | GroupCheck], queries: Mapping[str, str]
) -> tuple[list[str], str]:
    """A line for each problem, and why nothing else can be asked; empty if it can."""
    failures = {check.alias: check.failure for check in checks if check.failure is not None}
    fault, hit = find_server_fault(failures, len(checks))
    problems = [] if fault is None else [fault.fault]
    for check in checks:
        if check.problem is not None and check.alias not in hit:
            problems.append(f"queries.{check.alias}: {_cut_query(check, queries[check.alias])}")
    return problems, "" if fault is None else _NO_ANSWER


def _cut_query(check: QueryCheck | GroupCheck, expr: str) -> str:
    """The problem without the query that has it."""
    text = (check.problem or "") if check.failure is None else check.failure.fault
    return text.removeprefix(f"query {check.alias}: ").removeprefix(f"{flatten_text(expr)}: ")


def _name_key(problem: str) -> str:
    return problem and f"real_time_anomaly_detection.latency_offset: {problem}"


def _measure(client: PrometheusClient, queries: Queries, at: float) -> Queries:
    """The queries with the types and the scrape intervals of their metrics."""
    selections = [each for expr in queries.promql.values() for each in list_selections(expr)]
    named = [each for each in selections if each.metric]
    selectors = dict.fromkeys(each.selector for each in named if not each.is_fixed)
    return replace(
        queries,
        types=ask_types(client, dict.fromkeys(each.metric for each in named)),
        intervals=measure_intervals(client, selectors, queries.step, at),
    )


def _list_groups(checks: Sequence[QueryCheck | GroupCheck]) -> Sequence[Labels]:
    """The groups that the queries return; the only one without `group_by`."""
    of_groups = [check for check in checks if isinstance(check, GroupCheck)]
    return sorted(list_groups(of_groups)) if of_groups else (THE_ONLY_GROUP,)


def _choose_interval(config: Config) -> float:
    """Seconds in which a tick has to be done: polls between two samples return nothing new."""
    return max(config.real_time_anomaly_detection.query_interval_seconds, config.data_settings.step)


def _predict(config: Config, server: Server, found: int, costs: Mapping[str, QueryCost]) -> Server:
    """How large all of it will be."""
    groups = min(found, config.max_groups if config.group_by else inf)
    series = predict_fleet_series(config, int(groups)).total
    values = groups * len(config.queries)
    asked = sum(cost.seconds for cost in costs.values())
    return replace(
        server,
        groups=int(groups),
        series=series,
        memory_bytes=estimate_memory(config, int(groups), series),
        memory_limit=read_memory_limit(),
        costs=costs,
        tick_seconds=_TICK_SECONDS + values * _VALUE_SECONDS + asked if costs else None,
    )

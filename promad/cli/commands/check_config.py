"""`promad check-config`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from promad.cli.fleet_check import format_group_checks, format_prediction
from promad.cli.options import load_configs
from promad.cli.output import format_count, group_names, print_lines
from promad.cli.web_options import WebConfigOption
from promad.config import Config
from promad.config.durations import format_duration
from promad.config.original import find_implied_preset
from promad.config.promql import find_promql_warnings
from promad.config.warnings import find_lost_text, find_raw_counters

if TYPE_CHECKING:
    from promad.diagnosis.side_queries import SideCheck
    from promad.prometheus.checking import LatencyCheck, QueryCheck
    from promad.prometheus.groups.checking import GroupCheck

PROBLEMS_FOUND = 3
"""The exit code if a query has a problem."""


def check_config(
    context: typer.Context,
    online: Annotated[
        bool,
        typer.Option("--online", metavar="", help="Also run every query on the server."),
    ] = False,
    web_config: WebConfigOption = None,
) -> None:
    """Check the configuration and report every mistake with its line.

    PromQL that is unknown here may be valid on the server: it is a warning. --online asks the
    server instead, and compares the samples of the last hour and the server's clock with the
    configuration.
    """
    problems = 0
    for path, config in zip(context.obj, load_configs(context), strict=True):
        queries = format_count(len(config.queries), "query", "queries")
        print_lines([f"{path}: {queries}, no mistakes"])
        print_lines(find_lost_text(path))
        print_lines(find_implied_preset(path, config))
        print_lines(f"{path}: {warning}" for warning in find_raw_counters(config))
        if online:
            problems += run_fleet_check(config) if config.group_by else run_check(config)
        else:
            print_lines(f"{path}: warning: {warning}" for warning in find_warnings(config))
    if web_config is not None:
        print_lines([check_web_config(web_config)])
    if problems:
        raise typer.Exit(PROBLEMS_FOUND)


def check_web_config(path: Path) -> str:
    """What the file turns on.

    Raises:
        ConfigError: with one line for every mistake.
    """
    from promad.http_server import load_security

    security = load_security(path)
    verified = security.tls is not None and security.tls.context.verify_mode.name
    clients = {"CERT_REQUIRED": "with", "CERT_OPTIONAL": "with optional"}.get(verified or "")
    tls = f"TLS {clients} client certificates" if clients else "TLS" if verified else "no TLS"
    return f"{path}: {tls}, {format_count(len(security.users), 'user')}, no mistakes"


def find_warnings(config: Config) -> Iterator[str]:
    """A line for each expression that only the server can check."""
    exclusions = enumerate(config.data_settings.exclude)
    yield from find_promql_warnings(
        {f"queries.{alias}": expr for alias, expr in config.promql.items()}
        | {
            f"data_settings.exclude.{number}": each.expr
            for number, each in exclusions
            if each.expr is not None
        }
        | {
            f"mute.{number}": entry.query
            for number, entry in enumerate(config.mute)
            if entry.query is not None
        }
        | {f"markers.{marker.name}": marker.query for marker in config.markers}
    )


def run_check(config: Config) -> int:
    """Run every query on the server and print how it fares; how many have a problem."""
    from promad.diagnosis.online import choose_limits
    from promad.diagnosis.side_queries import inspect_side_queries
    from promad.prometheus.checking import find_clock_problem, inspect_latency, inspect_queries
    from promad.prometheus.client import PrometheusClient

    step, now = config.data_settings.step, time.time()
    setting = config.real_time_anomaly_detection.latency_offset
    with closing(PrometheusClient(config.prometheus_url, config.prometheus)) as client:
        latency = inspect_latency(client, setting, now)
        limits = choose_limits(config, latency.offset)
        at = now - latency.offset
        checks = inspect_queries(client, config.promql, step, at, limits)
        sides = [] if _is_lost(checks) else inspect_side_queries(client, config, at)
        clock = find_clock_problem(client, latency.offset)
    if latency.repeated is not None:
        print_lines([format_latency(latency, setting)])
    print_lines(format_checks(checks, step))
    print_lines(format_side_checks(sides))
    problems = sum(check.problem is not None for check in checks) + count_problems(sides)
    if clock is not None:
        print_lines([clock])
    if problems:
        asked = len(checks) + len(sides)
        print_lines([f"{config.prometheus_url}: problems with {problems} of {asked} queries"])
    return problems + (clock is not None)


def run_fleet_check(config: Config) -> int:
    """Run every query for all groups and print how it fares; how many problems there are."""
    from promad.diagnosis.online import check_groups, check_labels, choose_limits, find_refused
    from promad.diagnosis.side_queries import inspect_side_queries
    from promad.prometheus.checking import find_clock_problem, inspect_latency
    from promad.prometheus.client import PrometheusClient
    from promad.prometheus.groups.checking import list_groups

    setting, now = config.real_time_anomaly_detection.latency_offset, time.time()
    with closing(PrometheusClient(config.prometheus_url, config.prometheus)) as client:
        latency = inspect_latency(client, setting, now)
        limits = choose_limits(config, latency.offset)
        at = now - latency.offset
        checks = check_groups(client, config, limits, at)
        found = sorted(list_groups(checks))
        sides = [] if _is_lost(checks) else inspect_side_queries(client, config, at, found)
        hidden = check_labels(client, config, now)
        clock = find_clock_problem(client, latency.offset)
    if latency.repeated is not None:
        print_lines([format_latency(latency, setting)])
    print_lines(format_group_checks(checks))
    print_lines(format_side_checks(sides))
    groups = len(found)
    if groups:
        print_lines([format_prediction(config, groups)])
    failed = sum(check.problem is not None for check in checks) + count_problems(sides)
    others = [line for line in (*hidden, find_refused(config, groups), clock) if line is not None]
    print_lines(others)
    if failed:
        asked = len(checks) + len(sides)
        print_lines([f"{config.prometheus_url}: problems with {failed} of {asked} queries"])
    return failed + len(others)


def _is_lost(checks: Sequence[QueryCheck | GroupCheck]) -> bool:
    """Whether the server is to blame, so that asking it more is pointless."""
    from promad.prometheus.server_faults import find_server_fault

    failures = {check.alias: check.failure for check in checks if check.failure is not None}
    return find_server_fault(failures, len(checks))[0] is not None


def format_side_checks(checks: Sequence[SideCheck]) -> Iterator[str]:
    """A line for each query of `mute` and `markers`."""
    return (f"  {check.key}: {check.problem or check.found}" for check in checks)


def count_problems(checks: Sequence[SideCheck]) -> int:
    """How many of the queries of `mute` and `markers` have a problem."""
    return sum(bool(check.problem) for check in checks)


def format_latency(latency: LatencyCheck, setting: float | Literal["auto"]) -> str:
    """A line on the offset, with a warning if the newest samples are not final at it."""
    from promad.diagnosis.online import describe_repetition, find_latency_problem

    offset, repeats = format_duration(latency.offset), describe_repetition(latency)
    if problem := find_latency_problem(latency):
        return f"  latency_offset: warning: {problem}"
    chosen = " (auto)" if setting == "auto" else ""
    return f"  latency_offset: {offset}{chosen}{'; ' + repeats if latency.repeated else ''}"


def format_checks(checks: Sequence[QueryCheck], step: float) -> Iterator[str]:
    """A line for a fault of the server, then one for each query that it does not hit."""
    from promad.prometheus.server_faults import find_server_fault

    failures = {check.alias: check.failure for check in checks if check.failure is not None}
    fault, hit = find_server_fault(failures, len(checks))
    if fault is not None:
        yield f"  {fault.fault} ({format_count(len(hit), 'query', 'queries')})"
    lines = _format_problems([check for check in checks if check.alias not in hit])
    for check in checks:
        if check.problem is not None:
            yield from lines.get(check.alias, ())
            continue
        age = format_duration(round(check.newest_age_seconds or 0))
        yield (
            f"  {check.alias}: {check.series} series, newest sample {age} old, "
            f"{check.points} of {check.points_possible} samples at step {format_duration(step)}"
        )


def _format_problems(checks: Sequence[QueryCheck]) -> dict[str, list[str]]:
    """A line for each problem, by the first query that has it; it names all that have it."""
    problems = {check.alias: check for check in checks if check.problem is not None}
    lines = {}
    for text, names in group_names({alias: _cut_query(each) for alias, each in problems.items()}):
        alias = names.split(", ")[0]
        alone = (problems[alias].problem or "").removeprefix(f"query {alias}: ")
        lines[alias] = [f"  {names}: {text if names != alias else alone}"]
    return lines


def _cut_query(check: QueryCheck) -> str:
    """The problem without the query that has it."""
    from promad.prometheus.one_series import flatten_text

    if check.failure is not None:
        return check.failure.fault
    prefix = f"query {check.alias}: {flatten_text(check.expr)}: "
    return (check.problem or "").removeprefix(prefix)

"""`promad check-config`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from promad.cli.options import load_configs
from promad.cli.output import format_count, print_lines
from promad.config import Config
from promad.config.durations import format_duration
from promad.config.original import find_implied_preset
from promad.config.promql import find_promql_warnings
from promad.config.warnings import find_lost_text, find_raw_counters

if TYPE_CHECKING:
    from promad.prometheus.checking import QueryCheck

PROBLEMS_FOUND = 3
"""The exit code if a query has a problem."""


def check_config(
    context: typer.Context,
    online: Annotated[
        bool,
        typer.Option("--online", metavar="", help="Also run every query on the server."),
    ] = False,
) -> None:
    """Check the configuration and report every mistake with its line.

    PromQL that is unknown here may be valid on the server: it is a warning. --online asks the
    server instead.
    """
    problems = 0
    for path, config in zip(context.obj, load_configs(context), strict=True):
        queries = format_count(len(config.queries), "query", "queries")
        print_lines([f"{path}: {queries}, no mistakes"])
        print_lines(find_lost_text(path))
        print_lines(find_implied_preset(path, config))
        print_lines(f"{path}: {warning}" for warning in find_raw_counters(config))
        if online:
            problems += run_check(config)
        else:
            print_lines(f"{path}: warning: {warning}" for warning in find_warnings(config))
    if problems:
        raise typer.Exit(PROBLEMS_FOUND)


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
    )


def run_check(config: Config) -> int:
    """Run every query on the server and print how it fares; how many have a problem."""
    from promad.prometheus.checking import inspect_queries
    from promad.prometheus.client import PrometheusClient

    step = config.data_settings.step
    at = time.time() - config.real_time_anomaly_detection.latency_offset
    with closing(PrometheusClient(config.prometheus_url, config.prometheus)) as client:
        checks = inspect_queries(client, config.promql, step, at)
    print_lines(format_checks(checks, step))
    problems = sum(check.problem is not None for check in checks)
    if problems:
        print_lines([f"{config.prometheus_url}: problems with {problems} of {len(checks)} queries"])
    return problems


def format_checks(checks: Sequence[QueryCheck], step: float) -> Iterator[str]:
    """A line for each query."""
    for check in checks:
        if check.problem is not None:
            yield f"  {check.alias}: {check.problem}"
            continue
        age = format_duration(round(check.newest_age_seconds or 0))
        yield (
            f"  {check.alias}: {check.series} series, newest sample {age} old, "
            f"{check.points} of {check.points_possible} samples at step {format_duration(step)}"
        )

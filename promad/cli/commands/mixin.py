"""`promad mixin`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from promad.cli.options import load_configs
from promad.cli.output import format_count, print_lines
from promad.cli.web_options import parse_server_url

if TYPE_CHECKING:
    from promad.mixin.writing import Written


def mixin(
    context: typer.Context,
    directory: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Directory to write to.")
    ],
    job: Annotated[
        str,
        typer.Option("--job", metavar="NAME", help="Name of the scrape job of promad."),
    ] = "promad",
    alerts: Annotated[
        Literal["incidents", "per-group"],
        typer.Option(
            "--alerts",
            help="With group_by: one alert for an incident of many groups, or one for each group.",
        ),
    ] = "incidents",
    remote_write: Annotated[
        str | None,
        typer.Option(
            "--remote-write",
            metavar="URL",
            help="Also write rules that record the queries, and the remote_write that sends them "
            "to this URL, such as http://promad:8001/api/v1/write.",
        ),
    ] = None,
    shards: Annotated[
        bool,
        typer.Option(
            "--shards",
            metavar="",
            help="The job has several daemons, shards or replicas: count each incident once.",
        ),
    ] = False,
) -> None:
    """Write Grafana dashboards, and recording and alerting rules for Prometheus.

    They match the metric names and the polling interval of the configuration. With several
    configuration files, they cover a daemon that runs all of these detectors.
    """
    from promad.mixin.alerts import AlertScope
    from promad.mixin.writing import write_mixin

    if shards and alerts == "per-group":
        raise typer.BadParameter(
            "--shards joins incidents, which --alerts per-group has none of — omit one of the two"
        )
    url = parse_server_url(remote_write, "--remote-write")
    configs = load_configs(context)
    written = write_mixin(configs, directory, job, AlertScope(alerts), url, several=shards)
    print_lines([format_mixin(written)])


def format_mixin(written: Written) -> str:
    """What a mixin holds, and where it is."""
    count = format_count(written.features, "recorded query", "recorded queries")
    features = f", {count}" if written.features else ""
    return (
        f"mixin: {format_count(written.dashboards, 'dashboard')}, "
        f"{format_count(written.recordings, 'recording rule')} and "
        f"{format_count(written.alerts, 'alert')} for metrics {written.prefix}*{features} → "
        f"{written.directory}"
    )

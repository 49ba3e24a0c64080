"""`promad init`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from promad.cli.options import DEFAULT_CONFIG
from promad.cli.output import format_count, print_lines
from promad.config.durations import format_duration

if TYPE_CHECKING:
    from promad.prometheus.discovery import Discovery
    from promad.stages.init import InitReport, WrittenConfig

PresetChoice = Literal[
    "auto", "node", "windows", "kubernetes", "postgres", "nvidia-dcgm", "jvm", "redis", "nginx",
    "blackbox",
]  # fmt: skip


def init(
    url: Annotated[
        str | None,
        typer.Option(
            "--prometheus",
            metavar="URL",
            help="Look at what this server scrapes (default: write the preset without a server).",
        ),
    ] = None,
    preset: Annotated[
        PresetChoice,
        typer.Option(
            "--preset", help="Exporter whose metrics to monitor; auto: all that the server has."
        ),
    ] = "auto",
    group_by: Annotated[
        str | None,
        typer.Option(
            "--group-by",
            metavar="LABELS",
            help="Labels of a group, separated by commas (default: those of the preset; "
            "'' for one group).",
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="File to write.")
    ] = DEFAULT_CONFIG,
    http_config: Annotated[
        Path | None,
        typer.Option(
            "--http.config.file",
            metavar="FILE",
            help="HTTP client settings, such as basic_auth, as for promtool; a configuration file "
            "with a section prometheus works too. They become part of the written file.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", metavar="", help="Overwrite files that exist.")
    ] = False,
) -> None:
    """Write a configuration for the metrics that a Prometheus has.

    Every query is run on the server. Queries without data, of few groups, or constant for a day or
    more are left out: the file has them as comments, with the reason. If the metrics of several
    exporters are there, each has a file of its own, such as config-postgres.yaml.
    """
    from promad.stages.init import InitRequest, init

    labels = None if group_by is None else tuple(filter(None, map(str.strip, group_by.split(","))))
    report = init(InitRequest(output, preset, url, labels, http_config, force), time.time())
    print_lines(format_report(report, url))


def format_report(report: InitReport, url: str | None) -> Iterator[str]:
    """What was found, left out and written, and what to do next."""
    if report.server is not None:
        yield f"init: {url}: {format_server(report.server)}"
        if report.server.unread:
            yield f"  not available on this server: {', '.join(report.server.unread)}"
    for one in report.written:
        yield from format_written(one)
    for name, why in report.skipped.items():
        yield f"  {name}: not written, no query holds: {why}"
    paths = [one.path for one in report.written]
    named = "" if paths == [DEFAULT_CONFIG] else "".join(f" -c {path}" for path in paths)
    if report.server is not None:
        yield f"next: promad{named} check-config --online"
    else:
        yield f"next: set prometheus_url, then promad{named} check-config --online"


def format_server(server: Discovery) -> str:
    """What is known of a server, in one line."""
    parts = [f"version {server.version}"] if server.version else []
    if server.targets is not None:
        parts.append(format_count(server.targets, "target"))
    parts.append(format_count(len(server.names), "metric name"))
    if server.retention is not None:
        parts.append(f"retention {server.retention}")
    return ", ".join(parts)


def format_written(one: WrittenConfig) -> Iterator[str]:
    """A configuration, and what was left out of it."""
    from promad.presets.fitting import format_history

    name, timing, found = one.draft.name, one.draft.timing, ""
    if one.fit is not None:
        found = (
            f", {format_count(one.fit.groups, 'group')}, scrape interval "
            f"{format_duration(timing.interval)}, {format_history(one.fit.history)} of history"
        )
    yield f"  {name}: {format_count(one.queries, 'query', 'queries')}{found} → {one.path}"
    for alias, why in one.draft.left_out.items():
        yield f"  {name}: left out {alias}: {why}"
    if timing.wait:
        wait = format_duration(timing.wait)
        yield f"  {name}: too little history to train; run promad run in {wait}"

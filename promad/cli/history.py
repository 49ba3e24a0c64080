"""Commands that look back: explain, backtest, report."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from promad.cli import history_reports
from promad.cli.options import config_of, configs_of, moment
from promad.cli.running import say
from promad.errors import PromadError

history = typer.Typer()

_TIME = "ISO 8601, or so long ago: 2h, 7d; or now."

FromOption = Annotated[str, typer.Option("--from", metavar="TIME", help=f"The start: {_TIME}")]
ToOption = Annotated[str, typer.Option("--to", metavar="TIME", help=f"The end: {_TIME}")]


@history.command()
def explain(
    context: typer.Context,
    at: Annotated[str, typer.Option("--at", metavar="TIME", help=_TIME)] = "now",
    group: Annotated[
        str | None, typer.Option("--group", help="Only this one; all of them if left out.")
    ] = None,
) -> None:
    """Say why a sample was judged as it was: what drives it, since when, what was expected.

    The samples are fetched anew, so any time will do that Prometheus still has. The daemon's page
    and API say the same of what it has seen itself.
    """
    configs = configs_of(context)
    known = [config.name for config in configs]
    if group is not None and group not in known:
        raise PromadError(f"explain: there is no group {group} (there: {', '.join(known)})")
    chosen = [config for config in configs if group in {None, config.name}]
    from promad.stages.explain import explain_at

    for config in chosen:
        say(history_reports.explained_lines(explain_at(config, moment(at, time.time()))))


@history.command()
def backtest(
    context: typer.Context,
    start: FromOption = "7d",
    end: ToOption = "now",
    events: Annotated[
        Path | None,
        typer.Option("--events", help="Known incidents: YAML with a list of start, end, name."),
    ] = None,
    openmetrics: Annotated[
        Path | None,
        typer.Option("--openmetrics", help="Write what the daemon would have exposed, to import."),
    ] = None,
    push: Annotated[
        str | None,
        typer.Option("--push", metavar="URL", help="Send it by remote write to this address."),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label",
            metavar="NAME=VALUE",
            help="What a scrape would add; by default job=promad and instance=localhost:PORT.",
        ),
    ] = None,
) -> None:
    """Replay history through the daemon's own path: what it would have said, sample by sample.

    With incidents given, events are held against them: precision and recall of events without
    point adjustment, delay of detection, and who was first, promad or an alert that fired. Import
    the file of --openmetrics by promtool tsdb create-blocks-from openmetrics FILE DATA_DIRECTORY,
    and dashboards have history from the first day.
    """
    from promad.backfill import Exposed, OpenMetricsFile, Pushed, openmetrics_file, pushed
    from promad.config.incidents import load_incidents
    from promad.prometheus.remote_write import RemoteWriter
    from promad.stages.backtest import backtest as stage

    config, now = config_of(context), time.time()
    incidents = () if events is None else load_incidents(events)
    live = config.real_time_anomaly_detection
    exposed = Exposed(config.name, live.metrics_prefix, _labels(label or [], live.exporter_port))
    with ExitStack() as stack:
        takers: list[OpenMetricsFile | Pushed] = []
        if openmetrics is not None:
            takers.append(stack.enter_context(openmetrics_file(openmetrics, exposed)))
        if push is not None:
            writer = RemoteWriter(push, config.prometheus_url, config.prometheus)
            stack.callback(writer.close)
            takers.append(stack.enter_context(pushed(exposed, writer.push)))
        found = stage(
            config,
            moment(start, now),
            min(moment(end, now), now),
            incidents,
            [taker.add for taker in takers],
        )
    say(history_reports.backtest_lines(found))
    for where in (openmetrics, push):
        say([f"  exposed metrics → {where}"] if where else [])


def _labels(given: list[str], port: int) -> dict[str, str]:
    labels = {"job": "promad", "instance": f"localhost:{port}"}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name.isidentifier():
            raise typer.BadParameter(f"{each} is not NAME=VALUE, as in instance=host:8001")
        labels[name] = value
    return {name: value for name, value in labels.items() if value}


@history.command()
def report(
    context: typer.Context,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write.")],
    start: FromOption = "24h",
    end: ToOption = "now",
) -> None:
    """Write a page about a period, for a post-mortem: one file that needs no network.

    It shows the score, every event with what drove it, and observed against expected values of
    those features.
    """
    from promad.stages.report import write_report

    config, now = config_of(context), time.time()
    found = write_report(config, moment(start, now), min(moment(end, now), now), output)
    say([f"report: {len(found.events)} events in {len(found.times)} samples → {output}"])

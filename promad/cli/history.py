"""Commands that look back: explain, backtest, report."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promad.cli import history_reports
from promad.cli.options import config_of, configs_of, moment
from promad.cli.running import progress_bar, say
from promad.config import Config
from promad.config.durations import format_instant
from promad.errors import PromadError

if TYPE_CHECKING:
    from promad.events.status import GroupStatus
    from promad.stages.backtest import Visitor

history = typer.Typer()

_SHOWN_EVERY = 100

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
    from promad.config.known_incidents import load_incidents
    from promad.stages.backtest import backtest as stage

    config, now = config_of(context), time.time()
    incidents = () if events is None else load_incidents(events)
    labels = _labels(label or [], config.real_time_anomaly_detection.exporter_port)
    first, last = moment(start, now), min(moment(end, now), now)
    with (
        _taking(config, openmetrics, push, labels) as takers,
        _progress(config, first, last) as bar,
    ):
        found = stage(config, first, last, incidents, [*takers, bar])
    say(f"  exposed metrics → {where}" for where in (openmetrics, push) if where)
    say(history_reports.backtest_lines(found))


@contextmanager
def _taking(
    config: Config, openmetrics: Path | None, push: str | None, labels: Mapping[str, str]
) -> Iterator[list[Visitor]]:
    """Whatever takes what the daemon would have exposed: a file, a server, or nothing."""
    from promad.exposition.openmetrics import write_openmetrics
    from promad.exposition.pushing import push_samples
    from promad.exposition.scrape_target import ScrapeTarget
    from promad.prometheus.remote_write import RemoteWriter

    live = config.real_time_anomaly_detection
    target = ScrapeTarget(config.name, live.metrics_prefix, labels)
    takers: list[Visitor] = []
    with ExitStack() as stack:
        if openmetrics is not None:
            takers.append(stack.enter_context(write_openmetrics(openmetrics, target)).add)
        if push is not None:
            writer = RemoteWriter(push, config.prometheus_url, config.prometheus)
            stack.callback(writer.close)
            takers.append(stack.enter_context(push_samples(target, writer.push)).add)
        yield takers


@contextmanager
def _progress(config: Config, start: float, end: float) -> Iterator[Visitor]:
    """A bar that moves on with the samples, on a terminal."""
    samples = max(round((end - start) / config.data_settings.step), 1)
    seen = count(1)
    with progress_bar("replay") as update:

        def show(status: GroupStatus) -> None:
            number = next(seen)
            if number % _SHOWN_EVERY == 0:
                update(number, samples, format_instant(status.verdict.at))

        yield show


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
    first, last = moment(start, now), min(moment(end, now), now)
    with _progress(config, first, last) as bar:
        found = write_report(config, first, last, output, [bar])
    say([f"report: {len(found.events)} events in {len(found.times)} samples → {output}"])

"""`promad backtest`."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promad.cli.options import FromOption, ToOption, load_one_config, parse_period
from promad.cli.output import format_count, format_outside, print_lines
from promad.cli.progress import show_replay_progress
from promad.config import Config
from promad.config.durations import format_duration, format_instant

if TYPE_CHECKING:
    from promad.stages.backtest import Alert, Backtest, Visitor

_MOST_ALERTS = 20
"""How many alerts are listed one by one."""


def backtest(
    context: typer.Context,
    start: FromOption = "7d",
    end: ToOption = "now",
    events: Annotated[
        Path | None,
        typer.Option(
            "--events", metavar="FILE", help="Known incidents: YAML list of start, end and name."
        ),
    ] = None,
    openmetrics: Annotated[
        Path | None,
        typer.Option(
            "--openmetrics",
            metavar="FILE",
            help="Write the metrics that the daemon would have exposed.",
        ),
    ] = None,
    push: Annotated[
        str | None,
        typer.Option("--push", metavar="URL", help="Send these metrics to a remote-write URL."),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label",
            metavar="NAME=VALUE",
            help="Label of these metrics, as a scrape adds it; repeatable "
            "(default: job=promad and instance=localhost:PORT).",
        ),
    ] = None,
) -> None:
    """Replay a period sample by sample, and report the events that the daemon would have raised.

    The events are compared with the alerts that fired in the period and, with --events, with known
    incidents: recall and precision of events without point adjustment, and detection delay.

    To give dashboards a history, import the file of --openmetrics with promtool tsdb
    create-blocks-from openmetrics FILE DATA_DIRECTORY.
    """
    from promad.config.known_incidents import load_incidents
    from promad.stages.backtest import backtest as stage

    config = load_one_config(context)
    incidents = () if events is None else load_incidents(events)
    labels = _parse_labels(label or [], config.real_time_anomaly_detection.exporter_port)
    first, last = parse_period(start, end, time.time())
    with (
        _export_metrics(config, openmetrics, push, labels) as exports,
        show_replay_progress(config, first, last) as progress,
    ):
        found = stage(config, first, last, incidents, [*exports, progress])
    print_lines(f"  metrics → {where}" for where in (openmetrics, push) if where)
    print_lines(format_backtest(found))


@contextmanager
def _export_metrics(
    config: Config, openmetrics: Path | None, push: str | None, labels: Mapping[str, str]
) -> Iterator[list[Visitor]]:
    """What takes the metrics that the daemon would have exposed: a file, a server, or nothing."""
    from promad.exposition.openmetrics import write_openmetrics
    from promad.exposition.pushing import push_samples
    from promad.exposition.scrape_target import ScrapeTarget
    from promad.prometheus.remote_write import RemoteWriter

    live = config.real_time_anomaly_detection
    target = ScrapeTarget(config.name, live.metrics_prefix, labels)
    exports: list[Visitor] = []
    with ExitStack() as stack:
        if openmetrics is not None:
            exports.append(stack.enter_context(write_openmetrics(openmetrics, target)).add)
        if push is not None:
            writer = RemoteWriter(push, config.prometheus_url, config.prometheus)
            stack.callback(writer.close)
            exports.append(stack.enter_context(push_samples(target, writer.push)).add)
        yield exports


def _parse_labels(given: list[str], port: int) -> dict[str, str]:
    labels = {"job": "promad", "instance": f"localhost:{port}"}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name.isidentifier():
            raise typer.BadParameter(
                f"invalid label {each}; write NAME=VALUE, such as instance=host:8001"
            )
        labels[name] = value
    return {name: value for name, value in labels.items() if value}


def format_backtest(found: Backtest) -> Iterator[str]:
    """Every event, the comparison with incidents and alerts, then the totals."""
    from promad.events.explanation import paragraph
    from promad.events.verdict import State

    for event in found.events:
        end = "still open" if event.end is None else format_duration(event.end - event.start)
        yield (
            f"  {event.id}  {format_instant(event.start)}  {end:>10}  "
            f"peak {event.peak_ratio:.2f}  {', '.join(view.name for view in event.top_features)}"
        )
        yield f"    {paragraph(event.peak, event.start)}"
    yield from format_outside(found.outside)
    yield from _format_incidents(found)
    yield from _format_alerts(found)
    budget = "false alarm" if found.budget == 1 else "false alarms"
    yield (
        f"backtest: {format_count(len(found.times), 'sample')} of {found.group} from "
        f"{format_instant(found.times[0])} to {format_instant(found.times[-1])}: "
        f"{format_count(len(found.events), 'event')}, {_format_frequency(found.events_per_week)} "
        f"(budget: {found.budget:g} {budget} per week); "
        f"{found.share(State.ANOMALOUS):.2%} of the time anomalous, "
        f"{found.share(State.BLIND):.2%} blind, {found.share(State.WARMING):.2%} warming"
    )


def _format_incidents(found: Backtest) -> Iterator[str]:
    """Each incident and the event that matches it, then the totals."""
    for incident in found.incidents:
        event = found.event_during(incident.start, incident.end)
        how = "missed"
        if event is not None:
            delay = max(event.flagged_at - incident.start, 0.0)
            how = f"detected by event {event.id} after {_format_seconds(delay)}"
        yield f"  {incident.name}, {format_instant(incident.start)}: {how}"
    if found.figures is not None:
        figures = found.figures
        near = figures.episodes - figures.false_episodes
        yield (
            f"  incidents: {figures.found} of {figures.segments} detected "
            f"(recall {_format_rate(figures.event_recall)}); {near} of {figures.episodes} events "
            f"match an incident (precision {_format_rate(figures.alarm_precision)}); "
            f"median delay {_format_seconds(figures.median_delay_seconds)}, 90 % within "
            f"{_format_seconds(figures.p90_delay_seconds)}; no point adjustment"
        )


def _format_alerts(found: Backtest) -> Iterator[str]:
    """Which was first, the event or the alert that fired."""
    for alert in found.alerts[:_MOST_ALERTS]:
        yield (
            f"  alert {alert.labels} fired at {format_instant(alert.start)}: "
            f"{_format_lead(found, alert)}"
        )
    if len(found.alerts) > _MOST_ALERTS:
        yield f"  and {format_count(len(found.alerts) - _MOST_ALERTS, 'more alert')}"


def _format_lead(found: Backtest, alert: Alert) -> str:
    lead = found.lead(alert)
    if lead is None:
        return "no event while it fired"
    return f"event {_format_seconds(abs(lead))} {'earlier' if lead >= 0 else 'later'}"


def _format_frequency(per_week: float) -> str:
    """Events per week, or why that is unknown.

    >>> _format_frequency(2.0), _format_frequency(float("nan"))
    ('2 per week of scored time', 'no sample was scored')
    """
    return (
        "no sample was scored"
        if math.isnan(per_week)
        else f"{per_week:.3g} per week of scored time"
    )


def _format_rate(value: float) -> str:
    return "unknown" if math.isnan(value) else f"{value:.2f}"


def _format_seconds(value: float) -> str:
    return "unknown" if math.isnan(value) else format_duration(round(value))

"""`promad backtest`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from promad.cli.backend_options import (
    BackendOption,
    JobsOption,
    RequestsOption,
    SchedulerOption,
    SendSecretsOption,
    choose_backend,
    choose_fetching,
)
from promad.cli.options import (
    FromOption,
    GroupOption,
    ToOption,
    load_one_config,
    parse_period,
    require_groups,
)
from promad.cli.output import format_count, format_outside, print_lines
from promad.cli.progress import show_replay_progress
from promad.config import Config
from promad.config.durations import format_duration, format_instant
from promad.errors import PromadError

if TYPE_CHECKING:
    from promad.detection.backtest_results import Backtest, FleetBacktest
    from promad.detection.fleet_replay import FleetSample
    from promad.detection.fleet_tally import GroupTally
    from promad.evaluation.episodes import EpisodeFigures
    from promad.evaluation.extents import Extents
    from promad.events.events import AnomalyEvent
    from promad.events.incidents import Incident
    from promad.events.status import GroupStatus
    from promad.exposition.groups import AnySnapshot
    from promad.prometheus.firing_alerts import Alert

_MOST_ALERTS = 20
"""How many alerts are listed one by one."""

_MOST_GROUPS = 10
"""How many groups with events are listed one by one."""


def backtest(
    context: typer.Context,
    start: FromOption = "7d",
    end: ToOption = "now",
    group: GroupOption = None,
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
    backend: BackendOption = None,
    scheduler: SchedulerOption = None,
    jobs: JobsOption = None,
    requests: RequestsOption = 4,
    send_secrets: SendSecretsOption = False,
) -> None:
    """Replay a period sample by sample, and report the events that the daemon would have raised.

    The events are compared with the alerts that fired in the period and, with --events, with known
    incidents: recall and precision of events without point adjustment, and detection delay.

    With group_by, all groups are replayed, and their incidents are compared in place of events.
    --group replays one group.

    To give dashboards a history, import the file of --openmetrics with promtool tsdb
    create-blocks-from openmetrics FILE DATA_DIRECTORY.

    With --backend, workers fetch the samples of all groups. They need access to the server.
    """
    from promad.config.known_incidents import load_incidents
    from promad.stages.backtest import backtest as stage
    from promad.stages.backtest import backtest_fleet

    config = load_one_config(context)
    require_groups("backtest", config, group)
    where = choose_fetching(
        config, choose_backend(backend, scheduler, jobs), requests, send_secrets
    )
    if where is not None and group is not None:
        raise PromadError(
            f"--backend {where.name} fetches all groups — omit --group {group}, or --backend"
        )
    incidents = () if events is None else load_incidents(events)
    labels = _parse_labels(label or [], config.real_time_anomaly_detection.exporter_port)
    first, last = parse_period(start, end, time.time())
    exported = [str(where) for where in (openmetrics, push) if where]
    with (
        _export_metrics(config, openmetrics, push, labels) as exports,
        show_replay_progress(config, first, last) as show,
    ):
        if config.group_by and group is None:
            visit = _visit_fleet(config, exports, show)
            lines = format_fleet(backtest_fleet(config, first, last, incidents, [visit], where))
        else:
            visitors = [*(each.add for each in exports), lambda status: show(status.verdict.at)]
            lines = format_backtest(stage(config, first, last, incidents, visitors, group))
    print_lines(f"  metrics → {where}" for where in exported)
    print_lines(lines)


class _Export(Protocol):
    """What takes the metrics that the daemon would have exposed."""

    def add(self, status: GroupStatus) -> None: ...

    def add_snapshot(self, at: float, snapshot: AnySnapshot, /) -> None: ...


def _visit_fleet(
    config: Config, exports: Sequence[_Export], show: Callable[[float], None]
) -> Callable[[FleetSample], None]:
    """What is done with each sample of all groups."""
    live = config.real_time_anomaly_detection

    def visit(sample: FleetSample) -> None:
        show(sample.judgements.at)
        if exports:
            snapshot = sample.build_snapshot(
                config.name, live.metrics_prefix, live.max_feature_series
            )
            for export in exports:
                export.add_snapshot(sample.judgements.at, snapshot)

    return visit


@contextmanager
def _export_metrics(
    config: Config, openmetrics: Path | None, push: str | None, labels: Mapping[str, str]
) -> Iterator[list[_Export]]:
    """What takes the metrics that the daemon would have exposed: a file, a server, or nothing."""
    from promad.exposition.openmetrics import write_openmetrics
    from promad.exposition.pushing import push_samples
    from promad.exposition.scrape_target import ScrapeTarget
    from promad.prometheus.remote_write import RemoteWriter

    live = config.real_time_anomaly_detection
    target = ScrapeTarget(config.name, live.metrics_prefix, labels)
    exports: list[_Export] = []
    with ExitStack() as stack:
        if openmetrics is not None:
            exports.append(stack.enter_context(write_openmetrics(openmetrics, target)))
        if push is not None:
            writer = RemoteWriter(push, config.prometheus_url, config.prometheus)
            stack.callback(writer.close)
            exports.append(stack.enter_context(push_samples(target, writer.push)))
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
            f"{_format_mute(event)}"
        )
        yield f"    {paragraph(event.peak, event.start)}"
    yield from format_outside(found.outside)
    yield from _format_incidents(found)
    yield from _format_alerts(found)
    yield (
        f"backtest: {format_count(len(found.times), 'sample')} of {found.group} from "
        f"{format_instant(found.times[0])} to {format_instant(found.times[-1])}: "
        f"{format_count(len(found.events), 'event')}{_format_muted(found.muted)}, "
        f"{_format_frequency(found.events_per_week)} "
        f"(budget: {_format_budget(found.budget)}); "
        f"{found.share(State.ANOMALOUS):.2%} of the time anomalous, "
        f"{found.share(State.BLIND):.2%} blind, {found.share(State.WARMING):.2%} warming"
    )


def _format_mute(found: AnomalyEvent | Incident) -> str:
    """By what it was muted and, if it was still open then, until when."""
    if found.muted is None:
        return ""
    until = "" if found.unmuted_at is None else f" until {format_instant(found.unmuted_at)}"
    return f"  muted{until}: {found.muted}"


def _format_muted(count: int) -> str:
    """How many of all were muted throughout."""
    return f" ({count} muted)" if count else ""


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
        yield _format_figures(found.figures, "incidents", "events match an incident")
    if found.extents is not None:
        yield from _format_extents(found.extents, found.step, "event")


def _format_figures(figures: EpisodeFigures, known: str, match: str) -> str:
    near = figures.episodes - figures.false_episodes
    return (
        f"  {known}: {figures.found} of {figures.segments} detected "
        f"(recall {_format_rate(figures.event_recall)}); {near} of {figures.episodes} {match} "
        f"(precision {_format_rate(figures.alarm_precision)}); "
        f"median delay {_format_seconds(figures.median_delay_seconds)}, 90 % within "
        f"{_format_seconds(figures.p90_delay_seconds)}; no point adjustment"
    )


def _format_extents(extents: Extents, step: float, noun: str) -> Iterator[str]:
    """How long events lasted beyond the incidents that they found; nothing if none was found."""
    if not len(extents.overhang):
        return
    seen = extents.summarise(step)
    yield (
        f"  overhang: {noun}s were over {_format_signed(seen['overhang_median_seconds'])} after "
        f"the incident (median), 90 % within {_format_signed(seen['overhang_p90_seconds'])}; "
        f"peak lag {_format_seconds(seen['peak_lag_median_seconds'])}, 90 % within "
        f"{_format_seconds(seen['peak_lag_p90_seconds'])}; "
        f"{seen['fragments_mean']:.2f} {noun}s per incident; "
        f"{seen['coverage_mean']:.0%} of the incident covered"
    )


def _format_signed(seconds: float) -> str:
    """A duration that may be below 0.

    >>> _format_signed(-90.0)
    '-1m30s'
    """
    return f"{'-' if round(seconds) < 0 else ''}{_format_seconds(abs(seconds))}"


def _format_alerts(found: Backtest) -> Iterator[str]:
    """Which was first, the event or the alert that fired."""
    for alert in found.alerts[:_MOST_ALERTS]:
        yield (
            f"  alert {alert.labels} fired at {format_instant(alert.start)}: "
            f"{_format_lead(found, alert)}"
        )
    yield from _count_more_alerts(len(found.alerts))


def _format_lead(found: Backtest, alert: Alert) -> str:
    lead = found.lead(alert)
    if lead is None:
        return "no event while it fired"
    return f"event {_format_seconds(abs(lead))} {'earlier' if lead >= 0 else 'later'}"


def format_fleet(found: FleetBacktest) -> Iterator[str]:
    """Every incident, the comparison with known ones and alerts, the groups, then the totals."""
    from promad.events.verdict import State

    for incident in found.found:
        yield from _format_incident(incident)
    yield from _format_known(found)
    yield from _format_fleet_alerts(found)
    yield from format_outside(found.outside)
    affected = [group for group in found.groups if group.events]
    for group in affected[:_MOST_GROUPS]:
        yield f"  {_format_group(group)}"
    if len(affected) > _MOST_GROUPS:
        more = len(affected) - _MOST_GROUPS
        yield f"  and {format_count(more, 'more group')} with events"
    kind = "incident" if found.figures is None else "false incident"
    whom = " for each group" if found.per == "group" else ""
    yield (
        f"backtest: {format_count(len(found.found), 'incident')}{_format_muted(found.muted)} in "
        f"{format_count(len(found.times), 'sample')} of {found.detector} from "
        f"{format_instant(found.times[0])} to {format_instant(found.times[-1])}: "
        f"{_format_frequency(found.incidents_per_week, kind)} "
        f"(budget: {_format_budget(found.budget)}{whom}); "
        f"{format_count(len(found.events), 'event')} in {len(affected)} of "
        f"{format_count(len(found.groups), 'group')}; "
        f"{found.share(State.ANOMALOUS):.2%} of the samples anomalous, "
        f"{found.share(State.BLIND):.2%} blind, {found.share(State.WARMING):.2%} warming"
    )


def _format_incident(incident: Incident) -> Iterator[str]:
    from promad.events.explanation import incident_paragraph

    end = "still open" if incident.end is None else format_duration(incident.end - incident.start)
    features = ", ".join(each.name for each in incident.leading_features[:3])
    yield (
        f"  {incident.id}  {format_instant(incident.start)}  {end:>10}  "
        f"{incident.groups} of {format_count(incident.groups_watched, 'group')}, "
        f"first {incident.first.group}  "
        f"peak {incident.peak.peak_ratio:.2f}  {features}{_format_mute(incident)}"
    )
    yield f"    {incident_paragraph(incident)}"


def _format_group(group: GroupTally) -> str:
    from promad.events.verdict import State

    return (
        f"{group.name}: {format_count(len(group.events), 'event')}, peak {group.peak_ratio:.2f}, "
        f"{group.share(State.ANOMALOUS):.2%} of its samples anomalous, "
        f"{group.share(State.BLIND):.2%} blind"
    )


def _format_known(found: FleetBacktest) -> Iterator[str]:
    """Each known incident and the one found that matches it, then the totals."""
    for known in found.incidents:
        incident = found.incident_during(known.start, known.end)
        how = "missed"
        if incident is not None:
            delay = max(incident.flagged_at - known.start, 0.0)
            how = (
                f"detected by incident {incident.id} after {_format_seconds(delay)}, "
                f"first in {incident.first.group}"
            )
        yield f"  {known.name}, {format_instant(known.start)}: {how}"
    if found.figures is not None:
        yield _format_figures(found.figures, "known incidents", "incidents match a known one")
    if found.extents is not None:
        yield from _format_extents(found.extents, found.step, "incident")


def _format_fleet_alerts(found: FleetBacktest) -> Iterator[str]:
    """Which was first, the alert that fired or promad."""
    from promad.events.events import AnomalyEvent

    for alert in found.alerts[:_MOST_ALERTS]:
        match = found.match_alert(alert)
        how = "no event while it fired"
        if match is not None:
            lead = alert.start - match.flagged_at
            noun = f"event of {match.group}" if isinstance(match, AnomalyEvent) else "incident"
            how = f"{noun} {_format_seconds(abs(lead))} {'earlier' if lead >= 0 else 'later'}"
        yield f"  alert {alert.labels} fired at {format_instant(alert.start)}: {how}"
    yield from _count_more_alerts(len(found.alerts))


def _count_more_alerts(count: int) -> Iterator[str]:
    if count > _MOST_ALERTS:
        yield f"  and {format_count(count - _MOST_ALERTS, 'more alert')}"


def _format_budget(per_week: float) -> str:
    return f"{per_week:g} {'false alarm' if per_week == 1 else 'false alarms'} per week"


def _format_frequency(per_week: float, noun: str = "") -> str:
    """How many per week, or why that is unknown.

    >>> _format_frequency(2.0), _format_frequency(float("nan"))
    ('2 per week of scored time', 'no sample was scored')
    """
    if math.isnan(per_week):
        return "no sample was scored"
    what = f" {noun}{'' if per_week == 1 else 's'}" if noun else ""
    return f"{per_week:.3g}{what} per week of scored time"


def _format_rate(value: float) -> str:
    return "unknown" if math.isnan(value) else f"{value:.2f}"


def _format_seconds(value: float) -> str:
    return "unknown" if math.isnan(value) else format_duration(round(value))

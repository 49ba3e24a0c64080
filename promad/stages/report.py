"""`report`: a period as one page for a post-mortem, from a replay of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import structlog

from promad.bundle import Opened, open_detector
from promad.config import Config
from promad.config.durations import format_duration, format_instant
from promad.data.gaps import find_runs
from promad.data.groups import THE_ONLY_GROUP, Grouping, Labels
from promad.detection.backtest_results import Backtest, FleetBacktest
from promad.detection.fleet_tally import GroupTally
from promad.detection.group_replay import fetch_group_samples
from promad.detection.live import begin_live
from promad.detection.marker_queries import make_marker_rule
from promad.detection.recent_history import Recent, RecentHistory
from promad.detection.replay import replay
from promad.errors import PrometheusError
from promad.events.events import AnomalyEvent
from promad.events.explanation import event_paragraph, incident_paragraph
from promad.events.incidents import Incident
from promad.events.markers import Marker, MarkerRule, describe_marker, find_marker
from promad.events.verdict import STATES, FeatureView, State
from promad.pages.figures import Figure
from promad.pages.rendering import write_page
from promad.pages.timelines import Period, draw_elevations, draw_feature, draw_score
from promad.prometheus import PrometheusClient
from promad.prometheus.grid import Span
from promad.prometheus.version_queries import fetch_markers
from promad.stages.backtest import (
    FleetVisitor,
    Visitor,
    backtest,
    backtest_fleet,
)

log = structlog.get_logger()

_MAX_CHARTED_EVENTS = 20
"""The events with the highest peaks have charts."""

_MAX_INCIDENTS = 50
_MAX_MEMBERS = 20
_MAX_GROUPS = 10
"""The groups with the highest peaks are shown in detail."""

_MAX_EVENTS_OF_GROUP = 5
_MAX_FEATURES = 10
_MARGIN_SECONDS = 1800.0
_MEMBER_HEADINGS = ("since", "lasted", "peak", "features")
_FEATURE_HEADINGS = (
    "share",
    "direction",
    "observed",
    "expected",
    "error, × baseline",
    "at",
    "deviating since",
)


class _Markers(NamedTuple):
    """The versions that were deployed, oldest first, and which of them events name."""

    all: Sequence[Marker]
    rule: MarkerRule

    def describe(self, labels: Labels, start: float) -> str:
        """A sentence to follow the text of an event; empty if no marker is near."""
        near = find_marker(self.all, labels, start, self.rule)
        return "" if near is None else f" {describe_marker(near, start)}"


def _fetch_markers(config: Config, start: float, end: float) -> list[Marker]:
    """What was deployed in a period; a query that fails leaves a line in the log."""
    found: list[Marker] = []
    step, grouping = config.data_settings.step, Grouping.of(config)
    with closing(PrometheusClient(config.prometheus_url, config.prometheus)) as client:
        for entry in config.markers:
            try:
                span = Span(float(start), float(end))
                found += fetch_markers(client, entry.name, entry.query, span, step, grouping)
            except PrometheusError as error:
                log.warning("marker query failed", marker=entry.name, error=error.summary)
    return sorted(found, key=lambda marker: marker.at)


def _list_marks(markers: Sequence[Marker], labels: Labels) -> list[tuple[float, str]]:
    """The times of the markers about a group, with their titles."""
    return [(marker.at, marker.title) for marker in markers if marker.is_about(labels)]


@dataclass(frozen=True)
class EventSection:
    """What the page shows of one event.

    Attributes:
        features: cells under `_FEATURE_HEADINGS` by feature, largest share first.
        charts: figures by their id on the page.
    """

    id: str
    title: str
    paragraph: str
    features: Mapping[str, Sequence[str]]
    charts: Mapping[str, Figure]


@dataclass(frozen=True)
class IncidentSection:
    """What the page shows of one incident.

    Attributes:
        members: cells under `_MEMBER_HEADINGS` by group, earliest first.
        members_left_out: how many more groups it has.
    """

    id: str
    title: str
    paragraph: str
    members: Mapping[str, Sequence[str]]
    members_left_out: int


@dataclass(frozen=True)
class GroupSection:
    """What the page shows of one group; `id` is that of its chart."""

    id: str
    name: str
    summary: str
    score: Figure
    events: Sequence[EventSection]


def write_report(
    config: Config,
    start: float,
    end: float,
    path: Path,
    visitors: Sequence[Visitor] = (),
    group: str | None = None,
) -> Backtest:
    """Write the page about `start` to `end`, in unix seconds.

    Args:
        group: the name of one group of many.

    Raises:
        PromadError: as `backtest`; DataError if the page cannot be written.
    """
    scored = config.features[: config.scored]
    ring = RecentHistory(scored, int((end - start) / config.data_settings.step) + 2)
    keep = [lambda status: ring.add(status.verdict), *visitors]
    found = backtest(config, start, end, visitors=keep, group=group)
    recent = ring.between()
    anomalous = [(event.start, event.end or recent.times[-1]) for event in found.events]
    markers = _fetch_markers(config, found.times[0], found.times[-1])
    labels = found.events[0].labels if found.events else THE_ONLY_GROUP
    write_page(
        path,
        "report.html",
        title=f"{found.group}, {_format_period(found.times[0], found.times[-1])}",
        summary=_summarise(found),
        alerts=_list_alerts(found),
        score=draw_score(
            recent.times, recent.score, anomalous, _find_blind(recent), _list_marks(markers, labels)
        ),
        elevation=draw_elevations(recent.times, recent.features, recent.elevation),
        feature_headings=_FEATURE_HEADINGS,
        events=_list_events(found.events, recent, _Markers(markers, make_marker_rule(config))),
        queries=config.promql,
    )
    return found


def write_fleet_report(
    config: Config, start: float, end: float, path: Path, visitors: Sequence[FleetVisitor] = ()
) -> FleetBacktest:
    """Write the page about all groups from `start` to `end`, in unix seconds.

    Incidents come first, then the groups with the highest peaks, which are read from Prometheus
    once more for their charts.

    Raises:
        PromadError: as `backtest_fleet`; DataError if the page cannot be written.
    """
    found = backtest_fleet(config, start, end, visitors=visitors)
    worst = sorted(found.found, key=lambda incident: -incident.peak.peak_ratio)[:_MAX_INCIDENTS]
    affected = [tally for tally in found.groups if tally.events]
    opened = open_detector(config)
    markers = _Markers(
        _fetch_markers(config, found.times[0], found.times[-1]), make_marker_rule(config)
    )
    write_page(
        path,
        "fleet_report.html",
        title=f"{found.detector}, {_format_period(found.times[0], found.times[-1])}",
        summary=_summarise_fleet(found),
        alerts=_list_fleet_alerts(found),
        incidents=[
            _view_incident(incident, markers) for incident in sorted(worst, key=lambda i: i.start)
        ],
        incidents_left_out=len(found.found) - len(worst),
        member_headings=_MEMBER_HEADINGS,
        groups=[
            _view_group(opened, tally, number, found, markers)
            for number, tally in enumerate(affected[:_MAX_GROUPS])
        ],
        groups_left_out=max(0, len(affected) - _MAX_GROUPS),
        feature_headings=_FEATURE_HEADINGS,
        queries=config.promql,
    )
    return found


def _summarise_fleet(found: FleetBacktest) -> str:
    incidents, groups, events = len(found.found), len(found.groups), len(found.events)
    affected = sum(bool(tally.events) for tally in found.groups)
    return (
        f"{incidents} incident{'' if incidents == 1 else 's'}; {events} "
        f"event{'' if events == 1 else 's'} in {affected} of {groups} "
        f"group{'' if groups == 1 else 's'}. Budget: {found.budget:g} false "
        f"alarm{'' if found.budget == 1 else 's'} per week. One sample every "
        f"{format_duration(found.step)}. Share of samples: {_list_shares(found)}."
    )


def _list_shares(found: Backtest | FleetBacktest) -> str:
    return ", ".join(
        f"{found.share(state):.2%} {state}"
        for state in (State.ANOMALOUS, State.BLIND, State.WARMING)
    )


def _list_fleet_alerts(found: FleetBacktest) -> dict[str, list[str]]:
    rows = {}
    for alert in found.alerts:
        match = found.match_alert(alert)
        lead = None if match is None else alert.start - match.flagged_at
        rows[f"{alert.labels} at {format_instant(alert.start)}"] = [_describe_lead(lead)]
    return rows


def _view_incident(incident: Incident, markers: _Markers) -> IncidentSection:
    groups = f"{incident.groups} group{'' if incident.groups == 1 else 's'}"
    return IncidentSection(
        id=incident.id,
        title=f"{_format_period(incident.start, incident.end)}, {groups}, incident {incident.id}"
        f"{_name_mute(incident)}",
        paragraph=incident_paragraph(incident)
        + markers.describe(incident.first.labels, incident.first.onset),
        members={
            member.group: [
                format_instant(member.onset),
                "open" if member.end is None else format_duration(member.end - member.onset),
                f"{member.peak_ratio:.2f}",
                ", ".join(view.name for view in member.top_features),
            ]
            for member in incident.members[:_MAX_MEMBERS]
        },
        members_left_out=max(0, incident.groups - _MAX_MEMBERS),
    )


def _view_group(
    opened: Opened, tally: GroupTally, number: int, found: FleetBacktest, markers: _Markers
) -> GroupSection:
    """One group in detail, from its own samples."""
    start, end = float(found.times[0]), float(found.times[-1])
    recent = RecentHistory(opened.detector.scored_features, len(found.times))
    frame = fetch_group_samples(opened, tally.labels, start, end)
    for sample in replay(begin_live(opened, [tally.labels]), frame):
        recent.add(sample.status.verdict)
    seen = recent.between()
    worst = sorted(tally.events, key=lambda event: -event.peak_ratio)[:_MAX_EVENTS_OF_GROUP]
    events = sorted(worst, key=lambda event: event.start)
    anomalous = [(event.start, event.end or end) for event in tally.events]
    count = len(tally.events)
    more = f", of which {len(events)} are shown" if len(events) < count else ""
    return GroupSection(
        id=f"group-{number}",
        name=tally.name,
        summary=(
            f"{count} event{'' if count == 1 else 's'}{more}; highest peak "
            f"{tally.peak_ratio:.2f} × threshold; {tally.share(State.ANOMALOUS):.2%} of "
            f"{tally.samples} samples anomalous, {tally.share(State.BLIND):.2%} blind."
        ),
        score=draw_score(
            seen.times,
            seen.score,
            anomalous,
            _find_blind(seen),
            _list_marks(markers.all, tally.labels),
        ),
        events=_list_events(events, seen, markers),
    )


def _summarise(found: Backtest) -> str:
    events, samples = len(found.events), len(found.times)
    return (
        f"{events} event{'' if events == 1 else 's'} in {samples} "
        f"sample{'' if samples == 1 else 's'}, one every {format_duration(found.step)}. "
        f"Share of samples: {_list_shares(found)}."
    )


def _list_alerts(found: Backtest) -> dict[str, list[str]]:
    return {
        f"{alert.labels} at {format_instant(alert.start)}": [_describe_lead(found.lead(alert))]
        for alert in found.alerts
    }


def _describe_lead(seconds: float | None) -> str:
    if seconds is None:
        return "no event during the alert"
    direction = "before" if seconds >= 0 else "after"
    return f"{format_duration(round(abs(seconds)))} {direction} the alert"


def _find_blind(recent: Recent) -> list[Period]:
    """The periods without a score, from their first to their last sample."""
    blind = recent.states == STATES.index(State.BLIND)
    return [(recent.times[first], recent.times[last - 1]) for first, last in find_runs(blind)]


def _list_events(
    events: Sequence[AnomalyEvent], recent: Recent, markers: _Markers
) -> list[EventSection]:
    highest = sorted(events, key=lambda event: -event.peak_ratio)[:_MAX_CHARTED_EVENTS]
    charted = {event.id for event in highest}
    return [
        EventSection(
            id=event.id,
            title=f"{_format_period(event.start, event.end)}, event {event.id}{_name_mute(event)}",
            paragraph=event_paragraph(event) + markers.describe(event.labels, event.start),
            features=_list_features(event.peak.ranked_features),
            charts=_draw_features(event, recent) if event.id in charted else {},
        )
        for event in events
    ]


def _list_features(views: Sequence[FeatureView]) -> dict[str, list[str]]:
    return {
        view.name: [
            f"{view.contribution:.0%}",
            view.direction,
            *_list_largest(view),
            "" if view.since is None else format_instant(view.since),
        ]
        for view in views[:_MAX_FEATURES]
    }


def _list_largest(view: FeatureView) -> list[str]:
    """Observed, expected, error and time of where the feature deviated most, or of the peak."""
    shown = view.largest or view
    at = "" if view.largest is None else format_instant(view.largest.at)
    numbers = [f"{shown.observed:.4g}", f"{shown.expected:.4g}", f"{shown.elevation:.3g}"]
    return [*numbers, at]


def _draw_features(event: AnomalyEvent, recent: Recent) -> dict[str, Figure]:
    """The features that contribute most, from some time before the event to some time after."""
    end = event.end or recent.times[-1]
    margin = max(_MARGIN_SECONDS, (end - event.start) / 2)
    near = np.flatnonzero((recent.times >= event.start - margin) & (recent.times <= end + margin))
    return {
        f"event-{event.id}-{column}": draw_feature(
            recent.features[column],
            recent.times[near],
            recent.observed[near, column],
            recent.expected[near, column],
            (event.start, end),
        )
        for column in (recent.features.index(view.name) for view in event.top_features)
    }


def _name_mute(found: AnomalyEvent | Incident) -> str:
    """By what it was muted and, if it was still open then, until when."""
    if found.muted is None:
        return ""
    until = "" if found.unmuted_at is None else f" until {format_instant(found.unmuted_at)}"
    return f", muted{until} by {found.muted}"


def _format_period(start: float, end: float | None) -> str:
    return f"{format_instant(start)} {'(open)' if end is None else f'to {format_instant(end)}'}"

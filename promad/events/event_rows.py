"""Rows of the event log: what is written of events and incidents, and what is read again."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, NamedTuple

import msgspec

from promad.events.events import AnomalyEvent, read_labels
from promad.events.incidents import (
    Incident,
    Member,
    incident_from_json,
    incident_to_json,
    member_from_json,
    member_to_json,
)
from promad.events.verdict import FeatureView, verdict_from_json, verdict_to_json

_COLUMNS = {
    "events": (
        *("id", "group_name", "start", "flagged_at", "last_above", "ended", "end_reason"),
        *("peak_ratio", "peak", "bundle", "labels", "muted", "unmuted_at"),
    ),
    "incidents": (
        *("id", "start", "flagged_at", "ended", "peak_ratio", "bundle", "content"),
        *("muted", "unmuted_at"),
    ),
    "incident_members": ("incident", "group_name", "ended", "peak_at", "event", "content"),
    "incident_events": ("event", "incident"),
    "memories": ("group_name", "bundle", "content"),
    "markers": ("id", "name", "version", "at", "labels"),
    "marker_versions": ("name", "labels", "versions", "at"),
}
"""What detection writes of each table; what people write stays as it is."""

_KEYS = {"incident_members": ("incident", "group_name"), "marker_versions": ("name", "labels")}
"""Keys that are not the first column alone."""


def _make_upsert(table: str, columns: Sequence[str]) -> str:
    """SQL that writes a row, or changes the one with the same key."""
    keys = _KEYS.get(table, columns[:1])
    changes = ", ".join(f"{name} = excluded.{name}" for name in columns if name not in keys)
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) "  # noqa: S608 - names are ours
        f"VALUES ({', '.join('?' * len(columns))}) "
        f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {changes}"
    )


UPSERTS = {table: _make_upsert(table, columns) for table, columns in _COLUMNS.items()}
"""SQL by table: writes a row, or changes the one with the same key."""


class EventRow(NamedTuple):
    """An event to be written.

    Attributes:
        last_above: unix seconds of its newest anomalous sample.
        end_reason: why it is over, if it is; see `LoggedEvent`.
    """

    event: AnomalyEvent
    last_above: float
    end_reason: str = "quiet"


@dataclass(frozen=True)
class LoggedIncident:
    """An incident in the log; `bundle` is the one that found its newest change."""

    incident: Incident
    bundle: str


@dataclass(frozen=True)
class LoggedEvent:
    """An event as it stands in the log.

    Attributes:
        bundle: the bundle that found it.
        end_reason: why it is over: `quiet` (the score fell), `bundle` (another bundle took over),
            `unwatched` (nobody looked for too long), `vanished` (the group has no series any
            more) or `moved` (another shard watches the group); None while it is open.
        acknowledged_at: unix seconds; None if nobody has.
        feedback: what a person made of it, `true` or `false`; None if nobody said.
        comment: in that person's words.
        incident: id of the incident that it is part of; None if it is part of none.
    """

    event: AnomalyEvent
    bundle: str
    end_reason: str | None = None
    acknowledged_at: float | None = None
    feedback: str | None = None
    comment: str | None = None
    incident: str | None = None


def make_event_row(row: EventRow, bundle: str) -> tuple[Any, ...]:
    """The row of an event."""
    event = row.event
    return (
        *(event.id, event.group, event.start, event.flagged_at, row.last_above, event.end),
        *(None if event.end is None else row.end_reason, event.peak_ratio),
        *(_write_peak(event), bundle, json.dumps(dict(event.labels))),
        *(event.muted, event.unmuted_at),
    )


def make_incident_row(incident: Incident, bundle: str) -> tuple[Any, ...]:
    """The row of an incident."""
    content = json.dumps(incident_to_json(incident))
    return (
        *(incident.id, incident.start, incident.flagged_at, incident.end),
        *(incident.peak.peak_ratio, bundle, content, incident.muted, incident.unmuted_at),
    )


def make_member_row(incident: str, member: Member) -> tuple[Any, ...]:
    """The row of a member of the incident with this id."""
    content = _write_json(member_to_json(member), member.features, member.peak_ratio)
    return (incident, member.group, member.end, member.peak_at, member.event, content)


def _write_peak(event: AnomalyEvent) -> str:
    peak = event.peak
    numbers = (event.peak_ratio, peak.threshold, peak.score or 0.0, peak.mse or 0.0)
    return _write_json(verdict_to_json(peak), peak.features, *numbers)


def _write_json(content: Any, views: Iterable[FeatureView], *numbers: float) -> str:
    """JSON text. A thousand events may begin at one sample, and `json` takes ten times as long.

    Only `json` can write NaN and infinities.

    Args:
        views, numbers: of the content, what may be one of these.
    """
    total = sum(
        (each.error + each.contribution + each.observed + each.expected + each.elevation)
        for each in views
    )
    if isfinite(total + sum(numbers)):
        return msgspec.json.encode(content).decode()
    return json.dumps(content)


def read_event(row: sqlite3.Row) -> LoggedEvent:
    """The event in a row."""
    peak = verdict_from_json(json.loads(row["peak"]))
    labels = read_labels(json.loads(row["labels"]))
    event = AnomalyEvent(
        *(row["group_name"], row["start"], row["flagged_at"], row["ended"], peak, labels),
        *(row["muted"], row["unmuted_at"]),
    )
    others = {field.name: row[field.name] for field in dataclasses.fields(LoggedEvent)[1:]}
    return LoggedEvent(event, **others)


def read_incident(row: sqlite3.Row, members: Iterable[sqlite3.Row]) -> LoggedIncident:
    """The incident in a row and those of its members."""
    read = (_read_content(member) for member in members)
    incident = incident_from_json(_read_content(row), map(member_from_json, read))
    return LoggedIncident(incident, row["bundle"])


def _read_content(row: sqlite3.Row) -> Mapping[str, Any]:
    """The row's JSON; when it ended is a column, which SQL may change."""
    return {**json.loads(row["content"]), "end": row["ended"]}

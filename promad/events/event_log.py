"""The event log: events, incidents, and what detection resumes from, in a SQLite file.

Each detector has one file of its own. Events and incidents are found again by their ids, which say
what they are: one that is written twice is there once.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog

from promad.data.groups import Labels
from promad.errors import DataError
from promad.events.event_rows import (
    UPSERTS,
    EventRow,
    LoggedEvent,
    LoggedIncident,
    make_event_row,
    make_incident_row,
    make_member_row,
    read_event,
    read_incident,
)
from promad.events.events import AnomalyEvent
from promad.events.incidents import Incident, Member
from promad.events.marker_rows import (
    KEEP_NEWEST_MARKERS,
    MOST_MARKERS,
    make_marker_row,
    make_version_rows,
    read_marker,
    read_versions,
)
from promad.events.markers import Marker, Versions

__all__ = ["FILE_NAME", "EventLog", "EventRow", "LoggedEvent", "LoggedIncident", "open_event_log"]

log = structlog.get_logger()

FILE_NAME = "events.db"
"""What the file is called, in artifacts_dir."""

MIGRATIONS: Sequence[str] = (
    """
    CREATE TABLE events (
        id TEXT PRIMARY KEY,
        group_name TEXT NOT NULL,
        start REAL NOT NULL,
        flagged_at REAL NOT NULL,
        last_above REAL NOT NULL,
        ended REAL,
        end_reason TEXT,
        peak_ratio REAL NOT NULL,
        peak TEXT NOT NULL,
        bundle TEXT NOT NULL,
        acknowledged_at REAL,
        feedback TEXT,
        comment TEXT
    ) STRICT;
    CREATE INDEX events_by_start ON events (start, id);
    CREATE TABLE memories (
        group_name TEXT PRIMARY KEY,
        bundle TEXT NOT NULL,
        content TEXT NOT NULL
    ) STRICT;
    """,
    """
    ALTER TABLE events ADD COLUMN labels TEXT NOT NULL DEFAULT '{}';
    CREATE TABLE incidents (
        id TEXT PRIMARY KEY,
        start REAL NOT NULL,
        flagged_at REAL NOT NULL,
        ended REAL,
        peak_ratio REAL NOT NULL,
        bundle TEXT NOT NULL,
        content TEXT NOT NULL
    ) STRICT;
    CREATE INDEX incidents_by_start ON incidents (start, id);
    CREATE TABLE incident_members (
        incident TEXT NOT NULL,
        group_name TEXT NOT NULL,
        ended REAL,
        peak_at REAL NOT NULL,
        event TEXT NOT NULL,
        content TEXT NOT NULL,
        PRIMARY KEY (incident, group_name)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX incident_members_by_group ON incident_members (group_name);
    CREATE TABLE incident_events (
        event TEXT PRIMARY KEY,
        incident TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX incident_events_by_incident ON incident_events (incident);
    """,
    """
    ALTER TABLE events ADD COLUMN muted TEXT;
    ALTER TABLE events ADD COLUMN unmuted_at REAL;
    ALTER TABLE incidents ADD COLUMN muted TEXT;
    ALTER TABLE incidents ADD COLUMN unmuted_at REAL;
    """,
    """
    CREATE TABLE markers (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        version TEXT NOT NULL,
        at REAL NOT NULL,
        labels TEXT NOT NULL
    ) STRICT;
    CREATE INDEX markers_by_time ON markers (at, id);
    CREATE TABLE marker_versions (
        name TEXT NOT NULL,
        labels TEXT NOT NULL,
        versions TEXT NOT NULL,
        at REAL NOT NULL,
        PRIMARY KEY (name, labels)
    ) STRICT, WITHOUT ROWID;
    """,
)
"""What brings the file from one version to the next; the version is how many have been done."""

_CLOSE = "UPDATE events SET ended = last_above, end_reason = ? WHERE ended IS NULL"
_BUSY_SECONDS = 5.0


_SELECT = {
    "events": """
        SELECT *, (SELECT incident FROM incident_events WHERE event = events.id) AS incident
        FROM events
    """,
    "incidents": "SELECT * FROM incidents",
}
_MEMBERS = """
    SELECT incident, ended, content FROM incident_members
    WHERE incident IN (SELECT value FROM json_each(?))
"""
_CLOSE_MEMBERS = """
    UPDATE incident_members SET ended = coalesce(
        (SELECT last_above FROM events WHERE events.id = incident_members.event),
        peak_at
    )
    WHERE ended IS NULL AND incident NOT IN (SELECT value FROM json_each(?))
"""
_CLOSE_INCIDENTS = """
    UPDATE incidents SET ended = (
        SELECT max(ended) FROM incident_members WHERE incident_members.incident = incidents.id
    )
    WHERE ended IS NULL AND id NOT IN (SELECT value FROM json_each(?))
"""


class EventLog:
    """The events of one detector. May be used from several threads.

    Raises:
        DataError: from every method, naming the file, if it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._written: dict[str, Mapping[str, Member]] = {}  # of open incidents, by id and group
        with self._errors_named():
            self._connect()

    def _connect(self) -> None:
        self._written.clear()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(
            self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        self._connection.row_factory = sqlite3.Row
        self._migrate()

    def _find_again(self) -> None:
        """Begin a new file if this one was deleted: what is written into a deleted file is lost."""
        if not self.path.exists():
            log.error("event log deleted; starting a new one", file=str(self.path))
            self._connection.close()
            self._connect()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise DataError(f"{self.path}: cannot be used ({error})") from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All of the block's changes, or none."""
        with self._errors_named(), self._lock:
            self._find_again()
            with self._connection as connection:
                connection.execute("BEGIN IMMEDIATE")
                yield connection

    def _rows(self, sql: str, values: Sequence[Any]) -> list[sqlite3.Row]:
        with self._errors_named(), self._lock:
            self._find_again()
            return self._connection.execute(sql, values).fetchall()

    def _migrate(self) -> None:
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version > len(MIGRATIONS):
            raise DataError(
                f"{self.path}: is of version {version}, this promad knows {len(MIGRATIONS)} "
                "— use the newer promad, or move the file away"
            )
        for number in range(version, len(MIGRATIONS)):
            self._connection.executescript(
                f"BEGIN IMMEDIATE; {MIGRATIONS[number]} PRAGMA user_version = {number + 1}; COMMIT;"
            )

    def record(self, event: AnomalyEvent, bundle: str, last_above: float) -> None:
        """Write an event that began, grew or ended; `last_above` is its newest anomalous sample."""
        self.record_many(bundle, events=[EventRow(event, last_above)])

    def remember(self, group: str, bundle: str, content: Mapping[str, Any]) -> None:
        """Keep what detection of a group resumes from: plain JSON values."""
        self.record_many(bundle, memories={group: content})

    def record_incident(self, incident: Incident, bundle: str) -> None:
        """Write an incident that began, changed or ended."""
        self.record_many(bundle, incidents=[incident])

    def record_many(
        self,
        bundle: str,
        events: Iterable[EventRow] = (),
        memories: Mapping[str, Mapping[str, Any]] | None = None,
        incidents: Iterable[Incident] = (),
        last_above: Mapping[str, float] | None = None,
    ) -> None:
        """Write all that a tick changed, or nothing of it: one transaction.

        Args:
            memories: what detection resumes from, plain JSON values by group.
            last_above: the newest anomalous samples of open events, unix seconds by id; nothing
                else of them is written.
        """
        incidents = list(incidents)
        rows: dict[str, list[tuple[Any, ...]]] = {
            "events": [make_event_row(each, bundle) for each in events],
            "memories": [
                (group, bundle, json.dumps(content)) for group, content in (memories or {}).items()
            ],
            "incidents": [make_incident_row(each, bundle) for each in incidents],
        }
        with self._transaction() as connection:
            changed = [(each.id, member) for each in incidents for member in self._find_new(each)]
            rows["incident_members"] = [make_member_row(*each) for each in changed]
            rows["incident_events"] = [(member.event, id_) for id_, member in changed]
            for table, values in rows.items():
                connection.executemany(UPSERTS[table], values)
            connection.executemany(
                "UPDATE events SET last_above = ? WHERE id = ?",
                [(at, id_) for id_, at in (last_above or {}).items()],
            )
        for incident in incidents:
            self._written[incident.id] = {each.group: each for each in incident.members}
            if incident.end is not None:
                del self._written[incident.id]

    def _find_new(self, incident: Incident) -> Iterator[Member]:
        """The members that are not in the file as they are."""
        written = self._written.get(incident.id, {})
        return (each for each in incident.members if written.get(each.group) is not each)

    def memory(self, group: str) -> tuple[str, str] | None:
        """The bundle and the JSON text last kept of a group; None if there is nothing."""
        rows = self._rows("SELECT bundle, content FROM memories WHERE group_name = ?", (group,))
        return (rows[0]["bundle"], rows[0]["content"]) if rows else None

    def close_open(self, reason: str, group: str, but: str | None = None) -> int:
        """End a group's open events, but the one with this id, at their newest anomalous sample.

        Returns:
            How many were open.
        """
        with self._transaction() as connection:
            sql = f"{_CLOSE} AND group_name = ? AND id IS NOT ?"
            return connection.execute(sql, (reason, group, but)).rowcount

    def close_open_incidents(self, but: Iterable[str] = ()) -> int:
        """End open incidents, but those with these ids, at their newest anomalous sample.

        Returns:
            How many were open.
        """
        kept = json.dumps(list(but))
        with self._transaction() as connection:
            self._written.clear()
            connection.execute(_CLOSE_MEMBERS, (kept,))
            return connection.execute(_CLOSE_INCIDENTS, (kept,)).rowcount

    def groups_with_open_events(self) -> list[str]:
        """The names of all groups that have an open event."""
        rows = self._rows("SELECT DISTINCT group_name FROM events WHERE ended IS NULL", ())
        return [row["group_name"] for row in rows]

    def prune(self, before: float) -> int:
        """Forget events, incidents and markers of before a time, in unix seconds; how many events.

        Events of an incident that stays are kept with it.
        """
        with self._transaction() as connection:
            connection.execute("DELETE FROM incidents WHERE ended < ?", (before,))
            for table in ("incident_members", "incident_events"):
                connection.execute(
                    f"DELETE FROM {table} WHERE incident NOT IN (SELECT id FROM incidents)"  # noqa: S608
                )
            connection.execute("DELETE FROM markers WHERE at < ?", (before,))
            connection.execute("DELETE FROM marker_versions WHERE at < ?", (before,))
            connection.execute(KEEP_NEWEST_MARKERS)
            return connection.execute(
                "DELETE FROM events WHERE ended < ? "
                "AND id NOT IN (SELECT event FROM incident_events)",
                (before,),
            ).rowcount

    def find(
        self,
        *,
        group: str | None = None,
        start: float = -math.inf,
        end: float = math.inf,
        is_open: bool | None = None,
        below: tuple[float, str] | None = None,
        limit: int = 100,
    ) -> list[LoggedEvent]:
        """The events that any of `start` to `end` (unix seconds) falls into, newest start first.

        Args:
            is_open: only those that are open, or that are not.
            below: only those after the one with this start and id, in that order.
        """
        in_group = ("group_name = ?", group)
        query = _make_query("events", in_group, start, end, is_open, below, limit)
        return [read_event(row) for row in self._rows(*query)]

    def find_incidents(
        self,
        *,
        group: str | None = None,
        start: float = -math.inf,
        end: float = math.inf,
        is_open: bool | None = None,
        below: tuple[float, str] | None = None,
        limit: int = 100,
    ) -> list[LoggedIncident]:
        """The incidents that any of `start` to `end` (unix seconds) falls into, newest first.

        Args:
            group: only those that it is a member of.
            is_open, below: see `find`.
        """
        with_group = ("id IN (SELECT incident FROM incident_members WHERE group_name = ?)", group)
        query = _make_query("incidents", with_group, start, end, is_open, below, limit)
        return self._read_incidents(*query)

    def record_markers(
        self, name: str, at: float, markers: Iterable[Marker], versions: Versions
    ) -> None:
        """Write what was deployed by a time, and the versions that are known since."""
        with self._transaction() as connection:
            connection.executemany(UPSERTS["markers"], map(make_marker_row, markers))
            connection.executemany(
                UPSERTS["marker_versions"], make_version_rows(name, at, versions)
            )

    def find_markers(
        self, start: float = -math.inf, end: float = math.inf, limit: int = MOST_MARKERS
    ) -> list[Marker]:
        """The markers from `start` to `end`, in unix seconds, newest first."""
        sql = "SELECT * FROM markers WHERE at >= ? AND at <= ? ORDER BY at DESC, id LIMIT ?"
        return [read_marker(row) for row in self._rows(sql, (start, end, limit))]

    def read_versions(self) -> dict[str, dict[Labels, frozenset[str]]]:
        """The versions that were last known, by the name of their marker."""
        return read_versions(self._rows("SELECT * FROM marker_versions", ()))

    def incident(self, id_: str) -> LoggedIncident | None:
        """The incident with this id; None if there is none."""
        found = self._read_incidents("SELECT * FROM incidents WHERE id = ?", (id_,))
        return found[0] if found else None

    def incident_of(self, event: str) -> str | None:
        """The id of the incident that the event with this id is part of; None if there is none."""
        rows = self._rows("SELECT incident FROM incident_events WHERE event = ?", (event,))
        return rows[0]["incident"] if rows else None

    def _read_incidents(self, sql: str, values: Sequence[Any]) -> list[LoggedIncident]:
        """The incidents that a query for their rows finds."""
        with self._errors_named(), self._lock:
            self._find_again()
            rows = self._connection.execute(sql, values).fetchall()
            ids = json.dumps([row["id"] for row in rows])
            members: dict[str, list[sqlite3.Row]] = {}
            for row in self._connection.execute(_MEMBERS, (ids,)):
                members.setdefault(row["incident"], []).append(row)
        return [read_incident(row, members[row["id"]]) for row in rows]

    def event(self, id_: str) -> LoggedEvent | None:
        """The event with this id; None if there is none."""
        rows = self._rows(f"{_SELECT['events']} WHERE id = ?", (id_,))
        return read_event(rows[0]) if rows else None


def open_event_log(path: Path) -> tuple[EventLog, Path | None]:
    """The log in a file; one that is damaged is moved aside, and where to.

    Raises:
        DataError: if a newer promad wrote it, or it cannot be written.
    """
    try:
        return EventLog(path), None
    except DataError as error:
        if not isinstance(error.__cause__, sqlite3.DatabaseError) or isinstance(
            error.__cause__, sqlite3.OperationalError
        ):
            raise
    aside = path.with_name(f"{path.name}.damaged")
    os.replace(path, aside)
    for rest in ("-wal", "-shm"):
        path.with_name(path.name + rest).unlink(missing_ok=True)
    return EventLog(path), aside


def _make_query(
    table: str,
    in_group: tuple[str, str | None],
    start: float,
    end: float,
    is_open: bool | None,
    below: tuple[float, str] | None,
    limit: int,
) -> tuple[str, Sequence[Any]]:
    """SQL and values for a page of events or incidents, see `EventLog.find`.

    Args:
        in_group: a condition, and the group's name if one is asked for.
    """
    wanted: list[tuple[str, Sequence[Any]]] = [
        ("start <= ? AND (ended IS NULL OR ended >= ?)", (end, start))
    ]
    if in_group[1] is not None:
        wanted.append((in_group[0], in_group[1:]))
    if is_open is not None:
        wanted.append((f"ended IS {'' if is_open else 'NOT '}NULL", ()))
    if below is not None:
        wanted.append(("(start, id) < (?, ?)", below))
    where = " AND ".join(condition for condition, _ in wanted)
    values = [value for _, some in wanted for value in some]
    sql = f"{_SELECT[table]} WHERE {where} ORDER BY start DESC, id DESC LIMIT ?"
    return sql, (*values, limit)

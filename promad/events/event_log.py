"""The event log: events and what detection resumes from, in a SQLite file.

Each detector has one file of its own. Events are found again by their id, which says what they are:
an event that is written twice is there once.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from promad.errors import DataError
from promad.events.events import AnomalyEvent
from promad.events.verdict import verdict_from_json

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
)
"""What brings the file from one version to the next; the version is how many have been done."""

_CLOSE = "UPDATE events SET ended = last_above, end_reason = ? WHERE ended IS NULL"
_BUSY_SECONDS = 5.0


@dataclass(frozen=True)
class LoggedEvent:
    """An event as it stands in the log.

    Attributes:
        bundle: the bundle that found it.
        end_reason: why it is over: `quiet` (the score fell), `bundle` (another bundle took over)
            or `unwatched` (nobody looked for too long); None while it is open.
        acknowledged_at: unix seconds; None if nobody has.
        feedback: what a person made of it, `true` or `false`; None if nobody said.
        comment: in that person's words.
    """

    event: AnomalyEvent
    bundle: str
    end_reason: str | None = None
    acknowledged_at: float | None = None
    feedback: str | None = None
    comment: str | None = None


class EventLog:
    """The events of one detector. May be used from several threads.

    Raises:
        DataError: from every method, naming the file, if it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        with self._errors_named():
            self._connect()

    def _connect(self) -> None:
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
        row = {
            "id": event.id,
            "group_name": event.group,
            "start": event.start,
            "flagged_at": event.flagged_at,
            "last_above": last_above,
            "ended": event.end,
            "end_reason": None if event.end is None else "quiet",
            "peak_ratio": event.peak_ratio,
            "peak": json.dumps(dataclasses.asdict(event.peak)),
            "bundle": bundle,
        }
        names, places = ", ".join(row), ", ".join(f":{name}" for name in row)
        changes = ", ".join(f"{name} = :{name}" for name in row if name != "id")
        with self._transaction() as connection:
            connection.execute(
                f"INSERT INTO events ({names}) VALUES ({places}) "  # noqa: S608 - names are ours
                f"ON CONFLICT (id) DO UPDATE SET {changes}",
                row,
            )

    def remember(self, group: str, bundle: str, content: Mapping[str, Any]) -> None:
        """Keep what detection of a group resumes from: plain JSON values."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO memories VALUES (?, ?, ?) ON CONFLICT (group_name) "
                "DO UPDATE SET bundle = excluded.bundle, content = excluded.content",
                (group, bundle, json.dumps(content)),
            )

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

    def groups_with_open_events(self) -> list[str]:
        """The names of all groups that have an open event."""
        rows = self._rows("SELECT DISTINCT group_name FROM events WHERE ended IS NULL", ())
        return [row["group_name"] for row in rows]

    def prune(self, before: float) -> int:
        """Forget events that ended before a time, in unix seconds; how many."""
        with self._transaction() as connection:
            return connection.execute("DELETE FROM events WHERE ended < ?", (before,)).rowcount

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
        wanted: list[tuple[str, Sequence[Any]]] = [
            ("start <= ? AND (ended IS NULL OR ended >= ?)", (end, start))
        ]
        if group is not None:
            wanted.append(("group_name = ?", (group,)))
        if is_open is not None:
            wanted.append((f"ended IS {'' if is_open else 'NOT '}NULL", ()))
        if below is not None:
            wanted.append(("(start, id) < (?, ?)", below))
        where = " AND ".join(condition for condition, _ in wanted)
        values = [value for _, some in wanted for value in some]
        rows = self._rows(
            f"SELECT * FROM events WHERE {where} ORDER BY start DESC, id DESC LIMIT ?",  # noqa: S608
            (*values, limit),
        )
        return [_logged(row) for row in rows]

    def event(self, id_: str) -> LoggedEvent | None:
        """The event with this id; None if there is none."""
        rows = self._rows("SELECT * FROM events WHERE id = ?", (id_,))
        return _logged(rows[0]) if rows else None


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


def _logged(row: sqlite3.Row) -> LoggedEvent:
    peak = verdict_from_json(json.loads(row["peak"]))
    event = AnomalyEvent(row["group_name"], row["start"], row["flagged_at"], row["ended"], peak)
    others = {field.name: row[field.name] for field in dataclasses.fields(LoggedEvent)[1:]}
    return LoggedEvent(event, **others)

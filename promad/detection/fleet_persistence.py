"""`FleetPersistence`: what a detector of many groups saves, and how a restart continues it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import uuid4

import numpy as np
import structlog

from promad.data.groups import Labels
from promad.data.shards import Shard
from promad.detection.live import LiveDetector
from promad.detection.state import State
from promad.detection.state_file import SavedState, StateFile
from promad.errors import DataError
from promad.events.event_log import EventLog
from promad.events.event_rows import EventRow
from promad.events.events import AnomalyEvent, make_event_id
from promad.events.incident_book import IncidentBook, IncidentChanges, read_incidents
from promad.events.incidents import Incident
from promad.exposition import DetectorMetrics

log = structlog.get_logger()

_PRUNE_SECONDS = 3600.0
_PROCESS = uuid4().hex
"""Counters go on over a reload, and begin at 0 in another process."""

Begin = Callable[[Sequence[Labels]], LiveDetector]


@dataclass
class FleetPersistence:
    """Writes one detector's events, incidents and state. What cannot be written is logged.

    Attributes:
        bundle: the id of the bundle at work.
        retention: seconds for which events stay once they are over.
        catch_up: seconds back from now within which missed samples can still be scored.
        others: what other shards saved; they are only read.
        shard: whose groups are watched; None for all.
    """

    events: EventLog
    file: StateFile
    bundle: str
    retention: float
    catch_up: float
    metrics: DetectorMetrics
    others: Sequence[StateFile] = ()
    shard: Shard | None = None
    _moved: frozenset[str] = field(default=frozenset(), init=False)
    _failing: bool = field(default=False, init=False)
    _pruned_at: float = field(default=float("-inf"), init=False)

    def resume(self, state: State, begin: Begin, incidents: IncidentBook, now: float) -> bool:
        """Let each group continue where a daemon on the same bundle stopped, if not too long ago.

        Args:
            begin: makes a fresh detector of some groups.
            now: unix seconds.

        Groups that came from other shards continue where those stopped, if that can be read.

        Returns:
            Whether there was anything to continue from.
        """
        adopted = [self._adopt_from(other, state, begin, now) for other in self.others]
        taken = [other for other in adopted if other is not None]
        saved = self._adopt_from(self.file, state, begin, now)
        if saved is not None:
            incidents.resume(saved.shared["incidents"])
        rows = np.flatnonzero(state.events.hysteresis.open).tolist()
        events = [state.events.event(row) for row in rows]
        for event in events:
            log.info("open event resumed", group=event.group, id=event.id)
        for other in taken:
            incidents.take_up(other.shared["incidents"], [event.group for event in events])
        if taken:
            last_above = state.events.last_above[rows].tolist()
            logged = [EventRow(*each) for each in zip(events, last_above, strict=True)]
            with self._counting_failures():
                self.events.record_many(self.bundle, logged, incidents=incidents.open_incidents)
        return saved is not None or bool(taken)

    def _adopt_from(
        self, file: StateFile, state: State, begin: Begin, now: float
    ) -> SavedState | None:
        """Let groups continue from a file; what is in it, or None if that is of no use."""
        is_own = file is self.file
        if not is_own and set(state.labels).isdisjoint(file.read_groups()):
            return None
        saved = file.read()
        if saved is None:
            return None
        before = begin(saved.groups).state
        try:
            saved.restore(before)
            read_incidents(saved.shared["incidents"])
            found = self._adopt_recent(state, begin, before, now, saved, is_own=is_own)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            log.warning("saved detector state is unreadable; starting fresh", error=repr(error))
            return None
        if is_own:
            self._note_moved(saved.groups, before.names)
        return saved if is_own or found else None

    def _adopt_recent(
        self,
        state: State,
        begin: Begin,
        before: State,
        now: float,
        saved: SavedState,
        *,
        is_own: bool,
    ) -> bool:
        """Adopt groups that were judged lately, and not later by another shard; whether any were.

        What all groups have in common is that of this shard's own file, if it has one.
        """
        row_of = {labels: row for row, labels in enumerate(state.labels)}
        until = np.append(np.nan_to_num(state.scored_until, nan=-np.inf), np.inf)
        rows = [row_of.get(labels, -1) for labels in before.labels]  # -1: of another shard
        newest = before.scored_until >= until[np.array(rows, np.int64)]
        recent = newest & (now - before.scored_until <= self.catch_up)
        if not (is_own or recent.any()):
            return False
        kept = begin([before.labels[row] for row in np.flatnonzero(recent).tolist()]).state
        kept.adopt(before)
        if saved.shared.get("process") != _PROCESS:
            kept.events.begun[:] = 0
        state.adopt(kept)
        state.seen_until = None
        return bool(recent.any())

    def _note_moved(self, groups: Sequence[Labels], names: Sequence[str]) -> None:
        """Keep what the file has of groups that other shards watch now, for these."""
        if self.shard is None:
            return
        away = ~self.shard.choose(groups)
        self._moved = frozenset(names[row] for row in np.flatnonzero(away).tolist())
        if self._moved:
            self.file.keep_moved()
            log.info("groups moved to other shards", groups=len(self._moved))

    def close_stale(self, state: State, incidents: IncidentBook, now: float) -> IncidentChanges:
        """End what the log has as open but no group continues; what that does to incidents."""
        open_rows = np.flatnonzero(state.events.hysteresis.open).tolist()
        current = {state.names[row]: state.events.event(row).id for row in open_rows}
        reason = "bundle" if self.file.other_bundle else "unwatched"
        with self._counting_failures():
            for name in self.events.groups_with_open_events():
                why = "moved" if name in self._moved else reason
                closed = self.events.close_open(why, name, current.get(name))
                if closed:
                    log.warning("open events closed", group=name, events=closed, reason=why)
        dropped = [
            incidents.drop(now, name) for name in sorted(incidents.open_groups - current.keys())
        ]
        found = IncidentChanges(
            *(tuple(each for changes in dropped for each in changes[kind]) for kind in range(3))
        )
        with self._counting_failures():
            self.events.record_many(self.bundle, incidents=found.incidents)
            self.events.close_open_incidents([each.id for each in incidents.open_incidents])
        return found

    def save_events(
        self,
        state: State,
        current: Iterable[AnomalyEvent],
        ended: Iterable[AnomalyEvent],
        incidents: Iterable[Incident],
        lasting: Iterable[int] = (),
    ) -> None:
        """Write what one sample changed, in one transaction.

        Args:
            lasting: rows of groups of whose open event only the newest anomalous sample changed.
        """
        last_above, current = state.events.last_above, list(current)
        row_of = {name: row for row, name in enumerate(state.names)} if current else {}
        rows = [EventRow(event, float(last_above[row_of[event.group]])) for event in current]
        rows += [EventRow(event, event.end or event.peak_at) for event in ended]
        start = state.events.start
        newest = {
            make_event_id(state.names[row], float(start[row])): float(last_above[row])
            for row in lasting
        }
        with self._counting_failures():
            self.events.record_many(self.bundle, rows, incidents=incidents, last_above=newest)

    def close_group(self, name: str, changes: IncidentChanges) -> None:
        """End the events of a group that vanished, and write what that does to incidents."""
        with self._counting_failures():
            if self.events.close_open("vanished", name):
                log.warning("open events closed", group=name, reason="vanished")
            self.events.record_many(self.bundle, incidents=changes.incidents)

    def save_state(
        self, state: State, incidents: IncidentBook, now: float, *, due: bool = False
    ) -> None:
        """Save the state if it was not for a minute, or if it is due; `now` in unix seconds."""
        if due or self.file.is_due(now):
            shared = {"process": _PROCESS, "incidents": incidents.to_json()}
            self.file.save(state, shared, now)
        if now - self._pruned_at >= _PRUNE_SECONDS:
            self._pruned_at = now
            with self._counting_failures():
                self.events.prune(now - self.retention)

    @contextmanager
    def _counting_failures(self) -> Iterator[None]:
        """Count and log that the event log cannot be written, once for each time that begins."""
        try:
            yield
        except DataError as error:
            self.metrics.count_event_log_failure()
            if not self._failing:
                log.error("events not saved", error=str(error))
            self._failing = True
        else:
            self._failing = False

"""`Keeper`: what a daemon writes down of its events, and how it goes on after a restart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from promad.detection.judging import Judge, Judged, Memory, memory_from_json, memory_to_json
from promad.errors import DataError
from promad.events.event_log import EventLog
from promad.exposition import DetectorMetrics

log = structlog.get_logger()

_PRUNE_SECONDS = 3600.0


@dataclass
class Keeper:
    """Writes one group's events to the log. A log that cannot be written is counted and logged.

    Attributes:
        bundle: the id of the bundle at work.
        retention: seconds for which events stay once they are over.
        catch_up: seconds back from now within which missed samples can still be scored.
    """

    events: EventLog
    bundle: str
    retention: float
    catch_up: float
    metrics: DetectorMetrics
    _failing: bool = field(default=False, init=False)
    _pruned_at: float = field(default=float("-inf"), init=False)

    def resume(self, judge: Judge, now: float) -> None:
        """Let a judge go on where the last one on the same bundle stopped.

        If nobody looked for longer than can be caught up with, or by another bundle, what was open
        ended with its newest anomalous sample: nobody knows of more.
        """
        try:
            self._resume(judge, now)
        except DataError as error:
            log.error("what was before is not known", error=str(error))

    def _resume(self, judge: Judge, now: float) -> None:
        group = judge.memory.tracker.group
        kept = self.events.memory(group)
        judge.memory = self._gone_on(kept, judge.memory, now)
        current = judge.memory.tracker.current
        reason = "bundle" if kept is not None and kept[0] != self.bundle else "unwatched"
        closed = self.events.close_open(reason, [current.id] if current else [])
        if closed:
            log.warning("open events were closed", group=group, events=closed, reason=reason)
        if current is not None:
            log.info("an open event goes on", group=group, id=current.id)

    def _gone_on(self, kept: tuple[str, Any] | None, fresh: Memory, now: float) -> Memory:
        """The memory that was kept, if a judge can go on from it."""
        if kept is None or kept[0] != self.bundle:
            return fresh
        try:
            memory = memory_from_json(kept[1], fresh.tracker)
        except (KeyError, TypeError, ValueError) as error:
            log.warning("the last standing is of no use", error=repr(error))
            return fresh
        missed = now - (memory.scored_until or 0.0)
        return memory if missed <= self.catch_up else fresh

    def keep(self, judge: Judge, judged: Sequence[Judged], now: float) -> None:
        """Write what a tick changed; `now` in unix seconds."""
        try:
            self._write(judge, judged)
            if now - self._pruned_at >= _PRUNE_SECONDS:
                self._pruned_at = now
                self.events.prune(now - self.retention)
        except DataError as error:
            self.metrics.event_log_failed()
            if not self._failing:
                log.error("events are not kept", error=str(error))
            self._failing = True
        else:
            self._failing = False

    def _write(self, judge: Judge, judged: Sequence[Judged]) -> None:
        for each in judged:
            if each.ended is not None:
                self.events.record(each.ended, self.bundle, each.ended.end or each.ended.peak_at)
        tracker = judge.memory.tracker
        if tracker.current is not None:
            self.events.record(tracker.current, self.bundle, tracker.last_above)
        self.events.remember(tracker.group, self.bundle, memory_to_json(judge.memory))

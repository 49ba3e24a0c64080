"""`Persistence`: what a daemon saves of its events, and how it continues after a restart."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import structlog
from numpy.typing import NDArray

from promad.detection.judgements import Judgements
from promad.detection.state import State
from promad.errors import DataError
from promad.events.event_log import EventLog
from promad.events.events import AnomalyEvent
from promad.exposition import DetectorMetrics
from promad.files import DAMAGED

log = structlog.get_logger()

_PRUNE_SECONDS = 3600.0
_MOST_UNSAVED = 10_000
"""Events that ended while the log could not be written, and are still to be saved."""


@dataclass
class Persistence:
    """Writes one detector's events to its log. A log that cannot be written is counted and logged.

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
    _unsaved: deque[AnomalyEvent] = field(
        default_factory=lambda: deque(maxlen=_MOST_UNSAVED), init=False
    )

    def resume(self, state: State, now: float) -> None:
        """Let each group continue where a daemon on the same bundle stopped.

        If nobody looked for longer than can be caught up with, or by another bundle, what was open
        ended with its newest anomalous sample: nobody knows of more.

        Args:
            now: unix seconds.
        """
        try:
            for group, name in enumerate(state.names):
                self._resume_group(state, group, name, now)
            for name in set(self.events.groups_with_open_events()) - set(state.names):
                self._close_events(name, "unwatched", None)
        except DataError as error:
            log.error("could not restore saved state", error=str(error))

    def _resume_group(self, state: State, group: int, name: str, now: float) -> None:
        saved = self.events.memory(name)
        other_bundle = saved is not None and saved[0] != self.bundle
        continues = not np.isnan(state.scored_until[group])  # over a reload, in memory
        if saved is not None and not other_bundle and not continues:
            self._restore(state, group, saved[1], now)
        current = state.events.open_event(group)
        reason = "bundle" if other_bundle else "unwatched"
        self._close_events(name, reason, None if current is None else current.id)
        if current is not None:
            log.info("open event resumed", group=name, id=current.id)

    def _restore(self, state: State, group: int, saved: str, now: float) -> None:
        """Resume a group, unless it was saved too long ago to be caught up with."""
        try:
            content = json.loads(saved)
            until = float(content["scored_until"] or 0.0)
            if now - until <= self.catch_up:
                state.resume(group, content)
        except DAMAGED as error:
            log.warning(
                "saved detector state is unreadable; starting fresh",
                group=state.names[group],
                error=repr(error),
            )

    def _close_events(self, name: str, reason: str, but: str | None) -> None:
        closed = self.events.close_open(reason, name, but)
        if closed:
            log.warning("open events closed", group=name, events=closed, reason=reason)

    def save(self, state: State, judgements: Iterable[Judgements], now: float) -> None:
        """Write what a tick changed, and what earlier ones could not; `now` in unix seconds."""
        changed = np.zeros(state.groups, np.bool_)
        for each in judgements:
            changed |= each.fresh
            self._unsaved.extend(each.ended.values())
        try:
            self._write(state, changed)
            if now - self._pruned_at >= _PRUNE_SECONDS:
                self._pruned_at = now
                self.events.prune(now - self.retention)
        except DataError as error:
            self.metrics.count_event_log_failure()
            if not self._failing:
                log.error("events not saved", error=str(error))
            self._failing = True
        else:
            self._failing = False

    def _write(self, state: State, changed: NDArray[np.bool_]) -> None:
        while self._unsaved:
            event = self._unsaved[0]
            self.events.record(event, self.bundle, event.end or event.peak.at)
            self._unsaved.popleft()
        for group in np.flatnonzero(changed).tolist():
            current = state.events.open_event(group)
            if current is not None:
                self.events.record(current, self.bundle, float(state.events.last_above[group]))
            self.events.remember(state.names[group], self.bundle, state.to_json(group))

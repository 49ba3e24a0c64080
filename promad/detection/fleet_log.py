"""What a loop of many groups logs of events and incidents, and which peaks it writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promad.detection.loop import describe_event
from promad.detection.marker_queries import MarkerQueries, name_marker
from promad.events.event_book import EventBook
from promad.events.events import AnomalyEvent
from promad.events.explanation import incident_paragraph
from promad.events.incidents import Incident

_MOST_LINES = 20
"""Log lines about single events at one sample."""
_MOST_PEAKS = 50
"""Events whose higher peaks are written at one sample; the others wait for the next."""


def log_events(
    log: Any,
    message: str,
    events: Sequence[AnomalyEvent],
    markers: MarkerQueries | None = None,
) -> None:
    """A line for each event, those with the largest score if there are many."""
    shown = sorted(events, key=lambda event: -event.peak_ratio)[:_MOST_LINES]
    for event in shown:
        described = {**describe_event(event), **name_marker(markers, event)}
        log.warning(message, group=event.group, **described)
    if len(shown) < len(events):
        log.warning(message, more_groups=len(events) - len(shown))


def describe_incident(incident: Incident) -> dict[str, object]:
    """An incident in one log line."""
    return {
        "id": incident.id,
        "groups": incident.groups,
        "first": incident.first.group,
        "explanation": incident_paragraph(incident),
    }


class RisingPeaks:
    """Groups whose open events have a higher peak that is not written yet."""

    def __init__(self) -> None:
        self._waiting: dict[str, None] = {}

    def forget(self, group: str) -> None:
        """The event of a group is written, or over."""
        self._waiting.pop(group, None)

    def choose(
        self,
        events: EventBook,
        at: float,
        open_rows: NDArray[np.bool_],
        ended: Sequence[AnomalyEvent],
    ) -> list[AnomalyEvent]:
        """The events to write after a sample, those that wait longest first."""
        for row in np.flatnonzero(open_rows & (events.peak_at == at)).tolist():
            self._waiting.setdefault(events.groups[row])
        for event in ended:  # with which the peak is written
            self.forget(event.group)
        if not self._waiting:
            return []
        names = list(self._waiting)[:_MOST_PEAKS]
        row_of = {events.groups[row]: row for row in np.flatnonzero(open_rows).tolist()}
        for name in names:
            del self._waiting[name]
        return [events.event(row_of[name]) for name in names if name in row_of]

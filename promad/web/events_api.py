"""`/api/v1/events`: the events in the event logs."""

from __future__ import annotations

import math

from fastapi import APIRouter
from starlette.exceptions import HTTPException

from promad.detection.running_detector import RunningDetector
from promad.events.event_log import LoggedEvent
from promad.web.answers import build_event
from promad.web.lookup import REFUSALS, Running, Time
from promad.web.markers_api import find_near
from promad.web.paging import Cursor, IsOpen, Limit, Place, cut_page, parse_cursor
from promad.web.schemas import EventAnswer, EventPage

router = APIRouter(prefix="/api/v1", responses=REFUSALS, tags=["Events"])


@router.get("/events", name="events")
def list_events(
    running: Running,
    group: str | None = None,
    start: Time | None = None,
    end: Time | None = None,
    is_open: IsOpen = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> EventPage:
    """List the events that overlap a time range, newest start first."""
    found = [
        (event, served)
        for served in running
        for event in served.events.find(
            group=group,
            start=-math.inf if start is None else start,
            end=math.inf if end is None else end,
            is_open=is_open,
            below=parse_cursor(cursor),
            limit=limit + 1,
        )
    ]
    page, after = cut_page(found, limit, _get_place)
    near = find_near([(served, event.event.labels, event.event.start) for event, served in page])
    events = [build_event(event, marker) for (event, _), marker in zip(page, near, strict=True)]
    return EventPage(events=events, next=after)


@router.get("/events/{id}", name="event")
def get_event(running: Running, id: str) -> EventAnswer:
    """Return one event."""
    for served in running:
        found = served.events.event(id)
        if found is not None:
            event = found.event
            return build_event(found, *find_near([(served, event.labels, event.start)]))
    raise HTTPException(404, f"no event has the id {id[:40]} — GET /api/v1/events lists all events")


def _get_place(found: tuple[LoggedEvent, RunningDetector]) -> Place:
    return found[0].event.start, found[0].event.id

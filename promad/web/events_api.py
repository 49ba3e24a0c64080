"""`/api/v1/events`: the events in the event logs."""

from __future__ import annotations

import math
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.exceptions import HTTPException

from promad.events.event_log import LoggedEvent
from promad.web.answers import build_event
from promad.web.lookup import REFUSALS, Running, Time
from promad.web.schemas import EventAnswer, EventPage

router = APIRouter(prefix="/api/v1", responses=REFUSALS, tags=["Events"])

_Place = tuple[float, str]
"""Start and id of an event: the order of pages."""

_CURSOR = r"^[0-9]{1,12}\.[0-9]{1,12}-[0-9a-f]{12}$"


@router.get("/events", name="events")
def list_events(
    running: Running,
    group: str | None = None,
    start: Time | None = None,
    end: Time | None = None,
    is_open: Annotated[bool | None, Query(alias="open")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[
        str | None, Query(pattern=_CURSOR, description="`next` of the previous page")
    ] = None,
) -> EventPage:
    """List the events that overlap a time range, newest start first."""
    below = None if cursor is None else _parse_cursor(cursor)
    found = [
        event
        for served in running
        for event in served.events.find(
            group=group,
            start=-math.inf if start is None else start,
            end=math.inf if end is None else end,
            is_open=is_open,
            below=below,
            limit=limit + 1,
        )
    ]
    found.sort(key=_get_place, reverse=True)
    page = found[:limit]
    after = _format_cursor(_get_place(page[-1])) if len(found) > limit else None
    return EventPage(events=[build_event(event) for event in page], next=after)


@router.get("/events/{id}", name="event")
def get_event(running: Running, id: str) -> EventAnswer:
    """Return one event."""
    for served in running:
        found = served.events.event(id)
        if found is not None:
            return build_event(found)
    raise HTTPException(404, f"no event has the id {id[:40]} — GET /api/v1/events lists all events")


def _get_place(logged: LoggedEvent) -> _Place:
    return logged.event.start, logged.event.id


def _format_cursor(place: _Place) -> str:
    start, id_ = place
    return f"{start!r}-{id_}"


def _parse_cursor(cursor: str) -> _Place:
    start, _, id_ = cursor.rpartition("-")
    return float(start), id_

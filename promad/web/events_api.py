"""`/api/v1/events`: what the event logs hold."""

from __future__ import annotations

import math
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.exceptions import HTTPException

from promad.events.event_log import LoggedEvent
from promad.web.answers import event_answer
from promad.web.lookup import REFUSALS, AtWork, Time
from promad.web.schemas import EventAnswer, EventPage

router = APIRouter(prefix="/api/v1", responses=REFUSALS, tags=["Events"])

_Place = tuple[float, str]
"""Start and id of an event: the order of pages."""

_CURSOR = r"^[0-9]{1,12}\.[0-9]{1,12}-[0-9a-f]{12}$"


@router.get("/events")
def events(
    at_work: AtWork,
    group: str | None = None,
    start: Time | None = None,
    end: Time | None = None,
    is_open: Annotated[bool | None, Query(alias="open")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[
        str | None, Query(pattern=_CURSOR, description="`next` of the page before")
    ] = None,
) -> EventPage:
    """The events that fall into a time at least in part, newest start first."""
    below = None if cursor is None else _place_in(cursor)
    found = [
        event
        for served in at_work
        for event in served.events.find(
            group=group,
            start=-math.inf if start is None else start,
            end=math.inf if end is None else end,
            is_open=is_open,
            below=below,
            limit=limit + 1,
        )
    ]
    found.sort(key=_place_of, reverse=True)
    page = found[:limit]
    after = _cursor_at(_place_of(page[-1])) if len(found) > limit else None
    return EventPage(events=[event_answer(event) for event in page], next=after)


@router.get("/events/{id}")
def event(at_work: AtWork, id: str) -> EventAnswer:
    """One event."""
    for served in at_work:
        found = served.events.event(id)
        if found is not None:
            return event_answer(found)
    raise HTTPException(404, f"there is no event {id[:40]} — GET /api/v1/events lists them")


def _place_of(logged: LoggedEvent) -> _Place:
    return logged.event.start, logged.event.id


def _cursor_at(place: _Place) -> str:
    start, id_ = place
    return f"{start!r}-{id_}"


def _place_in(cursor: str) -> _Place:
    start, _, id_ = cursor.rpartition("-")
    return float(start), id_

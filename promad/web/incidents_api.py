"""`/api/v1/incidents`: the incidents in the event logs."""

from __future__ import annotations

import math
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.exceptions import HTTPException

from promad.detection.running_detector import RunningDetector
from promad.events.event_log import LoggedIncident
from promad.web.answers import build_incident, build_incident_detail
from promad.web.lookup import REFUSALS, Running, Time
from promad.web.markers_api import Beginning, find_near
from promad.web.paging import Cursor, IsOpen, Limit, Place, cut_page, parse_cursor
from promad.web.schemas import IncidentDetail, IncidentPage

router = APIRouter(prefix="/api/v1", responses=REFUSALS, tags=["Incidents"])


@router.get("/incidents", name="incidents")
def list_incidents(
    running: Running,
    group: str | None = None,
    start: Time | None = None,
    end: Time | None = None,
    is_open: IsOpen = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> IncidentPage:
    """List the incidents that overlap a time range, newest start first."""
    found = [
        (incident, served)
        for served in running
        for incident in served.events.find_incidents(
            group=group,
            start=-math.inf if start is None else start,
            end=math.inf if end is None else end,
            is_open=is_open,
            below=parse_cursor(cursor),
            limit=limit + 1,
        )
    ]
    page, after = cut_page(found, limit, _get_place)
    near = find_near([_locate(*each) for each in page])
    incidents = [build_incident(each, marker) for (each, _), marker in zip(page, near, strict=True)]
    return IncidentPage(incidents=incidents, next=after)


@router.get("/incidents/{id}", name="incident")
def get_incident(
    running: Running,
    id: str,
    limit: Limit = 100,
    offset: Annotated[int, Query(ge=0)] = 0,
) -> IncidentDetail:
    """Return one incident with a page of its groups, earliest onset first."""
    for served in running:
        found = served.events.incident(id)
        if found is not None:
            return build_incident_detail(found, offset, limit, *find_near([_locate(found, served)]))
    raise HTTPException(
        404, f"no incident has the id {id[:40]} — GET /api/v1/incidents lists all incidents"
    )


def _get_place(found: tuple[LoggedIncident, RunningDetector]) -> Place:
    return found[0].incident.start, found[0].incident.id


def _locate(logged: LoggedIncident, served: RunningDetector) -> Beginning:
    first = logged.incident.first
    return served, first.labels, first.onset

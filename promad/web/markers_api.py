"""`/api/v1/markers`: the versions that were deployed, and which of them events name."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fastapi import APIRouter

from promad.data.groups import Labels
from promad.detection.marker_queries import make_marker_rule
from promad.detection.running_detector import RunningDetector
from promad.events.markers import Marker, MarkerIndex
from promad.web.answers import build_marker
from promad.web.lookup import REFUSALS, Running, Time, find_group
from promad.web.paging import Limit
from promad.web.schemas import MarkerList

router = APIRouter(prefix="/api/v1", responses=REFUSALS, tags=["Markers"])

Beginning = tuple[RunningDetector, Labels, float]
"""A detector, a group, and when an event of it began, in unix seconds."""


@router.get("/markers", name="markers")
def list_markers(
    running: Running,
    group: str | None = None,
    start: Time | None = None,
    end: Time | None = None,
    limit: Limit = 100,
) -> MarkerList:
    """List the markers of a time range, newest first; with `group`, those about this group."""
    first = -math.inf if start is None else start
    last = math.inf if end is None else end
    chosen = None if group is None else find_group(running, group)
    found = [
        marker
        for served in running
        if chosen is None or served is chosen.served
        for marker in served.events.find_markers(first, last)
        if chosen is None or marker.is_about(chosen.status.group)
    ]
    newest = sorted(found, key=lambda marker: -marker.at)[:limit]
    return MarkerList(markers=[build_marker(marker) for marker in newest])


def find_near(beginnings: Sequence[Beginning]) -> list[Marker | None]:
    """The marker that each event names; None for one without any."""
    starts: dict[str, list[float]] = {}
    for served, _, start in beginnings:
        starts.setdefault(served.config.name, []).append(start)
    detectors = {served.config.name: served for served, _, _ in beginnings}
    markers = {name: _index_markers(detectors[name], own) for name, own in starts.items()}
    return [
        markers[served.config.name].find(labels, start, make_marker_rule(served.config))
        for served, labels, start in beginnings
    ]


def _index_markers(served: RunningDetector, starts: Sequence[float]) -> MarkerIndex:
    """The markers that events which begin at these times may name."""
    if not served.config.markers:
        return MarkerIndex()
    rule = make_marker_rule(served.config)
    first, last = min(starts) - rule.longest, max(starts) + rule.tolerance
    return MarkerIndex(served.events.find_markers(first, last))

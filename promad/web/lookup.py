"""What requests are about: the detectors at work, one of their groups, a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Query
from pydantic import BeforeValidator, WithJsonSchema
from starlette.exceptions import HTTPException
from starlette.requests import Request

from promad.config.durations import parse_instant
from promad.data.frame import group_name
from promad.detection.recent_history import Ring
from promad.detection.running_detector import Served
from promad.events.status import GroupStatus
from promad.exposition import Snapshot
from promad.web.problems import some
from promad.web.schemas import Problem

EARLIEST, LATEST = -62_135_510_400.0, 253_402_214_400.0
"""The years 1 to 9999, less a day for time zones: beyond them no calendar goes."""


async def _at_work(request: Request) -> Sequence[Served]:
    served: Sequence[Served] = request.app.state.served()
    return served


AtWork = Annotated[Sequence[Served], Depends(_at_work)]
"""The detectors at work; none while the daemon starts."""

REFUSALS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Problem, "description": "Refused, and why."},
    503: {"model": Problem, "description": "Not now, and why."},
}
"""What any request may be answered with."""


@dataclass(frozen=True)
class Watched:
    """One group and what watches it."""

    name: str
    served: Served
    snapshot: Snapshot
    status: GroupStatus

    @property
    def ring(self) -> Ring:
        """Its newest verdicts."""
        return self.served.rings[self.name]


def watched(at_work: Sequence[Served]) -> list[Watched]:
    """Every group of every detector."""
    return [
        Watched(group_name(served.config.name, status.group), served, snapshot, status)
        for served in at_work
        for snapshot in [served.snapshot()]
        for status in snapshot.groups
    ]


def chosen(at_work: Sequence[Served], name: str | None) -> Watched:
    """The group of that name; without a name, the only group there is.

    Raises:
        HTTPException: 404 if there is none, 400 if it takes a name, 503 while the daemon starts.
    """
    groups = watched(at_work)
    if not groups:
        raise HTTPException(
            503, "no detector is at work yet — wait until GET /health says ready", _SOON
        )
    there = some([group.name for group in groups], ", see GET /api/v1/groups")
    if name is None and len(groups) > 1:
        raise HTTPException(400, f"group is missing — there are {there}")
    for group in groups:
        if name in {None, group.name}:
            return group
    raise HTTPException(404, f"there is no group {str(name)[:100]} — there are {there}")


_SOON = {"Retry-After": "5"}


def _time(value: Any) -> float:
    """Unix seconds, or an RFC 3339 time."""
    try:
        seconds = float(value)
    except ValueError:
        seconds = parse_instant(str(value))
    if not EARLIEST <= seconds <= LATEST:
        raise ValueError("not a time between the years 1 and 9999 — write unix seconds or RFC 3339")
    return seconds


GroupParameter = Annotated[
    str | None, Query(alias="group", description="may be left out where there is one group alone")
]
Time = Annotated[
    float,
    BeforeValidator(_time),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": EARLIEST, "maximum": LATEST},
                {"type": "string", "format": "date-time"},
            ]
        }
    ),
]
"""A parameter: unix seconds or an RFC 3339 time, as Prometheus takes them."""

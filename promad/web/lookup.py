"""Parameters that routes share: the running detectors, one of their groups, a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Query
from pydantic import BeforeValidator, WithJsonSchema
from starlette.exceptions import HTTPException
from starlette.requests import Request

from promad.config.durations import parse_instant
from promad.data.groups import name_group
from promad.detection.running_detector import History, RunningDetector
from promad.events.status import GroupStatus
from promad.exposition import AnySnapshot
from promad.web.problems import list_some
from promad.web.schemas import Problem

EARLIEST, LATEST = -62_135_510_400.0, 253_402_214_400.0
"""The years 1 to 9999, less a day for time zones: the range of `datetime`."""


async def _list_running(request: Request) -> Sequence[RunningDetector]:
    served: Sequence[RunningDetector] = request.app.state.served()
    return served


Running = Annotated[Sequence[RunningDetector], Depends(_list_running)]
"""A parameter: the running detectors; none while the daemon starts."""

REFUSALS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Problem, "description": "The request was refused; `detail` gives the reason."},
    503: {
        "model": Problem,
        "description": "The request cannot be answered now; `detail` gives the reason.",
    },
}
"""Responses that any request may get."""


_RETRY_SOON = {"Retry-After": "5"}


@dataclass(frozen=True)
class MonitoredGroup:
    """One group, its detector, and its status after the detector's last tick."""

    name: str
    served: RunningDetector
    snapshot: AnySnapshot
    status: GroupStatus

    @property
    def history(self) -> History:
        """The newest verdicts of the group."""
        return self.served.histories[self.name]


def list_groups(running: Sequence[RunningDetector]) -> list[MonitoredGroup]:
    """Every group of every detector."""
    return [
        MonitoredGroup(name_group(served.config.name, status.group), served, snapshot, status)
        for served in running
        for snapshot in [served.snapshot()]
        for status in snapshot.groups
    ]


def find_group(running: Sequence[RunningDetector], name: str | None) -> MonitoredGroup:
    """The group of that name; without a name, the only group.

    Raises:
        HTTPException: 404 if no group has that name, 400 if a name is needed, 503 while the daemon
            starts.
    """
    groups = list_groups(running)
    if not groups:
        raise HTTPException(
            503, "no detector is running yet — wait until GET /health returns ready", _RETRY_SOON
        )
    available = list_some([group.name for group in groups], ", see GET /api/v1/groups")
    if name is None and len(groups) > 1:
        raise HTTPException(400, f"group is required — available groups: {available}")
    for group in groups:
        if name in {None, group.name}:
            return group
    raise HTTPException(404, f"no group is named {str(name)[:100]} — available groups: {available}")


def _parse_time(value: Any) -> float:
    """Unix seconds, or an RFC 3339 time."""
    try:
        seconds = float(value)
    except ValueError:
        seconds = parse_instant(str(value))
    if not EARLIEST <= seconds <= LATEST:
        raise ValueError("not a time between the years 1 and 9999 — use unix seconds or RFC 3339")
    return seconds


GroupParameter = Annotated[
    str | None,
    Query(alias="group", description="Name of the group; optional if there is only one."),
]
Time = Annotated[
    float,
    BeforeValidator(_parse_time),
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

"""Parameters that routes share: the running detectors, one of their groups, a time.

Of a fleet, a `GroupStatus` is built only for a group that is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any

from fastapi import Depends, Query
from pydantic import BeforeValidator, WithJsonSchema
from starlette.exceptions import HTTPException
from starlette.requests import Request

from promad.config.durations import parse_instant
from promad.data.groups import Labels, name_group
from promad.detection.running_detector import History, RunningDetector
from promad.events.status import GroupStatus
from promad.exposition import AnySnapshot
from promad.exposition.fleet import FleetSnapshot, GroupColumns
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
    """One group, its detector, and its status after the detector's last tick.

    Attributes:
        row: its place among the groups of the snapshot.
    """

    name: str
    served: RunningDetector
    snapshot: AnySnapshot
    row: int
    status: GroupStatus

    @property
    def is_pooled(self) -> bool:
        """Whether it has no calibration of its own."""
        return self.fleet is not None and bool(self.fleet.pooled[self.row])

    @property
    def fleet(self) -> GroupColumns | None:
        """All groups of its detector; None without `group_by`."""
        return self.snapshot.columns if isinstance(self.snapshot, FleetSnapshot) else None

    @property
    def history(self) -> History:
        """The newest verdicts of the group."""
        return self.served.histories[self.name]


@dataclass(frozen=True)
class Roster:
    """The groups of one detector after a tick.

    Attributes:
        rows: the row of each group in the snapshot, by its name.
    """

    served: RunningDetector
    snapshot: AnySnapshot
    rows: Mapping[str, int]

    def build(self, name: str) -> MonitoredGroup:
        """One of the groups."""
        row, snapshot = self.rows[name], self.snapshot
        if isinstance(snapshot, FleetSnapshot):
            status = snapshot.build_status(row)
        else:
            status = snapshot.groups[row]
        return MonitoredGroup(name, self.served, snapshot, row, status)


def read_rosters(running: Sequence[RunningDetector]) -> list[Roster]:
    """The groups of every detector."""
    return [_read_roster(served, served.snapshot()) for served in running]


def _read_roster(served: RunningDetector, snapshot: AnySnapshot) -> Roster:
    if isinstance(snapshot, FleetSnapshot):
        labels = snapshot.columns.labels
    else:
        labels = tuple(status.group for status in snapshot.groups)
    return Roster(served, snapshot, _index_groups(served.config.name, labels))


@lru_cache(maxsize=8)
def _index_groups(detector: str, labels: tuple[Labels, ...]) -> Mapping[str, int]:
    """The place of each group by its name; groups stay the same for many ticks."""
    return {name_group(detector, each): row for row, each in enumerate(labels)}


def find_group(running: Sequence[RunningDetector], name: str | None) -> MonitoredGroup:
    """The group of that name; without a name, the only group.

    Raises:
        HTTPException: 404 if no group has that name, 400 if a name is needed, 503 while the daemon
            starts, or while no query has returned a series.
    """
    rosters = read_rosters(running)
    groups = sum(len(roster.rows) for roster in rosters)
    if not groups:
        raise HTTPException(503, _describe_absence(rosters), _RETRY_SOON)
    if name is None and groups > 1:
        raise HTTPException(400, f"group is required — available groups: {_list_names(rosters)}")
    found = pick_group(rosters, name)
    if found is None:
        raise HTTPException(
            404,
            f"no group is named {str(name)[:100]} — available groups: {_list_names(rosters)}",
        )
    return found


def pick_group(rosters: Sequence[Roster], name: str | None) -> MonitoredGroup | None:
    """The group of that name, without a name the only group; None if there is none."""
    if name is None and sum(len(roster.rows) for roster in rosters) == 1:
        name = next(iter(next(roster.rows for roster in rosters if roster.rows)))
    for roster in rosters:
        if name is not None and name in roster.rows:
            return roster.build(name)
    return None


def _describe_absence(rosters: Sequence[Roster]) -> str:
    if not rosters:
        return "no detector is running yet — wait until GET /health returns ready"
    return "no group is monitored yet — wait until a query returns series"


def _list_names(rosters: Sequence[Roster]) -> str:
    """The names of some groups, and where to find the others."""
    names = [name for roster in rosters for name in roster.rows]
    return list_some(names, ", see GET /api/v1/groups")


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

"""`/api/v1/groups`, and the status, history and explanation of one group."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query
from numpy.typing import NDArray
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

import promad
from promad.config.durations import format_instant
from promad.events.verdict import STATES, State, Verdict
from promad.web.answers import (
    build_explanation,
    build_group,
    build_group_detail,
    build_history,
)
from promad.web.group_changes import Changes
from promad.web.group_table import GroupTable, Sort, read_groups
from promad.web.lookup import (
    REFUSALS,
    GroupParameter,
    MonitoredGroup,
    Running,
    Time,
    find_group,
    pick_group,
)
from promad.web.problems import list_some
from promad.web.schemas import (
    ExplanationAnswer,
    GroupDetail,
    GroupList,
    HistoryAnswer,
)

router = APIRouter(prefix="/api/v1", responses=REFUSALS, tags=["Groups"])

_Since = Annotated[
    str | None,
    Query(
        pattern=r"^[0-9a-f]{8}\.[0-9]{1,12}$",
        description="`token` of a previous list: only groups that changed since are returned.",
    ),
]
_Selected = Annotated[
    str | None,
    Query(alias="group", description="Name of a group to return as `selected` as well."),
]


@router.get("/groups", name="groups")
def get_groups(
    request: Request,
    running: Running,
    search: Annotated[
        str, Query(max_length=200, description="Words in the name, state or leading features.")
    ] = "",
    state: State | None = None,
    sort: Sort = "worst",
    limit: Annotated[int | None, Query(ge=1)] = None,
    offset: Annotated[int, Query(ge=0)] = 0,
    since: _Since = None,
    selected: _Selected = None,
) -> GroupList:
    """List groups, worst first: searched, filtered by state, sorted, and a page at a time."""
    if since is not None and (limit is not None or offset):
        raise HTTPException(422, "since returns all changes — omit limit and offset")
    table = read_groups(running)
    token, changes = request.app.state.group_changes.compare(table, since)
    found = table.search(search)
    matching = found if state is None else found & (table.state == STATES.index(state))
    rows = np.flatnonzero(matching if changes is None else matching & changes.rows)
    page = table.sort(rows, sort)[offset:][:limit]
    chosen = pick_group(table.rosters, selected)
    shards = request.app.state.shards
    return GroupList(
        now=request.app.state.now(),
        version=promad.__version__,
        groups=[build_group(group) for group in table.build(page)],
        total=len(table.names),
        matching=int(matching.sum()),
        states=table.count_states(np.ones_like(found)),
        counts=table.count_states(found),
        detectors=[roster.served.config.name for roster in table.rosters],
        selected=None if chosen is None else build_group(chosen),
        token=token,
        delta=changes is not None,
        gone=[] if changes is None else _list_gone(table, changes, matching),
        shard=shards.share.number if shards else None,
        shard_count=shards.share.count if shards else None,
        merges=shards is not None and shards.find() is not None,
    )


def _list_gone(table: GroupTable, changes: Changes, matching: NDArray[np.bool_]) -> list[str]:
    """The groups that are gone, or changed and do not match any more."""
    left = np.flatnonzero(changes.rows & ~matching).tolist()
    return [*changes.gone, *(table.names[row] for row in left)]


@router.get("/group", name="group")
def get_group(running: Running, name: GroupParameter = None) -> GroupDetail:
    """Return one group with its detector, its queries and the explanation of its state."""
    return build_group_detail(find_group(running, name))


@router.get("/history", name="history", response_model=HistoryAnswer)
def get_history(
    running: Running,
    name: GroupParameter = None,
    start: Time | None = None,
    end: Time | None = None,
    features: Annotated[
        str | None,
        Query(description="Comma-separated names; all features by default, none if empty."),
    ] = None,
) -> Response:
    """Return the newest samples of a group; the daemon keeps `history_samples` in memory."""
    group = find_group(running, name)
    recent = group.history.between(
        -math.inf if start is None else start, math.inf if end is None else end
    )
    wanted = recent.features if features is None else _parse_names(features, recent.features)
    step = group.served.detector.preparation.step
    answer = build_history(group.name, step, recent, wanted)
    return Response(answer.model_dump_json(), media_type="application/json")


def _parse_names(features: str, known: Sequence[str]) -> set[str]:
    """The names in a list with commas; of names that have commas themselves, the longest first."""
    pieces, names = features.split(","), set()
    longest = 1 + max((name.count(",") for name in known), default=0)
    while pieces:
        lengths = range(min(longest, len(pieces)), 0, -1)
        length = next((each for each in lengths if ",".join(pieces[:each]) in known), 1)
        names.add(",".join(pieces[:length]))
        pieces = pieces[length:]
    names -= {""}
    if unknown := sorted(names - set(known)):
        raise HTTPException(
            404,
            f"no feature is named {unknown[0][:100]} — available features: {list_some(known)}",
        )
    return names


@router.get("/explain", name="explain")
def get_explanation(
    running: Running, name: GroupParameter = None, at: Time | None = None
) -> ExplanationAnswer:
    """Explain the state of a group, now or at a time: that of the newest sample up to then."""
    group = find_group(running, name)
    if at is None:
        status = group.status
        return build_explanation(group.name, status.verdict, status.anomalous_since)
    verdict = _find_verdict(group, at)
    return build_explanation(group.name, verdict, _find_event_start(group, verdict))


def _find_verdict(group: MonitoredGroup, at: float) -> Verdict:
    until = group.history.between(end=at)
    if len(until.times):
        return until.verdict(-1)
    kept, times = "no samples are available yet", group.history.between().times
    if len(times):
        kept = f"available: {format_instant(times[0])} to {format_instant(times[-1])}"
    when = format_instant(at)
    raise HTTPException(
        404,
        f"no sample of {group.name} at {when} in memory ({kept}) — promad explain --at {when} "
        "reads older samples from Prometheus",
    )


def _find_event_start(group: MonitoredGroup, verdict: Verdict) -> float | None:
    """The start of the event that a past sample belongs to; None if it belongs to none."""
    if verdict.state is not State.ANOMALOUS:
        return None
    events = group.served.events.find(group=group.name, end=verdict.at, limit=1)
    return events[0].event.start if events else None

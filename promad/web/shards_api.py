"""`/api/v1/shards`: what the daemons in `web.peers` answer, together and one by one.

Others are asked for what they have themselves only, so that no request goes in circles.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query
from starlette.exceptions import HTTPException
from starlette.requests import Request

import promad
from promad.events.verdict import STATES, State
from promad.shards import Outcome, Overview, Peers
from promad.shards.peer import PeerStatus, read_answer
from promad.web.group_table import Sort
from promad.web.groups_api import get_groups
from promad.web.incidents_api import list_incidents
from promad.web.lookup import REFUSALS, Running, Time
from promad.web.paging import Cursor, IsOpen, Limit
from promad.web.schemas import IncidentPage
from promad.web.shard_merging import (
    GroupPart,
    merge_groups,
    merge_incidents,
    name_shard,
    sum_states,
)
from promad.web.shard_schemas import (
    ShardAnswer,
    ShardDaemon,
    ShardGroupList,
    ShardIncidentPage,
    ShardList,
    ShardStatus,
)

AT_ONCE, WAITING = 8, 32
"""Requests that may wait for other shards at the same time, and further ones that queue."""


async def _take_turn(request: Request) -> AsyncIterator[None]:
    """Limit the threads that wait for others: scrapes and health checks need some, too."""
    async with request.app.state.shard_queue.join() as turn, turn:
        yield


def _find_peers(request: Request, running: Running) -> Peers:
    shards = request.app.state.shards
    if shards is None:
        raise HTTPException(
            404, "this daemon has all groups — start it with --shard to have several shards"
        )
    if not running:
        raise HTTPException(
            503, "no detector is running yet — wait until GET /health returns ready"
        )
    peers: Peers | None = shards.find()
    if peers is None:
        raise HTTPException(404, "web.peers is not set — list the daemons of all shards there")
    return peers


OtherPeers = Annotated[Peers, Depends(_find_peers)]
"""A parameter: the daemons in `web.peers`."""

SHARED: dict[str, Any] = {
    "responses": REFUSALS,
    "tags": ["Shards"],
    "dependencies": [Depends(_take_turn)],
}
"""What all routes about several shards have in common."""

router = APIRouter(prefix="/api/v1/shards", **SHARED)


@router.get("", name="shards")
def list_shards(request: Request, running: Running, peers: OtherPeers) -> ShardList:
    """List all shards: whether each responds, its version, and its groups by state."""
    peers.identify(max_age=0)
    outcomes = peers.summarise()
    own = Overview.model_validate(get_groups(request, running, limit=1).model_dump(mode="json"))
    shards = [
        _describe_shard(status, own if status.own else outcomes[status.shard].answer)
        for status in _list_statuses(peers, outcomes)
    ]
    daemons = [_describe_daemon(status) for status in peers.statuses]
    return ShardList(now=request.app.state.now(), shards=shards, daemons=daemons)


@router.get("/groups", name="shard_groups")
def list_shard_groups(
    request: Request,
    running: Running,
    peers: OtherPeers,
    search: Annotated[
        str, Query(max_length=200, description="Words in the name, state or leading features.")
    ] = "",
    state: State | None = None,
    sort: Sort = "worst",
    limit: Annotated[int, Query(ge=1, le=5000)] = 100,
    selected: Annotated[
        str | None,
        Query(alias="group", description="Name of a group to return as `selected` as well."),
    ] = None,
) -> ShardGroupList:
    """List the groups of all shards, in the order of `/api/v1/groups`."""
    query = {"search": search, "state": state, "sort": sort, "limit": limit, "group": selected}
    outcomes = peers.ask_others(
        _write_target("groups", query), lambda reply: read_answer(reply, GroupPart)
    )
    own = get_groups(request, running, search, state, sort, limit, selected=selected)
    parts = _collect(peers, GroupPart.model_validate(own), outcomes)
    chosen = [name_shard(part.selected, shard) for shard, part in parts.items() if part.selected]
    total = sum(part.total for part in parts.values())
    is_sure = selected is not None or (total == 1 and len(parts) == peers.share.count)
    return ShardGroupList(
        now=request.app.state.now(),
        version=promad.__version__,
        shards=_list_statuses(peers, outcomes),
        groups=merge_groups(parts, sort, limit),
        total=total,
        matching=sum(part.matching for part in parts.values()),
        states=sum_states([part.states for part in parts.values()]),
        counts=sum_states([part.counts for part in parts.values()]),
        detectors=list(dict.fromkeys(name for part in parts.values() for name in part.detectors)),
        selected=chosen[0] if chosen and is_sure else None,
    )


@router.get("/incidents", name="shard_incidents")
def list_shard_incidents(
    running: Running,
    peers: OtherPeers,
    group: str | None = None,
    start: Time | None = None,
    end: Time | None = None,
    is_open: IsOpen = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> ShardIncidentPage:
    """List the incidents of all shards that overlap a time range, newest start first.

    Each is the part of one shard; parts that began with the same sample have the same id. They are
    on the same page, which may so have a few more than `limit`.
    """
    query = {"group": group, "start": start, "end": end, "limit": limit, "cursor": cursor}
    target = _write_target("incidents", {**query, "open": is_open})
    outcomes = peers.ask_others(target, lambda reply: read_answer(reply, IncidentPage))
    own = list_incidents(running, group, start, end, is_open, limit, cursor)
    incidents, after = merge_incidents(_collect(peers, own, outcomes), limit)
    return ShardIncidentPage(
        shards=_list_statuses(peers, outcomes), incidents=incidents, next=after
    )


def _write_target(endpoint: str, query: Mapping[str, Any]) -> str:
    """The path of a request to another daemon; parameters that are None are left out."""
    given = {
        key: str(value).lower() if isinstance(value, bool) else value
        for key, value in query.items()
        if value is not None
    }
    return f"api/v1/{endpoint}?{urlencode(given)}"


def _collect[Part](
    peers: Peers, own: Part, outcomes: Mapping[int, Outcome[Part]]
) -> dict[int, Part]:
    """The parts of the shards that responded, by number."""
    answers = {shard: outcome.answer for shard, outcome in outcomes.items()}
    answers[peers.share.number] = own
    return {shard: part for shard, part in sorted(answers.items()) if part is not None}


def _list_statuses(peers: Peers, outcomes: Mapping[int, Outcome[Any]]) -> list[ShardStatus]:
    own = ShardStatus(
        shard=peers.share.number,
        own=True,
        url=_find_own(peers),
        responds=True,
        since=None,
        error=None,
    )
    others = [
        ShardStatus(
            shard=shard,
            own=False,
            url=outcome.url,
            responds=outcome.error is None,
            since=outcome.since,
            error=None if outcome.error is None else str(outcome.error),
        )
        for shard, outcome in outcomes.items()
    ]
    return sorted([own, *others], key=lambda status: status.shard)


def _find_own(peers: Peers) -> str | None:
    """The URL at which this daemon is known to others; None if it is not known."""
    return next((status.url for status in peers.statuses if status.is_self), None)


def _describe_shard(status: ShardStatus, known: Overview | None) -> ShardAnswer:
    """A shard with its overview; None if it does not respond."""
    return ShardAnswer(
        **status.model_dump(),
        version=known.version if known else None,
        total=known.total if known else None,
        states={each: known.states.get(each, 0) for each in STATES} if known else None,
    )


def _describe_daemon(status: PeerStatus) -> ShardDaemon:
    return ShardDaemon(
        url=status.url,
        shard=status.shard,
        own=status.is_self,
        responds=status.error is None and status.overview is not None,
        since=status.since,
        error=None if status.error is None else str(status.error),
        version=None if status.overview is None else status.overview.version,
    )

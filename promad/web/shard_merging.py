"""The answers of several shards as one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from promad.events.verdict import STATES, State
from promad.web.group_table import Sort, order_groups
from promad.web.paging import Place, format_cursor
from promad.web.schemas import GroupAnswer, IncidentPage
from promad.web.shard_schemas import ShardGroupAnswer, ShardIncidentAnswer


class GroupPart(BaseModel):
    """What is merged of the list of groups of one shard, of another version of promad too."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    groups: list[GroupAnswer]
    total: int
    matching: int
    states: dict[State, int]
    counts: dict[State, int]
    detectors: list[str]
    selected: GroupAnswer | None


def merge_groups(parts: Mapping[int, GroupPart], sort: Sort, limit: int) -> list[ShardGroupAnswer]:
    """The first groups of all shards, in the order that one daemon with all of them would have."""
    rows = [
        name_shard(group, shard) for shard, part in parts.items() for group in part.groups[:limit]
    ]
    names = [row.group for row in rows]
    ranks = np.empty(len(rows), np.int64)
    ranks[sorted(range(len(rows)), key=names.__getitem__)] = np.arange(len(rows))
    states = np.array([STATES.index(row.state) for row in rows], np.uint8)
    scores = np.array([np.nan if row.score is None else row.score for row in rows], np.float64)
    return [rows[place] for place in order_groups(ranks, states, scores, sort)[:limit].tolist()]


def name_shard(group: GroupAnswer, shard: int) -> ShardGroupAnswer:
    """The group with its shard."""
    return ShardGroupAnswer.model_construct(**dict(group), shard=shard)


def sum_states(counts: Sequence[Mapping[State, int]]) -> dict[State, int]:
    """How many groups of all shards are in each state."""
    total = Counter[State]()
    for each in counts:
        total.update(each)
    return {state: total[state] for state in STATES}


def merge_incidents(
    pages: Mapping[int, IncidentPage], limit: int
) -> tuple[list[ShardIncidentAnswer], str | None]:
    """The newest incidents of all shards, and the cursor of the next page.

    A cursor is a start and an id, and several shards may have parts with the same ones. These stay
    on one page, which may so have more than `limit`.
    """
    found = sorted(
        (
            ShardIncidentAnswer.model_construct(**dict(incident), shard=shard)
            for shard, page in pages.items()
            for incident in page.incidents
        ),
        key=lambda each: (_get_place(each), -each.shard),
        reverse=True,
    )
    end = min(limit, len(found))
    while 0 < end < len(found) and _get_place(found[end]) == _get_place(found[end - 1]):
        end += 1
    has_more = end < len(found) or any(page.next is not None for page in pages.values())
    cursor = format_cursor(_get_place(found[end - 1])) if end and has_more else None
    return found[:end], cursor


def _get_place(incident: ShardIncidentAnswer) -> Place:
    return incident.start, incident.id

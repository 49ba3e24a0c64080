"""Responses of `/api/v1/shards`: the groups and incidents of all shards, each with its shard."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from promad.events.verdict import State
from promad.web.schemas import GroupAnswer, IncidentAnswer


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class ShardStatus(_Answer):
    """One shard, and whether it responds."""

    shard: int = Field(description="Its number, from 0.")
    own: bool = Field(description="Whether it is the shard of the daemon that answers.")
    url: str | None = Field(
        description="Of the daemon that responded, or of the one that did not; null if it is not "
        "known which one has the shard, and for the own shard."
    )
    responds: bool = Field(
        description="Whether it responded. If not, nothing of it is in the answer."
    )
    since: float | None = Field(
        description="When the first request failed since it last responded; null if it responds, "
        "or if that is not known."
    )
    error: str | None = Field(description="Why it does not respond; null if it does.")


class ShardAnswer(ShardStatus):
    """One shard with what it last reported; null if it does not respond."""

    version: str | None
    total: int | None = Field(description="Its groups.")
    states: dict[State, int] | None = Field(description="Its groups, by state.")


class ShardDaemon(_Answer):
    """One daemon in `web.peers`; replicas are daemons of the same shard."""

    url: str
    shard: int | None = Field(description="As it last reported; null if it never responded.")
    own: bool = Field(description="Whether it is the daemon that answers.")
    responds: bool
    since: float | None = Field(
        description="When the first request failed since it last responded; null if it responds."
    )
    error: str | None
    version: str | None = Field(description="As it last reported.")


class ShardList(_Answer):
    """All shards, and the daemons in `web.peers`."""

    now: float
    shards: list[ShardAnswer]
    daemons: list[ShardDaemon]


class ShardGroupAnswer(GroupAnswer):
    """The current status of one group of any shard."""

    shard: int


class ShardGroupList(_Answer):
    """Groups of all shards that respond, worst first unless sorted otherwise."""

    now: float
    version: str = Field(description="Of the daemon that answers.")
    shards: list[ShardStatus]
    groups: list[ShardGroupAnswer] = Field(description="At most `limit`.")
    total: int = Field(description="All groups of the shards that respond.")
    matching: int = Field(description="Those that match `search` and `state`.")
    states: dict[State, int] = Field(description="All of them, by state.")
    counts: dict[State, int] = Field(description="Those that match `search`, by state.")
    detectors: list[str] = Field(description="Names of the running detectors.")
    selected: ShardGroupAnswer | None = Field(
        description="The group that `group` names, or the only group if all shards respond."
    )


class ShardIncidentAnswer(IncidentAnswer):
    """The part of an incident that one shard has."""

    shard: int


class ShardIncidentPage(_Answer):
    """Incidents of all shards that respond, newest start first."""

    shards: list[ShardStatus]
    incidents: list[ShardIncidentAnswer]
    next: str | None = Field(description="The cursor of the next page; null on the last page.")

"""`PollOptions`: what is polled for groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from promad.data.groups import Grouping
from promad.prometheus.parsing import MOST_SERIES


@dataclass(frozen=True)
class PollOptions:
    """What is polled.

    Attributes:
        queries: alias → PromQL.
        grouping: which group each series belongs to.
        step: seconds between samples.
        samples: how many of the newest are kept.
        stale_after: the age in seconds from which repeated samples count as missing.
        max_groups: groups that are admitted at most.
        forget_after: seconds without a sample after which a group is forgotten.
        allow_partial: whether answers with warnings are accepted.
    """

    queries: Mapping[str, str]
    grouping: Grouping
    step: float
    samples: int
    stale_after: float
    max_groups: int
    forget_after: float
    allow_partial: bool = False

    @property
    def most_series(self) -> int:
        """Series that an answer may have: more than are watched, so that the others are refused,
        and those of all shards.
        """
        shard = self.grouping.shard
        return max(MOST_SERIES, 4 * self.max_groups) * (1 if shard is None else shard.share.count)

"""`FleetSnapshot`: many groups after a tick, column by column.

A `GroupStatus` is built only for a group that is looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from promad.events.status import GroupStatus
from promad.exposition.columns import GroupColumns, IncidentColumns
from promad.exposition.render import FleetRenderer, Rendered

__all__ = ["FleetSnapshot", "GroupColumns", "IncidentColumns"]


@dataclass(frozen=True, eq=False)
class FleetSnapshot:
    """The state of a detector of many groups after a tick.

    Attributes:
        detector: its name in the configuration.
        metrics_prefix: the prefix of its metrics' names.
        columns: the groups.
        incidents: what is known of them together.
        failed_queries: alias and error of each query that failed in the last poll.
        max_feature_series: series about single features that are exposed at most.
        build_status: makes the status of one group.
        renderer: renders its metrics; one that rendered the previous tick keeps what is the same.
    """

    detector: str
    metrics_prefix: str
    columns: GroupColumns
    incidents: IncidentColumns
    failed_queries: tuple[tuple[str, str], ...]
    max_feature_series: int
    build_status: Callable[[int], GroupStatus]
    renderer: FleetRenderer | None = None

    @cached_property
    def groups(self) -> tuple[GroupStatus, ...]:
        """A status for each group."""
        return tuple(map(self.build_status, range(len(self.columns.labels))))

    @cached_property
    def rendered(self) -> Rendered:
        """Its metrics as they are sent to scrapers."""
        renderer = self.renderer or FleetRenderer(
            self.detector, self.metrics_prefix, self.max_feature_series
        )
        return renderer.render(self.columns, self.incidents)

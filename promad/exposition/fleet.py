"""`FleetSnapshot`: many groups after a tick, column by column.

A `GroupStatus` is built only for a group that is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from promad.data.groups import Labels
from promad.events.incidents import Incident
from promad.events.status import GroupStatus

Values = NDArray[np.float64]


@dataclass(frozen=True)
class GroupColumns:
    """The groups of a detector after a tick; arrays are (groups,) where nothing else is said.

    Attributes:
        labels: of each group.
        state: positions in `STATES`, uint8.
        score: NaN without a score; `threshold` is what it is held to.
        mse: mean squared error of the window, scaled units; NaN without a score.
        known_share: of the features that a score is computed from; NaN without one.
        anomalous_since: start of the event that is open, unix seconds; NaN if none is.
        last_scored_at: unix seconds; NaN before the first score.
        samples_in_window: usable samples in a row, at most a window's length.
        events_begun: since the daemon started.
        pooled: whether a group has no calibration of its own, bool.
        feature_names: of the scored features.
        features: what `FEATURE_COLUMNS` names, (groups, features, 6); NaN where unknown.
    """

    labels: tuple[Labels, ...]
    state: NDArray[np.uint8]
    score: Values
    threshold: Values
    mse: Values
    known_share: Values
    anomalous_since: Values
    last_scored_at: Values
    samples_in_window: NDArray[np.int64]
    events_begun: NDArray[np.int64]
    pooled: NDArray[np.bool_]
    feature_names: tuple[str, ...]
    features: Values


@dataclass(frozen=True)
class IncidentColumns:
    """What is exposed about the incidents of a detector.

    Attributes:
        open: the open incidents.
        begun: by scope how many have begun since the daemon started.
        groups_refused: groups that are not watched, because there are `max_groups` already.
    """

    open: tuple[Incident, ...] = ()
    begun: Mapping[Labels, int] | None = None
    groups_refused: int = 0


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
    """

    detector: str
    metrics_prefix: str
    columns: GroupColumns
    incidents: IncidentColumns
    failed_queries: tuple[tuple[str, str], ...]
    max_feature_series: int
    build_status: Callable[[int], GroupStatus]

    @cached_property
    def groups(self) -> tuple[GroupStatus, ...]:
        """A status for each group."""
        return tuple(map(self.build_status, range(len(self.columns.labels))))

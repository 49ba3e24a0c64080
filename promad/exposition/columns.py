"""`GroupColumns` and `IncidentColumns`: what is exposed of many groups, column by column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from promad.data.groups import Labels
from promad.events.incidents import Incident

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
        plain: whether scores are the mean squared error itself (`scoring: mse`).
        largest: where each feature deviated most, as `LARGEST_COLUMNS`, (groups, features, 4); NaN
            where it does not. None if no feature does.
        muted: whether a group is muted, bool; None without `mute`.
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
    plain: bool = False
    largest: Values | None = None
    muted: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class IncidentColumns:
    """What is exposed about the incidents of a detector.

    Attributes:
        open: the open incidents.
        begun: by scope how many have begun since the daemon started.
        groups_refused: groups that are not watched, because there are `max_groups` already.
        scope: the label names in `incidents.scope`.
        muted_groups: the names of those that are muted; None without `mute`.
    """

    open: tuple[Incident, ...] = ()
    begun: Mapping[Labels, int] | None = None
    groups_refused: int = 0
    scope: tuple[str, ...] = ()
    muted_groups: frozenset[str] | None = None

    def is_muted(self, incident: Incident) -> bool:
        """Whether each group of an incident that has an open event is muted."""
        muted = self.muted_groups or frozenset()
        is_open = (member.group in muted for member in incident.members if member.end is None)
        return bool(muted) and all(is_open)

"""What one sample of a fleet is published as: columns over groups, and which events changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from promad.detection.judgements import ANOMALOUS, Judgements
from promad.detection.live import LiveDetector
from promad.detection.state import State
from promad.events.events import AnomalyEvent
from promad.events.mutes import Muted
from promad.events.verdict import ELEVATION, FEATURE_COLUMNS, OBSERVED
from promad.exposition.fleet import GroupColumns

Values = NDArray[np.float64]


class EventChanges(NamedTuple):
    """What happened to events with one sample.

    Attributes:
        began: those that began.
        grew: those whose peak this sample is, or whose group is muted no more.
        ended: those that are over.
        lasting: other open ones that are above the threshold.
    """

    began: list[AnomalyEvent]
    grew: list[AnomalyEvent]
    ended: list[AnomalyEvent]
    lasting: list[AnomalyEvent]


def find_event_changes(state: State, judgements: Judgements) -> EventChanges:
    """What the newest sample did to the events of all groups."""
    events = state.events
    open_rows = events.hysteresis.open & ~judgements.began
    grew = open_rows & ((events.peak_at == judgements.at) | judgements.unmuted)
    above = judgements.fresh & (judgements.score > judgements.limit)
    began, grown, lasting = (
        [events.event(row) for row in np.flatnonzero(rows).tolist()]
        for rows in (judgements.began, grew, open_rows & above & ~grew)
    )
    return EventChanges(began, grown, list(judgements.ended.values()), lasting)


def build_columns(
    live: LiveDetector,
    states: NDArray[np.uint8],
    limits: Values,
    judged: Judgements | None,
    pooled: NDArray[np.bool_] | None = None,
    muted: Muted | None = None,
) -> GroupColumns:
    """The columns of all groups of a detector.

    Args:
        states: positions in `STATES`, (groups,).
        limits: what scores are held to, (groups,).
        judged: the newest sample; None if no score is published.
        pooled: which groups have no calibration of their own, if that is known already.
        muted: which groups are muted.
    """
    state, count = live.state, live.state.groups
    unknown = np.full(count, np.nan)
    names = live.detector.scored_features
    score = unknown if judged is None else judged.score
    unscored = np.isnan(score)
    if judged is None:
        features = np.full((count, len(names), len(FEATURE_COLUMNS)), np.nan)
    else:
        features = judged.features
        if unscored.any():
            features = features.copy()
            features[unscored] = np.nan
    measured = ~np.isnan(features[:, :, [OBSERVED, ELEVATION]]).any(axis=2)
    with_event = state.events.hysteresis.open & (states == ANOMALOUS)
    return GroupColumns(
        labels=state.labels,
        state=states,
        score=score,
        threshold=limits,
        mse=unknown if judged is None else np.where(unscored, np.nan, judged.mse),
        known_share=np.where(unscored, np.nan, measured.mean(axis=1)),
        anomalous_since=np.where(with_event, state.events.start, np.nan),
        last_scored_at=state.scored_until.copy(),
        samples_in_window=state.scoring.usable_for[:, 0].copy(),
        events_begun=state.events.begun.copy(),
        pooled=live.detector.find_pooled(state.labels) if pooled is None else pooled,
        feature_names=names,
        features=features,
        largest=None if judged is None else judged.largest,
        plain=judged is not None and judged.plain,
        muted=muted.flags if muted is not None and muted.is_configured else None,
    )


def name_muted(muted: Muted, names: Sequence[str]) -> frozenset[str] | None:
    """The names of the groups that are muted; None without `mute`."""
    rows = np.flatnonzero(muted.flags).tolist()
    return frozenset(names[row] for row in rows) if muted.is_configured else None

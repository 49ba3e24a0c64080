"""Fleets after a made-up tick, and the statuses of their groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from promad.data.groups import Labels, name_group
from promad.events.events import AnomalyEvent
from promad.events.incident_book import IncidentBook, IncidentRules, survey_groups
from promad.events.status import GroupStatus
from promad.events.verdict import (
    ELEVATION,
    FEATURE_COLUMNS,
    LARGEST_COLUMNS,
    OBSERVED,
    SINCE,
    STATES,
    State,
    Verdict,
    view_features,
)
from promad.exposition.columns import GroupColumns, IncidentColumns
from promad.exposition.fleet import FleetSnapshot
from promad.exposition.render import FleetRenderer
from tests.support.incidents import make_event

PREFIX = "anomaly_detector_"
AT = 1_700_000_000.0
NO_INCIDENTS = IncidentColumns()


def name_hosts(count: int) -> tuple[Labels, ...]:
    """Labels of so many hosts."""
    return tuple((("instance", f"host-{number:05d}:9100"),) for number in range(count))


def make_columns(
    labels: Sequence[Labels],
    states: Sequence[State] = (State.OK,),
    features: Sequence[str] = ("cpu", "load"),
    seed: int = 0,
    plain: bool = False,
) -> GroupColumns:
    """Groups whose states take turns, with random scores; anomalous ones have an open event."""
    rng, count = np.random.default_rng(seed), len(labels)
    state = np.array([STATES.index(states[row % len(states)]) for row in range(count)], np.uint8)
    anomalous = state == STATES.index(State.ANOMALOUS)
    scored = anomalous | (state == STATES.index(State.OK))
    values = rng.uniform(0, 1, (count, len(features), len(FEATURE_COLUMNS)))
    values[:, :, OBSERVED] *= 10 ** rng.uniform(-9, 17, (count, len(features)))
    values[:, :, OBSERVED][rng.uniform(size=(count, len(features))) < 0.1] = np.nan
    deviating = values[:, :, ELEVATION] > 0.5
    values[:, :, SINCE] = np.where(deviating, AT - 60, np.nan)
    values[rng.uniform(size=(count, len(features))) < 0.1] = np.nan
    values[~scored] = np.nan
    measured = ~np.isnan(values[:, :, OBSERVED])
    known = ~np.isnan(values[:, :, ELEVATION]).all(axis=1)
    score = np.where(anomalous, 5.0, 0.5) * rng.uniform(0.5, 1, count)
    unscored = np.full(count, np.nan)
    return GroupColumns(
        labels=tuple(labels),
        state=state,
        score=np.where(scored, score, unscored),
        threshold=rng.uniform(1, 2, count),
        mse=np.where(scored, rng.uniform(0, 1e-5, count), unscored),
        known_share=np.where(scored & known, measured.mean(axis=1), np.nan),
        anomalous_since=np.where(anomalous, AT - 90, np.nan),
        last_scored_at=np.where(scored, AT, np.nan),
        samples_in_window=rng.integers(0, 30, count),
        events_begun=rng.integers(0, 2_000_000, count),
        pooled=np.arange(count) % 2 == 1,
        feature_names=tuple(features),
        features=values,
        plain=plain,
    )


def add_largest(columns: GroupColumns) -> GroupColumns:
    """The same, with the largest deviation of some features."""
    rng = np.random.default_rng(1)
    shape = columns.features.shape[:2]
    largest = rng.uniform(1, 1e9, (*shape, len(LARGEST_COLUMNS)))
    largest[rng.uniform(size=shape) < 0.5] = np.nan
    return replace(columns, largest=largest)


def make_snapshot(
    columns: GroupColumns,
    incidents: IncidentColumns = NO_INCIDENTS,
    detector: str = "hosts",
    prefix: str = PREFIX,
    limit: int = 1_000_000,
    renderer: FleetRenderer | None = None,
) -> FleetSnapshot:
    """The fleet after a tick."""
    return FleetSnapshot(
        detector,
        prefix,
        columns,
        incidents,
        (),
        limit,
        lambda row: make_status(columns, row),
        renderer,
    )


def make_status(columns: GroupColumns, row: int) -> GroupStatus:
    """One group, as a detector of a single group would report it."""

    def read(values: Any) -> float | None:
        return None if np.isnan(values[row]) else float(values[row])

    score = read(columns.score)
    largest = None if columns.largest is None else columns.largest[row]
    views = (
        ()
        if score is None
        else view_features(columns.feature_names, columns.features[row], largest)
    )
    known = {view.name for view in views}
    verdict = Verdict(
        AT,
        STATES[columns.state[row]],
        float(columns.threshold[row]),
        score,
        read(columns.mse),
        columns.plain and score is not None,
        views,
        tuple(name for name in columns.feature_names if name not in known),
    )
    return GroupStatus(
        verdict=verdict,
        group=columns.labels[row],
        events_begun=int(columns.events_begun[row]),
        event=_make_event(columns, row, verdict),
        last_scored_at=read(columns.last_scored_at),
        samples_in_window=int(columns.samples_in_window[row]),
    )


def _make_event(columns: GroupColumns, row: int, verdict: Verdict) -> AnomalyEvent | None:
    since = float(columns.anomalous_since[row])
    return None if np.isnan(since) else AnomalyEvent("hosts", since, since, None, verdict)


def make_incident_snapshot() -> FleetSnapshot:
    """Three hosts of which the two in zone a have an open incident: every metric has a series."""
    hosts = [(("instance", f"{zone}:9100"), ("zone", zone[0])) for zone in ("a1", "a2", "b1")]
    columns = make_columns(hosts, (State.ANOMALOUS,), plain=True)
    muted = np.array([False, False, True])
    columns = replace(columns, known_share=np.ones(3), features=np.ones((3, 2, 6)), muted=muted)
    rules = IncidentRules("hosts", features=2)
    book = IncidentBook(rules)
    events = [make_event(AT, **dict(labels)) for labels in hosts[:2]]
    book.update(AT + 60, events, watched=survey_groups(hosts, rules))
    muted_groups = frozenset({name_group("hosts", hosts[2])})
    return make_snapshot(columns, IncidentColumns(book.open_incidents, muted_groups=muted_groups))

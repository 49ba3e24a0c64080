"""A running detector of many groups with synthetic columns, for tests of the web layer.

served = create_running_fleet(tmp_path, groups=1000)
with serve_detectors([served]) as url: ...
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promad.data.groups import Labels, name_group
from promad.detection.fleet_history import FleetHistory, Histories
from promad.detection.running_detector import RunningDetector
from promad.events.events import AnomalyEvent
from promad.events.incident_book import IncidentBook, IncidentRules, Watched
from promad.events.status import GroupStatus
from promad.events.verdict import STATES, State, Verdict, view_features
from promad.exposition.fleet import FleetSnapshot, GroupColumns, IncidentColumns
from tests.support.served import (
    FEATURES,
    LENGTH,
    NOW,
    ODD_SAMPLES,
    STEP,
    create_running_detectors,
)

ONSET = NOW - STEP * (ODD_SAMPLES - 1)
"""Start of the open event of an anomalous group."""


def create_fleet_groups(count: int) -> list[Labels]:
    """Labels of so many hosts, in ten racks."""
    return [
        (("instance", f"host-{number:04d}:9100"), ("rack", f"r{number % 10}"))
        for number in range(count)
    ]


def create_running_fleet(
    directory: Path,
    *,
    groups: int = 1000,
    features: Sequence[str] = FEATURES,
    anomalous: Sequence[int] = (),
    blind: Sequence[int] = (),
    pooled: Sequence[int] = (),
) -> RunningDetector:
    """A detector `promad` of so many groups; those in no sequence are ok.

    The first feature of the anomalous groups is far above that of the others.
    """
    (only,) = create_running_detectors(directory, features=features, states=[State.OK])
    labels = create_fleet_groups(groups)
    states = np.full(groups, STATES.index(State.OK), np.uint8)
    states[list(anomalous)] = STATES.index(State.ANOMALOUS)
    states[list(blind)] = STATES.index(State.BLIND)
    snapshot = create_fleet_snapshot(labels, states, features, pooled)
    events = [each.event for each in map(snapshot.build_status, anomalous) if each.event]
    for event in events:
        only.events.record(event, only.bundle.id, NOW)
    history = FleetHistory(features, 720)
    names = [name_group("promad", each) for each in labels]
    history.regroup(names, labels)
    columns = snapshot.columns
    for back in range(20, -1, -1):
        history.add(NOW - STEP * back, states, columns.score, columns.threshold)
    return replace(only, snapshot=lambda: snapshot, histories=Histories(history))


def create_fleet_snapshot(
    labels: Sequence[Labels],
    states: NDArray[np.uint8],
    features: Sequence[str] = FEATURES,
    pooled: Sequence[int] = (),
) -> FleetSnapshot:
    """A fleet after a tick, with these groups in these states."""
    count, odd = len(labels), states == STATES.index(State.ANOMALOUS)
    scored = odd | (states == STATES.index(State.OK))
    noise = np.random.default_rng(1)
    ratio = np.where(odd, 2.0 + np.arange(count) / count, noise.uniform(0.1, 0.8, count))
    values = np.full((count, len(features), 6), np.nan)
    values[:, :, 0] = 0.1
    values[:, :, 1] = np.where(odd[:, np.newaxis], np.arange(len(features)) == 0, 0.0)
    values[:, :, 2] = noise.normal(10.0, 0.5, (count, len(features)))
    values[odd, 0, 2] = 50.0
    values[:, :, 3] = 10.0
    values[:, :, 4] = np.where(values[:, :, 1] > 0, 3.0, 0.4)
    values[~scored] = np.nan
    is_pooled = np.zeros(count, np.bool_)
    is_pooled[list(pooled)] = True
    columns = GroupColumns(
        labels=tuple(labels),
        state=states,
        score=np.where(scored, ratio, np.nan),
        threshold=np.ones(count),
        mse=np.where(scored, 0.1 * ratio, np.nan),
        known_share=np.where(scored, 1.0, np.nan),
        anomalous_since=np.where(odd, ONSET, np.nan),
        last_scored_at=np.where(scored, NOW, np.nan),
        samples_in_window=np.where(scored, LENGTH, 0),
        events_begun=odd.astype(np.int64),
        pooled=is_pooled,
        feature_names=tuple(features),
        features=values,
    )
    return FleetSnapshot(
        "promad",
        "anomaly_detector_",
        columns,
        IncidentColumns(),
        (),
        1000,
        lambda row: _build_status(columns, row),
    )


def _build_status(columns: GroupColumns, row: int) -> GroupStatus:
    state, labels = STATES[columns.state[row]], columns.labels[row]
    verdict = Verdict(NOW, state, 1.0, why="" if state is State.OK else "query cpu failed: timeout")
    if not np.isnan(columns.score[row]):
        views = view_features(columns.feature_names, columns.features[row])
        score, mse = float(columns.score[row]), float(columns.mse[row])
        verdict = Verdict(NOW, state, 1.0, score=score, mse=mse, features=views)
    event = None
    if state is State.ANOMALOUS:
        name = name_group("promad", labels)
        event = AnomalyEvent(name, ONSET, ONSET + STEP, None, verdict, labels)
    return GroupStatus(
        verdict=verdict,
        group=labels,
        events_begun=int(columns.events_begun[row]),
        event=event,
        last_scored_at=NOW if verdict.score is not None else None,
        samples_in_window=int(columns.samples_in_window[row]),
    )


def log_incidents(served: RunningDetector, **rules: Any) -> Mapping[str, int]:
    """Write the incidents of the open events of a fleet; how many groups each has, by its id."""
    snapshot = served.snapshot()
    assert isinstance(snapshot, FleetSnapshot)
    statuses = map(snapshot.build_status, range(len(snapshot.columns.labels)))
    events = [status.event for status in statuses if status.event]
    book = IncidentBook(IncidentRules("promad", len(snapshot.columns.feature_names), **rules))
    watched = {(): Watched(len(snapshot.columns.labels))}
    changes = book.update(NOW, events, (), (), watched)
    served.events.record_many(served.bundle.id, incidents=changes.incidents)
    return {incident.id: incident.groups for incident in changes.incidents}

"""Scrapes of promad for tests: the series of the real exporter, with job and instance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType

from prometheus_client import CollectorRegistry, ProcessCollector

from promad.events.events import AnomalyEvent
from promad.events.status import GroupStatus
from promad.events.verdict import FeatureView, State, Verdict
from promad.exposition import DaemonMetrics, Snapshot, SnapshotCollector, WebMetrics, names
from promad.exposition.names import MetricSpec
from tests.support.promtool import STEP, Scrape, Value

PREFIX = "anomaly_detector_"
TARGET = {"job": "promad", "instance": "localhost:8001"}

CPU = FeatureView("cpu", 0.3, 0.75, observed=0.9, expected=0.25, elevation=2.5, since=1699999940.0)
LOAD = FeatureView("load", 0.1, 0.25, observed=4.0, expected=5.0, elevation=1.5)

JUDGED = Verdict(1700000000.0, State.ANOMALOUS, 3.0, score=6.0, mse=0.2, features=(CPU, LOAD))
EVENT = AnomalyEvent("promad", 1699999940.5, 1699999970.0, None, JUDGED)
NOT_SCORED_YET = Verdict(1700000000.0, State.WARMING, 3.0, why="4 of 30")

ANOMALOUS = GroupStatus(JUDGED, events_begun=1, event=EVENT, last_scored_at=1700000000.0)
OK = GroupStatus(Verdict(1700000000.0, State.OK, 3.0, 1.5, 0.1, features=(CPU, LOAD)))
BLIND = GroupStatus(Verdict(1700000000.0, State.BLIND, 3.0, why="no sample of cpu"))
WARMING = GroupStatus(NOT_SCORED_YET)

Changes = Mapping[MetricSpec, Value | None]
"""Values of metrics in place of the exporter's; None for series that are absent."""

NO_CHANGES: Changes = MappingProxyType({})

WORKING: Changes = {
    names.LAST_SCORED: lambda at: at,
    names.TICK_DURATION.count: lambda at: at / STEP,
}
"""What changes from scrape to scrape while a daemon scores."""


def scrape(
    *statuses: GroupStatus, target: Mapping[str, str] = TARGET, changed: Changes = NO_CHANGES
) -> Scrape:
    """The series of a daemon with one detector for each status, d0, d1, ..."""
    snapshots = [
        Snapshot(f"d{number}", PREFIX, (status,)) for number, status in enumerate(statuses)
    ]
    values = {spec.full_name(PREFIX): value for spec, value in {**WORKING, **changed}.items()}
    found: dict[str, Value] = {}
    for sample in _samples(snapshots):
        value = values.get(sample.name, sample.value)
        if value is not None:
            found[selector(sample.name, {**target, **sample.labels})] = value
    return {selector("up", target): 1.0, **found}


def _samples(snapshots: list[Snapshot]):
    registry = CollectorRegistry()
    metrics = DaemonMetrics(registry)
    metrics.show_reload(0.0)
    WebMetrics(registry, [], []).show_web_config(0.0)
    for snapshot in snapshots:
        own = metrics.of(snapshot.detector)
        own.show_bundle("linear", "20261122T043819Z-b9fbf963", trained_at=0.0)
        own.show_expected(1.0, (0.5, 2.0))
        own.count_poll(["cpu", "load"], {})
        own.show_sample_age(20.0)
        own.observe_tick(0.01)
    registry.register(SnapshotCollector(lambda: snapshots))
    ProcessCollector(registry=registry)
    return [sample for family in registry.collect() for sample in family.samples]


def selector(name: str, labels: Mapping[str, str]) -> str:
    """A series' name and labels in Prometheus's notation."""
    inside = ", ".join(
        f"{label}={json.dumps(value, ensure_ascii=False)}" for label, value in labels.items()
    )
    return f"{name}{{{inside}}}"

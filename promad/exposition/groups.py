"""Metrics about groups: scores, states and features, from the snapshots of their detectors.

A scrape reads the newest immutable snapshot, and so never sees half a tick. A
series without a truthful value is not exposed at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from promad.events.status import GroupStatus
from promad.events.verdict import FeatureView, State
from promad.exposition import names
from promad.exposition.fleet import FleetSnapshot
from promad.exposition.names import MetricSpec, MetricType


@dataclass(frozen=True)
class Snapshot:
    """The state of one detector after a tick.

    Attributes:
        detector: its name in the configuration.
        metrics_prefix: the prefix of its metrics' names.
        groups: one status for each group.
        failed_queries: alias and error of each query that failed in the last poll.
    """

    detector: str
    metrics_prefix: str
    groups: tuple[GroupStatus, ...]
    failed_queries: tuple[tuple[str, str], ...] = ()


AnySnapshot = Snapshot | FleetSnapshot


class SplitSnapshots(NamedTuple):
    """Snapshots by the way in which they are exposed.

    Attributes:
        fleets: those of many groups, which are rendered already: `merge_fleets` exposes them.
        beside_fleets: those of a single group with the metrics prefix of a fleet; it does so too.
        others: the rest, which a `SnapshotCollector` exposes.
    """

    fleets: Sequence[FleetSnapshot]
    beside_fleets: Sequence[Snapshot]
    others: Sequence[Snapshot]


def split_snapshots(snapshots: Sequence[AnySnapshot]) -> SplitSnapshots:
    """The snapshots by the way in which they are exposed."""
    fleets = [shot for shot in snapshots if isinstance(shot, FleetSnapshot)]
    shared = {fleet.metrics_prefix for fleet in fleets}
    single = [shot for shot in snapshots if isinstance(shot, Snapshot)]
    return SplitSnapshots(
        fleets,
        [shot for shot in single if shot.metrics_prefix in shared],
        [shot for shot in single if shot.metrics_prefix not in shared],
    )


_GroupValue = Callable[[GroupStatus], float | None]
_FeatureValue = Callable[[FeatureView], float | None]

_GROUP_GAUGES: tuple[tuple[MetricSpec, _GroupValue], ...] = (
    (names.RECONSTRUCTION_ERROR, lambda status: status.verdict.mse),
    (names.IS_ANOMALY, lambda status: status.is_flagged),
    (names.MUTED, lambda status: status.muted),
    (names.SCORE, lambda status: status.verdict.score_ratio),
    (names.THRESHOLD, lambda status: status.verdict.threshold),
    (names.THRESHOLD_MSE, lambda status: status.verdict.threshold_mse),
    (names.KNOWN_FEATURES, lambda status: status.verdict.known_share),
    (names.ANOMALOUS_SINCE, lambda status: status.anomalous_since),
    (names.LAST_SCORED, lambda status: status.last_scored_at),
    (names.WINDOW_SAMPLES, lambda status: status.samples_in_window),
)

_FEATURE_GAUGES: tuple[tuple[MetricSpec, _FeatureValue], ...] = (
    (names.FEATURE_ERROR, lambda view: view.error),
    (names.FEATURE_CONTRIBUTION, lambda view: view.contribution),
    (names.FEATURE_ELEVATION, lambda view: view.elevation),
    (names.FEATURE_DEVIATING_SINCE, lambda view: view.since),
    (names.FEATURE_OBSERVED, lambda view: view.observed),
    (names.FEATURE_EXPECTED, lambda view: view.expected),
    (names.FEATURE_LARGEST_AT, lambda view: view.largest and view.largest.at),
    (names.FEATURE_LARGEST_OBSERVED, lambda view: view.largest and view.largest.observed),
    (names.FEATURE_LARGEST_EXPECTED, lambda view: view.largest and view.largest.expected),
    (names.FEATURE_LARGEST_ELEVATION, lambda view: view.largest and view.largest.elevation),
)


@dataclass(frozen=True)
class SnapshotCollector(Collector):
    """Exposes the newest snapshot of every detector, with its name as the label `detector`."""

    snapshots: Callable[[], Sequence[AnySnapshot]]

    def collect(self) -> Iterator[Metric]:
        """The metric families of one scrape; detectors with one prefix share theirs."""
        snapshots = self.snapshots()
        for prefix in dict.fromkeys(snapshot.metrics_prefix for snapshot in snapshots):
            yield from self._families(
                prefix, [shot for shot in snapshots if shot.metrics_prefix == prefix]
            )

    def _families(self, prefix: str, snapshots: Sequence[AnySnapshot]) -> Iterator[Metric]:
        rows = [
            ({**dict(status.group), "detector": shot.detector}, status)
            for shot in snapshots
            for status in shot.groups
        ]
        common = tuple(sorted({name for labels, _ in rows for name in labels}))
        families = _FamilyBuilder(prefix, common)
        for spec, value_of in _GROUP_GAUGES:
            values = ((labels, value_of(status)) for labels, status in rows)
            yield families.build(spec, values)
        begun = ((labels, status.events_begun) for labels, status in rows)
        yield families.build(names.EVENTS, begun)
        yield families.build(names.STATE, _states(rows))
        for spec, view_value in _FEATURE_GAUGES:
            yield families.build(spec, _features(rows, view_value))


_Rows = Sequence[tuple[dict[str, str], GroupStatus]]
_Values = Iterable[tuple[dict[str, str], float | None]]


def _states(rows: _Rows) -> _Values:
    """1 for the state that each group is in, 0 for the others."""
    for labels, status in rows:
        for state in State:
            yield {**labels, "state": state.value}, float(status.verdict.state is state)


def _features(rows: _Rows, value_of: _FeatureValue) -> _Values:
    """A value for each feature of each group."""
    for labels, status in rows:
        for view in status.verdict.features:
            yield {**labels, "feature_name": view.name}, value_of(view)


@dataclass(frozen=True)
class _FamilyBuilder:
    """Builds families with one prefix and the same labels of groups."""

    prefix: str
    labels: tuple[str, ...]

    def build(self, spec: MetricSpec, values: _Values) -> Metric:
        """The family of a metric with those of these values that are known."""
        family_of = CounterMetricFamily if spec.type is MetricType.COUNTER else GaugeMetricFamily
        labels = (*self.labels, *spec.labels)
        family = family_of(spec.full_name(self.prefix), spec.help, labels=labels)
        for own, value in values:
            if value is not None and math.isfinite(value):
                family.add_metric([own.get(name, "") for name in labels], float(value))
        return family

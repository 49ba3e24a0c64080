"""What is exposed of groups: scores, states and features, from the snapshots of their detectors.

A scrape reads whatever immutable snapshot a tick has swapped in, and so never sees half a tick. A
series without a truthful value is not exposed at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from promad.events.status import GroupStatus
from promad.events.verdict import FeatureView, State, Verdict


@dataclass(frozen=True)
class Snapshot:
    """Where one detector stands after a tick.

    Attributes:
        detector: its name in the configuration.
        metrics_prefix: what its metrics' names begin with.
        groups: one status for each group.
        failed_queries: why, by alias, for each query that the last poll could not get answered.
    """

    detector: str
    metrics_prefix: str
    groups: tuple[GroupStatus, ...]
    failed_queries: tuple[tuple[str, str], ...] = ()


_GroupValue = Callable[[GroupStatus], float | None]
_FeatureValue = Callable[[FeatureView], float | None]

_GROUP_GAUGES: tuple[tuple[str, str, _GroupValue], ...] = (
    (
        "latest_reconstruction_error_mse",
        "Mean squared reconstruction error of the newest window, in scaled units.",
        lambda status: status.verdict.mse,
    ),
    (
        "is_anomaly_detected",
        "1 while an anomaly event is open, 0 while none is; absent while blind or warming.",
        lambda status: _flag(status.verdict),
    ),
    (
        "score",
        "Score over threshold of the newest sample: above 1 is anomalous.",
        lambda status: status.verdict.score_ratio,
    ),
    (
        "threshold",
        "The limit that the score is held to, in the score's own unit.",
        lambda status: status.verdict.threshold,
    ),
    (
        "threshold_mse",
        "The limit that the reconstruction error is held to; only with `scoring: mse`.",
        lambda status: status.verdict.threshold_mse,
    ),
    (
        "known_features_ratio",
        "Share of the features that the newest score rests on.",
        lambda status: status.verdict.known_share,
    ),
    (
        "anomalous_since_timestamp_seconds",
        "Start of the event that is open; absent while none is, and while blind or warming.",
        lambda status: status.anomalous_since,
    ),
    (
        "last_successful_run_timestamp_seconds",
        "Time of the newest sample that got a score.",
        lambda status: status.last_scored_at,
    ),
    (
        "data_points_in_current_window",
        "Complete samples in a row up to now, at most the window's length.",
        lambda status: status.samples_in_window,
    ),
)

_FEATURE_GAUGES: tuple[tuple[str, str, _FeatureValue], ...] = (
    (
        "feature_reconstruction_error_mse",
        "Mean squared reconstruction error of one feature, in scaled units.",
        lambda view: view.error,
    ),
    (
        "feature_contribution_ratio",
        "Share of one feature in what lies above all features' baselines; the shares sum to 1.",
        lambda view: view.contribution,
    ),
    (
        "feature_elevation_ratio",
        "Error of one feature over its baseline in training: above 1 it deviates.",
        lambda view: view.elevation,
    ),
    (
        "feature_deviating_since_timestamp_seconds",
        "Since when one feature has deviated without a break; absent while it does not.",
        lambda view: view.since,
    ),
    (
        "feature_observed_value",
        "Newest value of one feature, in its own unit.",
        lambda view: view.observed,
    ),
    (
        "feature_expected_value",
        "The value that the model would have had there, in the feature's own unit.",
        lambda view: view.expected,
    ),
)

_EVENTS = ("total_anomalies_count", "Anomaly events that have begun since the daemon started.")
_STATE = ("state", "1 for the state that the group is in, 0 for the others.")


def _flag(verdict: Verdict) -> float | None:
    return None if verdict.score is None else float(verdict.state is State.ANOMALOUS)


@dataclass(frozen=True)
class SnapshotCollector(Collector):
    """Exposes the newest snapshot of every detector; `several` adds the label `detector`."""

    snapshots: Callable[[], Sequence[Snapshot]]
    several: bool

    def collect(self) -> Iterator[Metric]:
        """The metric families of one scrape; detectors with one prefix share theirs."""
        snapshots = self.snapshots()
        for prefix in dict.fromkeys(snapshot.metrics_prefix for snapshot in snapshots):
            yield from self._families(
                prefix, [shot for shot in snapshots if shot.metrics_prefix == prefix]
            )

    def _families(self, prefix: str, snapshots: Sequence[Snapshot]) -> Iterator[Metric]:
        rows = [
            (self._labels(shot, status), status) for shot in snapshots for status in shot.groups
        ]
        names = sorted({name for labels, _ in rows for name in labels})
        for name, text, value_of in _GROUP_GAUGES:
            family = GaugeMetricFamily(prefix + name, text, labels=names)
            for labels, status in rows:
                _add(family, names, labels, value_of(status))
            yield family
        yield self._events(prefix, names, rows)
        yield self._states(prefix, names, rows)
        yield from _feature_families(prefix, names, rows)

    def _labels(self, snapshot: Snapshot, status: GroupStatus) -> dict[str, str]:
        own = {"detector": snapshot.detector} if self.several else {}
        return {**dict(status.group), **own}

    def _events(self, prefix: str, names: list[str], rows: _Rows) -> Metric:
        name, text = _EVENTS
        family = CounterMetricFamily(prefix + name, text, labels=names)
        for labels, status in rows:
            _add(family, names, labels, status.events_begun)
        return family

    def _states(self, prefix: str, names: list[str], rows: _Rows) -> Metric:
        name, text = _STATE
        family = GaugeMetricFamily(prefix + name, text, labels=[*names, "state"])
        for labels, status in rows:
            for state in State:
                is_in = float(status.verdict.state is state)
                _add(family, [*names, "state"], {**labels, "state": state.value}, is_in)
        return family


_Rows = Sequence[tuple[dict[str, str], GroupStatus]]


def _feature_families(prefix: str, names: list[str], rows: _Rows) -> Iterator[Metric]:
    names = [*names, "feature_name"]
    for name, text, value_of in _FEATURE_GAUGES:
        family = GaugeMetricFamily(prefix + name, text, labels=names)
        for labels, status in rows:
            for view in status.verdict.features:
                _add(family, names, {**labels, "feature_name": view.name}, value_of(view))
        yield family


def _add(
    family: GaugeMetricFamily | CounterMetricFamily,
    names: Sequence[str],
    labels: dict[str, str],
    value: float | None,
) -> None:
    """Add a sample, unless there is no truthful value for it."""
    if value is not None and math.isfinite(value):
        family.add_metric([labels.get(name, "") for name in names], value)

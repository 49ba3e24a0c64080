"""Every metric that promad exposes: its name, its help and when it is there.

The scores of all detectors come from immutable snapshots that their ticks swap; a scrape reads
whatever snapshot is there and so never sees half a tick. A series without a truthful value is
not exposed at all.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

import promad
from promad.errors import FAILURE_REASONS, PrometheusError
from promad.events import AnomalyEvent
from promad.frame import THE_ONLY_GROUP, Labels
from promad.verdict import FeatureView, State, Verdict

DAEMON_PREFIX = "promad_"
"""What the names of the metrics about the daemon itself begin with."""


@dataclass(frozen=True)
class GroupStatus:
    """Where one group stands.

    Attributes:
        group: its labels.
        verdict: the newest judgement.
        events_begun: since the daemon started.
        event: the event that is open, if any.
        last_scored_at: unix seconds of the newest sample that got a score; None before the first.
        samples_in_window: complete samples in a row up to now, at most a window's length.
    """

    verdict: Verdict
    group: Labels = THE_ONLY_GROUP
    events_begun: int = 0
    event: AnomalyEvent | None = None
    last_scored_at: float | None = None
    samples_in_window: int = 0

    @property
    def anomalous_since(self) -> float | None:
        """Start of the event that is open, in unix seconds; None without a score too."""
        if self.event is None or self.verdict.state is not State.ANOMALOUS:
            return None
        return self.event.start


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


class DaemonMetrics:
    """What the daemon says about itself; one for all its detectors."""

    def __init__(self, registry: CollectorRegistry, several: bool) -> None:
        self._registry = registry
        self._own = ("detector",) if several else ()
        self._revealed: set[Gauge] = set()
        build = self._gauge("build_info", "Always 1; names the version.", "version", *_PYTHON)
        self.reveal(build).labels(promad.__version__, platform.python_version()).set(1)
        self.model_info = self._gauge(
            "model_info", "Always 1; names the model and the bundle in use.", *self._own, *_MODEL
        )
        self.model_trained = self._gauge(
            "model_trained_timestamp_seconds", "When the bundle in use was trained.", *self._own
        )
        self.reload_worked = self._gauge(
            "config_last_reload_successful", "1 if the last load of the configuration worked."
        )
        self.reloaded_at = self._gauge(
            "config_last_reload_success_timestamp_seconds",
            "When the configuration in use was loaded.",
        )
        self.expected_false_alarms = self._gauge(
            "expected_false_alarms_per_week",
            "Events a week that the threshold is expected to give on normal data.",
            *self._own,
        )
        self.expected_bounds = self._gauge(
            "expected_false_alarms_per_week_bound",
            "Between these the expected number of events a week lies with 90 % confidence.",
            *self._own,
            "bound",
        )
        self.adapted = self._counter(
            "threshold_adapted",
            "Times that the threshold was raised because the alert budget was far exceeded.",
            *self._own,
        )
        self.polls = self._counter("polls", "Polls of the Prometheus server.", *self._own)
        self.poll_failures = self._counter(
            "poll_failures",
            "Polls in which a query failed, by the first failure's reason.",
            *self._own,
            "reason",
        )
        self.query_up = self._gauge(
            "query_up", "1 if the last poll got the query answered, else 0.", *self._own, "query"
        )
        self.query_failures = self._counter(
            "query_failures", "Queries that failed.", *self._own, "query"
        )
        self.sample_age = self._gauge(
            "sample_age_seconds",
            "Age, at the last poll, of the newest sample of the feature furthest behind.",
            *self._own,
        )
        self.ticks_skipped = self._counter(
            "ticks_skipped", "Ticks left out because the one before took too long.", *self._own
        )
        self.tick_failures = self._counter(
            "tick_failures", "Ticks that ended in an unforeseen error.", *self._own
        )
        self.event_log_failures = self._counter(
            "event_log_failures", "Times that events could not be written down.", *self._own
        )
        self.tick_duration = Histogram(
            DAEMON_PREFIX + "tick_duration_seconds",
            "How long a tick took: polling, scoring and judging.",
            self._own,
            registry=registry,
            buckets=_TICK_BUCKETS,
        )

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        """A gauge that is there from its first value on: unset, it would claim to be 0."""
        return Gauge(DAEMON_PREFIX + name, text, labels, registry=None)

    def reveal(self, gauge: Gauge) -> Gauge:
        """The gauge, exposed from now on."""
        if gauge not in self._revealed:
            self._revealed.add(gauge)
            self._registry.register(gauge)
        return gauge

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(DAEMON_PREFIX + name, text, labels, registry=self._registry)

    def forget(self) -> None:
        """Forget which models, queries and expectations there were: others take their place."""
        for gauge in (self.model_info, self.query_up, self.expected_bounds):
            gauge.clear()

    def reloaded(self, at: float) -> None:
        """The configuration in use was loaded at a time, in unix seconds."""
        self.reveal(self.reload_worked).set(1)
        self.reveal(self.reloaded_at).set(at)

    def reload_failed(self) -> None:
        """A new configuration could not be loaded; the one before stays in use."""
        self.reveal(self.reload_worked).set(0)

    def of(self, detector: str) -> DetectorMetrics:
        """The part of one detector."""
        return DetectorMetrics(self, {"detector": detector} if self._own else {})


_PYTHON = ("python_version",)
_MODEL = ("model", "bundle")
_TICK_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


@dataclass(frozen=True)
class DetectorMetrics:
    """What one detector has to say about its own work."""

    daemon: DaemonMetrics
    labels: dict[str, str]

    def loaded(self, model: str, bundle: str, trained_at: float) -> None:
        """A bundle is in use; every counter is there from now on, at 0."""
        info = {**self.labels, "model": model, "bundle": bundle}
        self.daemon.reveal(self.daemon.model_info).labels(**info).set(1)
        self._set(self.daemon.model_trained, trained_at)
        daemon = self.daemon
        for metric in (
            daemon.polls,
            daemon.ticks_skipped,
            daemon.tick_failures,
            daemon.adapted,
            daemon.event_log_failures,
        ):
            self._child(metric)
        for reason in FAILURE_REASONS:
            self.daemon.poll_failures.labels(**self.labels, reason=reason)

    def expects(self, false_alarms: float | None, interval: tuple[float, float] | None) -> None:
        """How many events a week the threshold should give on normal data, as far as is known."""
        if false_alarms is not None:
            self._set(self.daemon.expected_false_alarms, false_alarms)
        if interval is not None:
            bounds = self.daemon.reveal(self.daemon.expected_bounds)
            for bound, value in zip(("low", "high"), interval, strict=True):
                bounds.labels(**self.labels, bound=bound).set(value)

    def threshold_adapted(self, times: int) -> None:
        """The threshold was raised."""
        self._child(self.daemon.adapted).inc(times)

    def polled(self, queries: Iterable[str], failures: Mapping[str, PrometheusError]) -> None:
        """A poll is over, and these queries failed in it."""
        self._child(self.daemon.polls).inc()
        query_up = self.daemon.reveal(self.daemon.query_up)
        for query in queries:
            failed = query in failures
            query_up.labels(**self.labels, query=query).set(not failed)
            self.daemon.query_failures.labels(**self.labels, query=query).inc(failed)
        for failure in list(failures.values())[:1]:
            self.daemon.poll_failures.labels(**self.labels, reason=failure.reason).inc()

    def sample_is(self, age_seconds: float) -> None:
        """How old the newest sample of the feature furthest behind is."""
        self._set(self.daemon.sample_age, age_seconds)

    def ticked(self, seconds: float) -> None:
        """A tick is over."""
        self._child(self.daemon.tick_duration).observe(seconds)

    def tick_failed(self) -> None:
        """A tick ended in an unforeseen error."""
        self._child(self.daemon.tick_failures).inc()

    def event_log_failed(self) -> None:
        """Events could not be written down."""
        self._child(self.daemon.event_log_failures).inc()

    def skipped(self, ticks: int) -> None:
        """Ticks were left out."""
        self._child(self.daemon.ticks_skipped).inc(ticks)

    def _set(self, gauge: Gauge, value: float) -> None:
        self._child(self.daemon.reveal(gauge)).set(value)

    def _child[M: (Counter, Gauge, Histogram)](self, metric: M) -> M:
        """The metric for this detector; the metric itself where detectors are not told apart."""
        return metric.labels(**self.labels) if self.labels else metric

"""Metrics about the daemon itself: polls, ticks, queries, models and the configuration in use."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

import promad
from promad.errors import FAILURE_REASONS, PrometheusError
from promad.exposition import names
from promad.exposition.names import MetricSpec, Subject


def create_registry() -> CollectorRegistry:
    """A registry with the metrics of the process."""
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return registry


class DaemonMetrics:
    """Metrics about the daemon and all its detectors; the latter have the label `detector`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._revealed: set[Gauge] = set()
        build = self._gauge(names.BUILD_INFO)
        self.reveal(build).labels(promad.__version__, platform.python_version()).set(1)
        self.shard_info = self._gauge(names.SHARD_INFO)
        self.shards = self._gauge(names.SHARDS)
        self.model_info = self._gauge(names.MODEL_INFO)
        self.model_trained = self._gauge(names.MODEL_TRAINED)
        self.reload_succeeded = self._gauge(names.RELOAD_SUCCEEDED)
        self.reloaded_at = self._gauge(names.RELOADED_AT)
        self.expected_false_alarms = self._gauge(names.EXPECTED_FALSE_ALARMS)
        self.expected_bounds = self._gauge(names.EXPECTED_FALSE_ALARMS_BOUND)
        self.adapted = self._counter(names.THRESHOLD_ADAPTED)
        self.polls = self._counter(names.POLLS)
        self.poll_failures = self._counter(names.POLL_FAILURES)
        self.query_up = self._gauge(names.QUERY_UP)
        self.query_failures = self._counter(names.QUERY_FAILURES)
        self.mute_query_failures = self._counter(names.MUTE_QUERY_FAILURES)
        self.marker_at = self._gauge(names.MARKER_AT)
        self.markers_shown: dict[str, set[tuple[str, str]]] = {}
        self.marker_query_failures = self._counter(names.MARKER_QUERY_FAILURES)
        self.sample_age = self._gauge(names.SAMPLE_AGE)
        self.ticks_skipped = self._counter(names.TICKS_SKIPPED)
        self.tick_failures = self._counter(names.TICK_FAILURES)
        self.event_log_failures = self._counter(names.EVENT_LOG_FAILURES)
        self.tick_duration = self._histogram(names.TICK_DURATION, _TICK_BUCKETS)

    def _gauge(self, spec: MetricSpec) -> Gauge:
        """A gauge that is exposed from its first value on: unset, it would claim to be 0."""
        return Gauge(spec.name, spec.help, self._labels(spec), registry=None)

    def reveal(self, gauge: Gauge) -> Gauge:
        """The gauge, exposed from now on."""
        if gauge not in self._revealed:
            self._revealed.add(gauge)
            self._registry.register(gauge)
        return gauge

    def _counter(self, spec: MetricSpec) -> Counter:
        return Counter(spec.name, spec.help, self._labels(spec), registry=self._registry)

    def _histogram(self, spec: MetricSpec, buckets: tuple[float, ...]) -> Histogram:
        labels = self._labels(spec)
        return Histogram(spec.name, spec.help, labels, registry=self._registry, buckets=buckets)

    def _labels(self, spec: MetricSpec) -> tuple[str, ...]:
        return ("detector", *spec.labels) if spec.subject is Subject.DETECTOR else spec.labels

    def forget(self) -> None:
        """Withdraw models, queries and expectations: others take their place."""
        expected = (self.expected_false_alarms, self.expected_bounds)
        for gauge in {self.model_info, self.query_up, self.marker_at, *expected} & self._revealed:
            self._revealed.remove(gauge)
            self._registry.unregister(gauge)
            gauge.clear()
        self.markers_shown.clear()

    def show_shard(self, number: int, count: int) -> None:
        """The daemon watches one of `count` shares of the groups."""
        self.reveal(self.shard_info).labels(str(number), str(count)).set(1)
        self.reveal(self.shards).set(count)

    def show_reload(self, at: float) -> None:
        """The configuration in use was loaded at a time, in unix seconds."""
        self.reveal(self.reload_succeeded).set(1)
        self.reveal(self.reloaded_at).set(at)

    def show_failed_reload(self) -> None:
        """A new configuration could not be loaded; the previous one stays in use."""
        self.reveal(self.reload_succeeded).set(0)

    def of(self, detector: str) -> DetectorMetrics:
        """The metrics of one detector."""
        return DetectorMetrics(self, {"detector": detector})


MOST_MARKERS = 20
"""Versions of all markers of a detector that are exposed."""

_TICK_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


@dataclass(frozen=True)
class DetectorMetrics:
    """Metrics about the work of one detector."""

    daemon: DaemonMetrics
    labels: dict[str, str]

    def show_bundle(self, model: str, bundle: str, trained_at: float) -> None:
        """A bundle is in use; its counters and its histogram are exposed from now on, at 0."""
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
        self._child(daemon.tick_duration)
        for reason in FAILURE_REASONS:
            self.daemon.poll_failures.labels(**self.labels, reason=reason)

    def show_expected(
        self, false_alarms: float | None, interval: tuple[float, float] | None
    ) -> None:
        """The events per week that the threshold should cause on normal data, as far as known."""
        if false_alarms is not None:
            self._set(self.daemon.expected_false_alarms, false_alarms)
        if interval is not None:
            bounds = self.daemon.reveal(self.daemon.expected_bounds)
            for bound, value in zip(("low", "high"), interval, strict=True):
                bounds.labels(**self.labels, bound=bound).set(value)

    def count_adaptations(self, times: int) -> None:
        """The threshold was raised."""
        self._child(self.daemon.adapted).inc(times)

    def count_poll(self, queries: Iterable[str], failures: Mapping[str, PrometheusError]) -> None:
        """A poll is over, and these queries failed in it."""
        self._child(self.daemon.polls).inc()
        query_up = self.daemon.reveal(self.daemon.query_up)
        for query in queries:
            failed = query in failures
            query_up.labels(**self.labels, query=query).set(not failed)
            self.daemon.query_failures.labels(**self.labels, query=query).inc(failed)
        for failure in list(failures.values())[:1]:
            self.daemon.poll_failures.labels(**self.labels, reason=failure.reason).inc()

    def show_mute_queries(self, titles: Iterable[str]) -> None:
        """The counters of failures of these entries of `mute` are exposed from now on."""
        for title in titles:
            self.daemon.mute_query_failures.labels(**self.labels, mute=title)

    def count_mute_failure(self, title: str) -> None:
        """The query of an entry of `mute` failed."""
        self.daemon.mute_query_failures.labels(**self.labels, mute=title).inc()

    def show_marker_queries(self, markers: Iterable[str]) -> None:
        """The counters of failures of these markers are exposed from now on."""
        for marker in markers:
            self.daemon.marker_query_failures.labels(**self.labels, marker=marker)

    def count_marker_failure(self, marker: str) -> None:
        """The query of a marker failed."""
        self.daemon.marker_query_failures.labels(**self.labels, marker=marker).inc()

    def show_markers(self, times: Mapping[tuple[str, str], float]) -> None:
        """Expose when the newest versions were deployed: unix seconds by marker and version."""
        if not times:
            return
        gauge, detector = self.daemon.reveal(self.daemon.marker_at), self.labels["detector"]
        newest = dict(sorted(times.items(), key=lambda each: -each[1])[:MOST_MARKERS])
        for marker, version in self.daemon.markers_shown.get(detector, set()) - newest.keys():
            gauge.remove(detector, marker, version)
        for (marker, version), at in newest.items():
            gauge.labels(**self.labels, marker=marker, version=version).set(at)
        self.daemon.markers_shown[detector] = set(newest)

    def show_sample_age(self, age_seconds: float) -> None:
        """The age of the newest sample of the feature that is furthest behind."""
        self._set(self.daemon.sample_age, age_seconds)

    def observe_tick(self, seconds: float) -> None:
        """A tick is over."""
        self._child(self.daemon.tick_duration).observe(seconds)

    def count_tick_failure(self) -> None:
        """A tick ended in an unexpected error."""
        self._child(self.daemon.tick_failures).inc()

    def count_event_log_failure(self) -> None:
        """Events could not be written to the event log."""
        self._child(self.daemon.event_log_failures).inc()

    def count_skipped(self, ticks: int) -> None:
        """Ticks were skipped."""
        self._child(self.daemon.ticks_skipped).inc(ticks)

    def _set(self, gauge: Gauge, value: float) -> None:
        self._child(self.daemon.reveal(gauge)).set(value)

    def _child[M: (Counter, Gauge, Histogram)](self, metric: M) -> M:
        """The metric for this detector."""
        return metric.labels(**self.labels)

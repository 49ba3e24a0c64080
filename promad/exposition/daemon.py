"""What the daemon exposes of itself: polls, ticks, queries, models and the configuration in use."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

import promad
from promad.errors import FAILURE_REASONS, PrometheusError

DAEMON_PREFIX = "promad_"
"""What the names of the metrics about the daemon itself begin with."""


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

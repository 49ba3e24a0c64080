"""Metrics about what is received by remote write; exposed only where it is enabled."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge

from promad.exposition import names

UNUSED_REASONS = (
    *("unknown_series", "invalid_series", "too_old", "in_future"),
    *("histogram", "exemplar", "metadata"),
)
_RESULTS = ("success", "failure")


class ReceiverMetrics:
    """Metrics about remote write; every reason is exposed from the start, at 0."""

    def __init__(self, registry: CollectorRegistry) -> None:
        requests, unused = names.RECEIVED_REQUESTS, names.RECEIVED_UNUSED
        samples, newest, catch_ups = (
            names.RECEIVED_SAMPLES,
            names.RECEIVED_NEWEST,
            names.CATCH_UPS,
        )
        own = ("detector",)
        self._registry = registry
        self._requests = Counter(requests.name, requests.help, requests.labels, registry=registry)
        self._unused = Counter(unused.name, unused.help, unused.labels, registry=registry)
        self._samples = Counter(samples.name, samples.help, own, registry=registry)
        self._newest = Gauge(newest.name, newest.help, own, registry=None)
        self._has_newest = False
        self._catch_ups = Counter(
            catch_ups.name, catch_ups.help, (*own, *catch_ups.labels), registry=registry
        )
        for reason in UNUSED_REASONS:
            self._unused.labels(reason)

    def forget(self) -> None:
        """Withdraw the newest samples: detectors may be gone."""
        if self._has_newest:
            self._has_newest = False
            self._registry.unregister(self._newest)
            self._newest.clear()

    def begin(self, detector: str) -> None:
        """A detector receives samples; its counters are exposed from now on, at 0."""
        self._samples.labels(detector)
        for result in _RESULTS:
            self._catch_ups.labels(detector, result)

    def count_request(self, status: int) -> None:
        """A request was answered."""
        self._requests.labels(str(status)).inc()

    def count_unused(self, counts: Mapping[str, int]) -> None:
        """Samples and others were not used, by reason."""
        for reason, count in counts.items():
            self._unused.labels(reason).inc(count)

    def count_samples(self, detector: str, samples: int, newest: float | None) -> None:
        """Samples were used; `newest` is the unix time of the newest of all."""
        self._samples.labels(detector).inc(samples)
        if newest is not None:
            if not self._has_newest:
                self._has_newest = True
                self._registry.register(self._newest)
            self._newest.labels(detector).set(newest)

    def count_catch_up(self, detector: str, succeeded: bool) -> None:
        """Samples that had not been received were queried."""
        self._catch_ups.labels(detector, _RESULTS[not succeeded]).inc()

"""Metrics about the HTTP server."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge

from promad.exposition import names
from promad.exposition.names import MetricSpec


class WebMetrics:
    """Metrics about the HTTP server; every reason is exposed from the start, at 0."""

    def __init__(
        self, registry: CollectorRegistry, reasons: Iterable[str], refusals: Iterable[str] = ()
    ) -> None:
        self._registry = registry
        self._closed = self._count(names.CONNECTIONS_CLOSED, reasons)
        self._refused = self._count(names.REQUESTS_REFUSED, refusals)
        self._web_config: tuple[Gauge, Gauge] | None = None

    def count_closed(self, reason: str) -> None:
        """The server closed a connection early, or refused it."""
        self._closed.labels(reason).inc()

    def count_refused(self, reason: str) -> None:
        """A request was refused before anything looked at it."""
        self._refused.labels(reason).inc()

    def show_web_config(self, at: float) -> None:
        """The web configuration in use was loaded at a time, in unix seconds."""
        if self._web_config is None:
            self._web_config = (
                self._gauge(names.WEB_CONFIG_SUCCEEDED),
                self._gauge(names.WEB_CONFIG_LOADED_AT),
            )
        succeeded, loaded_at = self._web_config
        succeeded.set(1)
        loaded_at.set(at)

    def show_failed_web_config(self) -> None:
        """A new web configuration could not be loaded; the previous one stays in use."""
        if self._web_config is not None:
            self._web_config[0].set(0)

    def _gauge(self, spec: MetricSpec) -> Gauge:
        return Gauge(spec.name, spec.help, registry=self._registry)

    def _count(self, spec: MetricSpec, reasons: Iterable[str]) -> Counter:
        counter = Counter(spec.name, spec.help, spec.labels, registry=self._registry)
        for reason in reasons:
            counter.labels(reason)
        return counter

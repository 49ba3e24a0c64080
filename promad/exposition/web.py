"""Metrics about the HTTP server."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter

from promad.exposition import names


class WebMetrics:
    """Metrics about the HTTP server; every reason is exposed from the start, at 0."""

    def __init__(self, registry: CollectorRegistry, reasons: Iterable[str]) -> None:
        spec = names.CONNECTIONS_CLOSED
        self._closed = Counter(spec.name, spec.help, spec.labels, registry=registry)
        for reason in reasons:
            self._closed.labels(reason)

    def count_closed(self, reason: str) -> None:
        """The server closed a connection early, or refused it."""
        self._closed.labels(reason).inc()

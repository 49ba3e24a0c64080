"""Metrics about requests to other shards; exposed only where there are any."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter

from promad.exposition import names

_RESULTS = ("success", "failure")


class PeerMetrics:
    """How many requests were sent to each of the daemons in `web.peers`, and how they ended."""

    def __init__(self, registry: CollectorRegistry) -> None:
        spec = names.PEER_REQUESTS
        self._registry = registry
        self._requests = Counter(spec.name, spec.help, spec.labels, registry=None)
        self._is_exposed = False

    def begin(self, urls: Iterable[str]) -> None:
        """These daemons take the place of others; each is exposed from now on, at 0."""
        self._requests.clear()
        children = [self._requests.labels(url, result) for url in urls for result in _RESULTS]
        if children and not self._is_exposed:
            self._is_exposed = True
            self._registry.register(self._requests)

    def count_request(self, url: str, succeeded: bool) -> None:
        """A request to a daemon is over."""
        self._requests.labels(url, _RESULTS[not succeeded]).inc()

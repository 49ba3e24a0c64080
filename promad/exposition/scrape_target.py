"""`ScrapeTarget`: what Prometheus would have scraped of a detector, sample by sample."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.core import Metric

from promad.events.status import GroupStatus
from promad.exposition.groups import Snapshot, SnapshotCollector


@dataclass(frozen=True)
class ScrapeTarget:
    """A detector as Prometheus scrapes it.

    Attributes:
        detector: its name.
        metrics_prefix: the prefix of its metrics' names.
        labels: those that the scrape adds, such as `job` and `instance`.
    """

    detector: str
    metrics_prefix: str
    labels: Mapping[str, str]

    def collect(self, status: GroupStatus) -> Iterator[Metric]:
        """The metric families of one sample, without the labels of the scrape."""
        snapshot = Snapshot(self.detector, self.metrics_prefix, (status,))
        return SnapshotCollector(lambda: [snapshot]).collect()

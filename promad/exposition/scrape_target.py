"""`ScrapeTarget`: what Prometheus would have scraped of a detector, sample by sample."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prometheus_client.core import Metric

from promad.data.groups import Labels, sort_labels
from promad.events.status import GroupStatus
from promad.exposition.fleet import FleetSnapshot
from promad.exposition.groups import AnySnapshot, Snapshot, SnapshotCollector
from promad.exposition.merging import collect_fleets


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

    def make_snapshot(self, status: GroupStatus) -> Snapshot:
        """One sample of one group as what is exposed."""
        return Snapshot(self.detector, self.metrics_prefix, (status,))

    def collect(self, snapshot: AnySnapshot) -> Iterable[Metric]:
        """The metric families of one sample, without the labels of the scrape."""
        if isinstance(snapshot, FleetSnapshot):
            return collect_fleets([snapshot])
        return SnapshotCollector(lambda: [snapshot]).collect()

    def complete(self, own: Mapping[str, str]) -> Labels:
        """The labels of a series as Prometheus stores them with `honor_labels: true`: its own win.

        >>> ScrapeTarget("d", "", {"instance": "a:8001", "job": "b"}).complete({"instance": "web"})
        (('instance', 'web'), ('job', 'b'))
        """
        return sort_labels({**self.labels, **{k: v for k, v in own.items() if v}})

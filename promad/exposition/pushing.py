"""History as series for remote write, each ended by a staleness marker, as scrapes would end it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from promad.data.groups import Labels
from promad.events.status import GroupStatus
from promad.exposition.groups import AnySnapshot
from promad.exposition.scrape_target import ScrapeTarget

_PER_REQUEST = 5000

Push = Callable[[Mapping[Labels, Sequence[tuple[float, float | None]]]], None]
"""Sends samples, (unix seconds, value), by their series; a value of None ends the series."""


@dataclass
class SamplePusher:
    """Collects samples and sends them a few thousand at a time. See `push_samples`."""

    target: ScrapeTarget
    push: Push
    waiting: dict[Labels, list[tuple[float, float | None]]] = field(default_factory=dict)
    present: set[Labels] = field(default_factory=set)
    count: int = 0

    def add(self, status: GroupStatus) -> None:
        """Add one sample of one group, later than those before; series that it lacks end there."""
        self.add_snapshot(status.verdict.at, self.target.make_snapshot(status))

    def add_snapshot(self, at: float, snapshot: AnySnapshot) -> None:
        """Add one sample of all groups, as `add`; `at` in unix seconds."""
        values = {
            self.target.complete({**sample.labels, "__name__": sample.name}): sample.value
            for family in self.target.collect(snapshot)
            for sample in family.samples
        }
        for series in self.present - values.keys():
            self._wait(series, at, None)
        for series, value in values.items():
            self._wait(series, at, value)
        self.present = set(values)
        if self.count >= _PER_REQUEST:
            self.send()

    def _wait(self, series: Labels, at: float, value: float | None) -> None:
        self.waiting.setdefault(series, []).append((at, value))
        self.count += 1

    def send(self) -> None:
        """Send the samples collected so far."""
        if self.waiting:
            self.push(self.waiting)
        self.waiting, self.count = {}, 0


@contextmanager
def push_samples(target: ScrapeTarget, push: Push) -> Iterator[SamplePusher]:
    """A pusher to add samples to; the last are sent once the block succeeds."""
    sending = SamplePusher(target, push)
    yield sending
    sending.send()

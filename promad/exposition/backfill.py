"""History as metrics: what a daemon would have exposed, sample by sample, for Prometheus to read.

`OpenMetricsFile` writes what `promtool tsdb create-blocks-from openmetrics` reads. A file can say
that a series was there, not that it ended, so after a last sample Prometheus repeats it for five
minutes; `Pushed` samples, by remote write, end with a staleness marker, as a scrape would leave.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from prometheus_client.core import Metric

from promad.data.frame import Labels, labels_of
from promad.events.status import GroupStatus
from promad.exposition import Snapshot, SnapshotCollector
from promad.files import written_whole

_PER_REQUEST = 5000

Push = Callable[[Mapping[Labels, Sequence[tuple[float, float | None]]]], None]
"""Sends samples, (unix seconds, value), by their series; a value of None ends the series."""


@dataclass(frozen=True)
class Exposed:
    """How a detector's samples are exposed: its prefix, and the labels a scrape would add."""

    detector: str
    metrics_prefix: str
    labels: Mapping[str, str]

    def families(self, status: GroupStatus) -> Iterator[Metric]:
        """The metrics of one sample."""
        snapshot = Snapshot(self.detector, self.metrics_prefix, (status,))
        return SnapshotCollector(lambda: [snapshot], several=False).collect()


@dataclass
class OpenMetricsFile:
    """Collects samples family by family, as the format wants them. See `openmetrics_file`."""

    exposed: Exposed
    folder: Path
    stack: ExitStack
    parts: dict[str, IO[str]] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)

    def add(self, status: GroupStatus) -> None:
        """Add one sample, later than those before."""
        at = f"{status.verdict.at:.3f}".rstrip("0").rstrip(".")
        for family in self.exposed.families(status):
            lines = [
                f"{sample.name}{self._labels(sample.labels)} {sample.value!r} {at}\n"
                for sample in family.samples
            ]
            if lines:
                self._part(family).writelines(lines)

    def _labels(self, own: Mapping[str, str]) -> str:
        key = str(own)
        if key not in self.labels:
            pairs = labels_of({**own, **self.exposed.labels})
            text = ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs)
            self.labels[key] = f"{{{text}}}" if text else ""
        return self.labels[key]

    def _part(self, family: Metric) -> IO[str]:
        part = self.parts.get(family.name)
        if part is None:
            path = self.folder / str(len(self.parts))
            part = self.stack.enter_context(path.open("w+", encoding="utf-8"))
            part.write(f"# HELP {family.name} {_escaped(family.documentation)}\n")
            part.write(f"# TYPE {family.name} {family.type}\n")
            self.parts[family.name] = part
        return part


@contextmanager
def openmetrics_file(path: Path, exposed: Exposed) -> Iterator[OpenMetricsFile]:
    """A file to add samples to; it is there, whole, once the block ends well.

    Raises:
        DataError: if it cannot be written.
    """
    with ExitStack() as stack, written_whole(path) as aside:
        folder = stack.enter_context(TemporaryDirectory(prefix=".promad-", dir=path.parent))
        file = OpenMetricsFile(exposed, Path(folder), stack)
        yield file
        with aside.open("w", encoding="utf-8") as whole:
            for part in file.parts.values():
                part.seek(0)
                whole.writelines(part)
            whole.write("# EOF\n")


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


@dataclass
class Pushed:
    """Collects samples and sends them a few thousand at a time. See `pushed`."""

    exposed: Exposed
    push: Push
    waiting: dict[Labels, list[tuple[float, float | None]]] = field(default_factory=dict)
    there: set[Labels] = field(default_factory=set)
    count: int = 0

    def add(self, status: GroupStatus) -> None:
        """Add one sample, later than those before; series that it lacks end with it."""
        values = {
            labels_of({**sample.labels, **self.exposed.labels, "__name__": sample.name}): (
                sample.value
            )
            for family in self.exposed.families(status)
            for sample in family.samples
        }
        for series in self.there - values.keys():
            self._wait(series, status.verdict.at, None)
        for series, value in values.items():
            self._wait(series, status.verdict.at, value)
        self.there = set(values)
        if self.count >= _PER_REQUEST:
            self.send()

    def _wait(self, series: Labels, at: float, value: float | None) -> None:
        self.waiting.setdefault(series, []).append((at, value))
        self.count += 1

    def send(self) -> None:
        """Send what waits."""
        if self.waiting:
            self.push(self.waiting)
        self.waiting, self.count = {}, 0


@contextmanager
def pushed(exposed: Exposed, push: Push) -> Iterator[Pushed]:
    """Something to add samples to, all of which are sent once the block ends well."""
    sending = Pushed(exposed, push)
    yield sending
    sending.send()

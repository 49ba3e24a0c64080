"""History as an OpenMetrics file, for `promtool tsdb create-blocks-from openmetrics`.

The format cannot mark the end of a series: after its last sample, Prometheus repeats the value for
five minutes. Remote write (`pushing`) can.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from prometheus_client.core import Metric

from promad.data.groups import escape_label_value
from promad.events.status import GroupStatus
from promad.exposition.groups import AnySnapshot
from promad.exposition.scrape_target import ScrapeTarget
from promad.files import write_whole


@dataclass
class OpenMetricsFile:
    """Collects samples by metric family, as the format requires. See `write_openmetrics`."""

    target: ScrapeTarget
    folder: Path
    stack: ExitStack
    parts: dict[str, IO[str]] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)

    def add(self, status: GroupStatus) -> None:
        """Add one sample of one group, later than those before."""
        self.add_snapshot(status.verdict.at, self.target.make_snapshot(status))

    def add_snapshot(self, time: float, snapshot: AnySnapshot) -> None:
        """Add one sample of all groups, later than those before; `time` in unix seconds."""
        at = f"{time:.3f}".rstrip("0").rstrip(".")
        for family in self.target.collect(snapshot):
            lines = [
                f"{sample.name}{self._labels(sample.labels)} {sample.value!r} {at}\n"
                for sample in family.samples
            ]
            if lines:
                self._part(family).writelines(lines)

    def _labels(self, own: Mapping[str, str]) -> str:
        key = str(own)
        if key not in self.labels:
            pairs = self.target.complete(own)
            text = ",".join(f'{name}="{escape_label_value(value)}"' for name, value in pairs)
            self.labels[key] = f"{{{text}}}" if text else ""
        return self.labels[key]

    def _part(self, family: Metric) -> IO[str]:
        part = self.parts.get(family.name)
        if part is None:
            path = self.folder / str(len(self.parts))
            part = self.stack.enter_context(path.open("w+", encoding="utf-8"))
            part.write(f"# HELP {family.name} {escape_label_value(family.documentation)}\n")
            part.write(f"# TYPE {family.name} {family.type}\n")
            self.parts[family.name] = part
        return part


@contextmanager
def write_openmetrics(path: Path, target: ScrapeTarget) -> Iterator[OpenMetricsFile]:
    """A file to add samples to; it appears at `path`, complete, once the block succeeds.

    Raises:
        DataError: if it cannot be written.
    """
    with ExitStack() as stack, write_whole(path) as aside:
        folder = stack.enter_context(TemporaryDirectory(prefix=".promad-", dir=path.parent))
        file = OpenMetricsFile(target, Path(folder), stack)
        yield file
        with aside.open("w", encoding="utf-8") as whole:
            for part in file.parts.values():
                part.seek(0)
                whole.writelines(part)
            whole.write("# EOF\n")

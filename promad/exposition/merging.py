"""The metrics of all detectors that share an exposition: each family once, with its HELP and TYPE.

Detectors of many groups are rendered already. One of a single group that has the same prefix joins
their families.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from promad.exposition.groups import AnySnapshot, Snapshot, SnapshotCollector, split_snapshots
from promad.exposition.names import MetricSpec
from promad.exposition.segments import Segment
from promad.exposition.text import write_header


def merge_fleets(
    snapshots: Sequence[AnySnapshot], openmetrics: bool, chosen: Collection[str] = ()
) -> list[Segment]:
    """The exposition of detectors of many groups, and of those that share their prefixes.

    Args:
        openmetrics: whether the format is OpenMetrics, whose `# EOF` is left to the caller.
        chosen: names of metrics; all, if it is empty.
    """
    split = split_snapshots(snapshots)
    families: dict[str, tuple[MetricSpec, list[Segment]]] = {}
    for fleet in split.fleets:
        for spec, segment in fleet.rendered.families.items():
            name = spec.full_name(fleet.metrics_prefix)
            families.setdefault(name, (spec, []))[1].append(segment)
    for name, lines in _render_families(split.beside_fleets):
        families[name][1].append(Segment(lines))
    merged: list[Segment] = []
    for name, (spec, segments) in families.items():
        if not chosen or name in chosen:
            merged.append(_make_header(spec, name, openmetrics))
            merged += [segment for segment in segments if segment.plain]
    return merged


def collect_fleets(snapshots: Sequence[AnySnapshot]) -> Iterable[Metric]:
    """The same as objects of `prometheus_client`, for history that is exported."""
    segments = merge_fleets(snapshots, openmetrics=False)
    text = b"".join(segment.plain for segment in segments).decode()
    return text_string_to_metric_families(text)


@lru_cache(maxsize=1000)
def _make_header(spec: MetricSpec, name: str, openmetrics: bool) -> Segment:
    return Segment(write_header(spec, name, openmetrics))


def _render_families(snapshots: Sequence[Snapshot]) -> Iterator[tuple[str, bytes]]:
    """The name and the lines of each family of detectors of a single group."""
    for family in SnapshotCollector(lambda: snapshots).collect():
        registry = CollectorRegistry()
        registry.register(_One(family))
        lines = generate_latest(registry).splitlines(keepends=True)
        name = family.name + "_total" * (family.type == "counter")
        yield name, b"".join(line for line in lines if not line.startswith(b"#"))


@dataclass(frozen=True, eq=False)
class _One(Collector):
    """Collects one family."""

    family: Metric

    def collect(self) -> Iterator[Metric]:
        """That family."""
        yield self.family

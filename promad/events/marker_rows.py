"""Rows of the event log about markers."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any

from promad.data.groups import Labels
from promad.events.events import read_labels
from promad.events.markers import Marker, Versions

MOST_MARKERS = 10_000
"""Markers that are kept: a version that each of some thousands of groups has gets one for each."""

KEEP_NEWEST_MARKERS = f"""
    DELETE FROM markers WHERE id IN (
        SELECT id FROM markers ORDER BY at DESC, id LIMIT -1 OFFSET {MOST_MARKERS}
    )
"""  # noqa: S608 (a number of this module)
"""SQL: however often versions change, the file stays small."""


def make_marker_row(marker: Marker) -> tuple[Any, ...]:
    """The row of a marker."""
    labels = json.dumps(dict(marker.labels))
    return (marker.id, marker.name, marker.version, marker.at, labels)


def read_marker(row: sqlite3.Row) -> Marker:
    """The marker in a row."""
    labels = read_labels(json.loads(row["labels"]))
    return Marker(row["name"], row["version"], row["at"], labels)


def make_version_rows(name: str, at: float, versions: Versions) -> Iterator[tuple[Any, ...]]:
    """The rows of versions that are known since a time."""
    for labels, known in versions.items():
        yield (name, json.dumps(dict(labels)), json.dumps(sorted(known)), at)


def read_versions(rows: Iterable[sqlite3.Row]) -> dict[str, dict[Labels, frozenset[str]]]:
    """The versions in rows, by the name of their marker."""
    found: dict[str, dict[Labels, frozenset[str]]] = {}
    for row in rows:
        labels = read_labels(json.loads(row["labels"]))
        found.setdefault(row["name"], {})[labels] = frozenset(json.loads(row["versions"]))
    return found

"""What was fetched before, kept on disk in chunks that lie on absolute multiples of their length.

A chunk is kept only once it lies wholly in the past and no sample in it is missing: what a server
lacks today, it may have tomorrow, as after a backfill. It says itself from when to when it holds
samples: what was not asked for is never taken for missing. A damaged file counts as absent.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from math import floor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from promad.data.groups import Labels, sort_labels
from promad.files import write_whole
from promad.prometheus.grid import Span

SETTLE_SECONDS = 600.0
"""How long after its end a chunk may still change: late scrapes, rules, remote writes."""

_NEWEST_FORMAT = 2
_UNREADABLE = (OSError, ValueError, LookupError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, eq=False)
class Chunk:
    """The samples of the one series of a query, over a part of the time or all of it.

    Attributes:
        span: the grid times that were asked for.
        labels: the label set of the series.
        values: float64 (samples,), one for each time of the span; NaN = missing.
    """

    span: Span
    labels: Labels
    values: NDArray[np.float64]


@dataclass(frozen=True)
class ChunkCache:
    """Chunks of one server at one step (seconds), `chunk_seconds` long each.

    `chunk_seconds` is a multiple of `step`. `selection` is what else selects the data, such as a
    hash of the headers. With `refresh` nothing is read, only written.
    """

    directory: Path
    server: str
    step: float
    chunk_seconds: float
    selection: str = ""
    refresh: bool = False

    def parts(self, span: Span) -> Iterator[Span]:
        """The span, cut where chunks begin."""
        for number in range(self._number(span.start), self._number(span.end) + 1):
            start = number * self.chunk_seconds
            end = start + self.chunk_seconds - self.step
            yield Span(max(span.start, start), min(span.end, end))

    def read(self, expr: str, part: Span) -> Chunk | None:
        """What is kept of `expr` over the whole of `part` (see `parts`), or None."""
        if self.refresh:
            return None
        try:
            chunk = _load(self._path(expr, part))
        except _UNREADABLE:
            return None
        first = round((part.start - chunk.span.start) / self.step)
        last = first + round((part.end - part.start) / self.step)
        if first < 0 or last >= len(chunk.values):
            return None
        return Chunk(part, chunk.labels, chunk.values[first : last + 1])

    def write(self, expr: str, chunk: Chunk, now: float) -> None:
        """Keep a part, unless its chunk may still change or a sample is missing.

        Raises:
            DataError: if the directory cannot be written.
        """
        chunk_end = (self._number(chunk.span.start) + 1) * self.chunk_seconds
        if chunk_end + SETTLE_SECONDS >= now or np.isnan(chunk.values).any():
            return
        labels = json.dumps([_NEWEST_FORMAT, chunk.span.start, dict(chunk.labels)])
        with write_whole(self._path(expr, chunk.span)) as aside, aside.open("wb") as file:
            np.savez(file, allow_pickle=False, about=np.array(labels), values=chunk.values)

    def _number(self, time: float) -> int:
        return floor(time / self.chunk_seconds + 1e-9)

    def _path(self, expr: str, part: Span) -> Path:
        key = json.dumps([_NEWEST_FORMAT, self.server, self.selection, expr, self.step]).encode()
        start = self._number(part.start) * self.chunk_seconds
        return self.directory / hashlib.sha256(key).hexdigest() / f"{start:.0f}.npz"


def _load(path: Path) -> Chunk:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        form, start, labels = json.loads(str(stored["about"]))
        values = stored["values"]
    if form != _NEWEST_FORMAT or values.dtype != np.float64 or values.ndim != 1:
        raise ValueError("another form")
    return Chunk(Span(start, start), sort_labels(labels), values)

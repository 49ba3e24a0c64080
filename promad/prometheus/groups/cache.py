"""Chunks of many series on disk, of which single rows are read without the rest.

A file is a `.npy` array (series, samples), followed by the labels of its series as JSON. Chunks lie
on absolute multiples of their length, and are kept as `promad.prometheus.cache` keeps those of one
series, but that a series may begin, end or have short gaps: of a fleet, some always do.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from promad.data.groups import Labels, sort_labels
from promad.files import DAMAGED, write_whole
from promad.prometheus.cache import SETTLE_SECONDS, ChunkCache
from promad.prometheus.grid import Span

Values = NDArray[np.float64]

_FORMAT = 3
_MOST_MISSING = 0.01
"""Share of the samples between the first and the last of each series that may be missing."""


@dataclass(frozen=True, eq=False)
class FleetChunk:
    """The samples of all series of a query over a part of the time.

    Attributes:
        path: the file.
        span: the grid times.
        labels: of each series.
        values: float64 (series, samples), mapped into memory; NaN = missing.
    """

    path: Path
    span: Span
    labels: tuple[Labels, ...]
    values: Values


def write_chunk(path: Path, labels: Sequence[Labels], values: Values) -> None:
    """Write a chunk: values float64 (series, samples).

    Raises:
        DataError: if the directory cannot be written.
    """
    with write_whole(path) as aside, aside.open("wb") as file:
        np.save(file, np.ascontiguousarray(values), allow_pickle=False)
        file.write(json.dumps([dict(each) for each in labels]).encode())


def read_chunk(path: Path, span: Span, samples: int) -> FleetChunk | None:
    """The chunk in a file; None if there is none of so many samples."""
    try:
        with path.open("rb") as file:
            np.lib.format.read_magic(file)
            shape, _, kind = np.lib.format.read_array_header_1_0(file)
            begin = file.tell()
            file.seek(begin + int(np.prod(shape)) * kind.itemsize)
            labels = tuple(sort_labels(each) for each in json.loads(file.read()))
        if kind != np.float64 or shape != (len(labels), samples):
            return None
        values = np.memmap(path, np.float64, "r", begin, shape) if labels else np.empty(shape)
    except DAMAGED:
        return None
    return FleetChunk(path, span, labels, np.asarray(values))


def locate_chunk(cache: ChunkCache, expr: str, part: Span) -> Path:
    """Where a chunk of an expression is kept."""
    key = json.dumps([_FORMAT, cache.server, cache.selection, expr, cache.step]).encode()
    name = f"{part.start:.0f}-{part.end:.0f}.npy"
    return cache.directory / hashlib.sha256(key).hexdigest() / name


def may_keep(cache: ChunkCache, part: Span, values: Values, now: float) -> bool:
    """Whether a chunk is whole, lies in the past, and has hardly a gap."""
    whole = part.end - part.start + cache.step >= cache.chunk_seconds - cache.step / 2
    if not whole or part.end + cache.step + SETTLE_SECONDS >= now or not len(values):
        return False
    known = ~np.isnan(values)
    first, last = known.argmax(axis=1), known[:, ::-1].argmax(axis=1)
    lasting = np.where(known.any(axis=1), values.shape[1] - first - last, 0)
    return bool(lasting.sum() - known.sum() <= _MOST_MISSING * max(lasting.sum(), 1))

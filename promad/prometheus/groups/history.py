"""The whole history of a fleet: fetched by time, handed on by group.

A server answers with all groups for a stretch of time; every later stage wants one group for all of
it. Each answer is put on disk, and a few groups at a time are read back, so that memory does not
grow with the number of groups or the length of the history.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import structlog
from numpy.typing import NDArray

from promad.data.frame import MetricFrame, points_between
from promad.data.groups import Grouping, Labels
from promad.errors import DataError, PrometheusError
from promad.files import remove_abandoned
from promad.prometheus.cache import ChunkCache
from promad.prometheus.client import PrometheusClient
from promad.prometheus.grid import (
    Span,
    align_periods,
)
from promad.prometheus.groups.cache import (
    FleetChunk,
    locate_chunk,
    may_keep,
    read_chunk,
    write_chunk,
)
from promad.prometheus.groups.fetching import (
    FetchedPart,
    Part,
    Workers,
    download_part,
    fetch_on_workers,
    read_part,
)
from promad.prometheus.history import Progress
from promad.prometheus.one_series import (
    MOST_OVERLAP,
    add_alias,
    build_no_series_error,
    format_labels,
)
from promad.prometheus.parsing import MOST_SERIES

Values = NDArray[np.float64]
Rows = NDArray[np.int64]

_IN_FLIGHT = 2
_AHEAD = 2
_BLOCK_BYTES = 64 * 2**20

log = structlog.get_logger()


@dataclass(frozen=True)
class FleetRequest:
    """What is to be fetched.

    Attributes:
        queries: alias → PromQL.
        periods: unix seconds; those that overlap or touch become one.
        step: seconds between samples.
        grouping: which group each series belongs to.
        max_groups: groups that are taken at most.
        allow_partial: whether answers with warnings are accepted.
    """

    queries: Mapping[str, str]
    periods: Sequence[tuple[float, float]]
    step: float
    grouping: Grouping
    max_groups: int
    allow_partial: bool = False

    @property
    def most_series(self) -> int:
        """Series that an answer may have: more than are watched, so that the others are refused."""
        return max(MOST_SERIES, 4 * self.max_groups)


@dataclass
class FleetHistory:
    """What was fetched, on disk.

    Attributes:
        spans: the grid times of each period.
        step: seconds between samples.
        groups: the labels of all groups, sorted.
        refused: how many groups there are beyond `max_groups`; they are left out.
        requests: how many requests were made of the server.
        points: how many samples they brought.
        chunks_from_cache: how many chunks needed no request.
        overlaps: by group and alias the samples at which several series had a value.
    """

    spans: tuple[Span, ...]
    step: float
    groups: tuple[Labels, ...] = ()
    refused: int = 0
    requests: int = 0
    points: int = 0
    chunks_from_cache: int = 0
    overlaps: dict[tuple[Labels, str], int] = field(default_factory=dict)
    _chunks: dict[str, list[FleetChunk]] = field(default_factory=dict)
    _rows: dict[str, list[Rows]] = field(default_factory=dict)

    def iterate_groups(self) -> Iterator[list[MetricFrame]]:
        """The frames of one group after the other: one for each period in which it has a value.

        Raises:
            PrometheusError: if several series of a group overlap at more than a tenth of its
                samples of a query.
        """
        samples = sum(points_between(span.start, span.end, self.step) for span in self.spans)
        size = max(1, _BLOCK_BYTES // (8 * samples * len(self._chunks)))
        for first in range(0, len(self.groups), size):
            rows = np.arange(first, min(first + size, len(self.groups)))
            blocks = [self._read_block(span, rows) for span in self.spans]
            for row, group in enumerate(rows.tolist()):
                labels = self.groups[group]
                frames = [
                    _trim(span, self.step, tuple(self._chunks), labels, block[row])
                    for span, block in zip(self.spans, blocks, strict=True)
                ]
                yield [frame for frame in frames if frame.samples] or frames[:1]

    def _read_block(self, span: Span, groups: Rows) -> Values:
        """The values of consecutive groups over one period: (groups, samples, features)."""
        samples = points_between(span.start, span.end, self.step)
        block = np.full((len(self._chunks), len(groups), samples), np.nan)
        for of_feature, (alias, chunks) in zip(block, self._chunks.items(), strict=True):
            counts = np.zeros(of_feature.shape, np.int16)
            for chunk, rows in zip(chunks, self._rows[alias], strict=True):
                if not span.start <= chunk.span.start <= span.end:
                    continue
                place = round((chunk.span.start - span.start) / self.step)
                stretch = slice(place, place + chunk.values.shape[1])
                for series in np.flatnonzero((rows >= groups[0]) & (rows <= groups[-1])).tolist():
                    row, values = rows[series] - groups[0], chunk.values[series]
                    known = ~np.isnan(values)
                    np.copyto(of_feature[row, stretch], values, where=known)
                    counts[row, stretch] += known
            several = counts > 1
            if several.any():
                of_feature[several] = np.nan
                self._count_overlaps(alias, groups, several, counts > 0)
        return block.transpose(1, 2, 0)

    def _count_overlaps(
        self, alias: str, groups: Rows, several: NDArray[np.bool_], known: NDArray[np.bool_]
    ) -> None:
        for row in np.flatnonzero(several.any(axis=1)).tolist():
            labels, count = self.groups[groups[row]], int(several[row].sum())
            key = (labels, alias)
            self.overlaps[key] = self.overlaps.get(key, 0) + count
            if count > MOST_OVERLAP * int(known[row].sum()):
                raise add_alias(alias, self._explain_overlap(alias, int(groups[row])))

    def _explain_overlap(self, alias: str, group: int) -> PrometheusError:
        series = {
            labels: None
            for chunk, rows in zip(self._chunks[alias], self._rows[alias], strict=True)
            for labels, row in zip(chunk.labels, rows.tolist(), strict=True)
            if row == group
        }
        shown = ", ".join(format_labels(labels) for labels in list(series)[:5])
        more = f" and {len(series) - 5} more" if len(series) > 5 else ""
        by = ", ".join(name for name, _ in self.groups[group])
        return PrometheusError(
            f"{len(series)} series of the group {format_labels(self.groups[group])} at the same "
            f"time: {shown}{more} — aggregate with sum by ({by}) (…), or add labels to group_by",
            "several_series",
        )


def fetch_fleet(
    client: PrometheusClient,
    request: FleetRequest,
    scratch: Path,
    *,
    now: float,
    cache: ChunkCache,
    progress: Progress | None = None,
    workers: Workers | None = None,
) -> FleetHistory:
    """Fetch the samples of every query for every group.

    Args:
        scratch: a directory for what is not kept; the history reads from it.
        now: unix seconds.
        workers: what fetches in place of this process.

    Raises:
        PrometheusError: naming the alias, if a query fails or has no series at all; also if the
            server warns and that is not accepted.
        DataError: if the periods hold no sample at all, or a file cannot be written.
    """
    spans = align_periods(request.periods, request.step)
    if not spans:
        raise DataError(
            f"no time in the collection periods is a multiple of the step ({request.step:g} s) and "
            "in the past — set a longer or an earlier period"
        )
    for folder in cache.directory.glob("*/"):
        remove_abandoned(folder)
    fetch = _Fetch(client, request, scratch, now, cache, FleetHistory(spans, request.step), workers)
    fetch.run(progress)
    return fetch.history


@dataclass
class _Fetch:
    """One fetch of a fleet's history on its way."""

    client: PrometheusClient
    request: FleetRequest
    scratch: Path
    now: float
    cache: ChunkCache
    history: FleetHistory
    workers: Workers | None = None
    most_seen: int = 1

    def run(self, progress: Progress | None) -> None:
        work = [
            (alias, part)
            for alias in self.request.queries
            for span in self.history.spans
            for part in self.cache.parts(span)
        ]
        for alias in self.request.queries:
            self.history._chunks[alias] = []
        workers = self.workers
        fetched = self._fetch_on_workers(work, workers) if workers else self._fetch_here(work)
        for done, alias in enumerate(fetched, 1):
            if progress:
                progress(done, len(work), alias)
        self._assign_rows()

    def _fetch_here(self, work: Sequence[tuple[str, Span]]) -> Iterator[str]:
        """The alias of each part that is finished; two threads download ahead."""
        pending = deque(work)
        with ThreadPoolExecutor(_IN_FLIGHT, "download") as pool:
            waiting: deque[tuple[str, Span, FleetChunk | Future[list[bytes]]]] = deque()
            try:
                while pending or waiting:
                    while pending and len(waiting) <= _AHEAD:
                        alias, span = pending.popleft()
                        found = self._find_kept(alias, span) or pool.submit(
                            self._download, self._ask(alias, span)
                        )
                        waiting.append((alias, span, found))
                    alias, span, found = waiting.popleft()
                    if isinstance(found, FleetChunk):
                        self.history._chunks[alias].append(found)
                    else:
                        self._read(alias, span, found)
                    yield alias
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _fetch_on_workers(
        self, work: Sequence[tuple[str, Span]], workers: Workers
    ) -> Iterator[str]:
        """The alias of each part that is finished, in any order."""
        left = []
        for alias, span in work:
            if (kept := self._find_kept(alias, span)) is None:
                left.append((alias, span))
                continue
            self.history._chunks[alias].append(kept)
            yield alias
        parts = (self._ask(alias, span) for alias, span in left)
        for place, found in fetch_on_workers(workers, parts):
            alias, span = left[place]
            if isinstance(found, PrometheusError):
                raise add_alias(alias, found)
            self._keep(alias, span, found)
            yield alias

    def _find_kept(self, alias: str, span: Span) -> FleetChunk | None:
        """What the cache has of a part."""
        if self.cache.refresh:
            return None
        samples = points_between(span.start, span.end, self.request.step)
        path = locate_chunk(self.cache, self.request.queries[alias], span)
        kept = read_chunk(path, span, samples)
        self.history.chunks_from_cache += kept is not None
        return kept

    def _ask(self, alias: str, span: Span) -> Part:
        request = self.request
        expr, most = request.queries[alias], request.most_series
        return Part(expr, span, request.step, most, request.allow_partial, self.most_seen)

    def _download(self, part: Part) -> list[bytes]:
        bodies = download_part(self.client, replace(part, series_seen=self.most_seen))
        if self.most_seen == 1:
            self.most_seen = max(1, bodies[0].count(b'"metric"'))
        return bodies

    def _read(self, alias: str, span: Span, found: Future[list[bytes]]) -> None:
        try:
            fetched = read_part(self.client, self._ask(alias, span), found.result())
        except PrometheusError as error:
            raise add_alias(alias, error) from None
        self._keep(alias, span, fetched)

    def _keep(self, alias: str, span: Span, fetched: FetchedPart) -> None:
        """Put what a part brought on disk."""
        expr, values = self.request.queries[alias], fetched.values
        self.history.requests += fetched.requests
        self.history.points += fetched.points
        self.most_seen = max(self.most_seen, len(fetched.labels))
        keep = not fetched.warned and may_keep(self.cache, span, values, self.now)
        number = len(self.history._chunks[alias])
        index = list(self.request.queries).index(alias)
        path = (
            locate_chunk(self.cache, expr, span) if keep else self.scratch / f"{index}-{number}.npy"
        )
        write_chunk(path, fetched.labels, values)
        chunk = read_chunk(path, span, values.shape[1])
        if chunk is None:
            raise DataError(f"{path}: cannot be read again — check the disk")
        self.history._chunks[alias].append(chunk)

    def _assign_rows(self) -> None:
        """Number the groups, sorted by their labels, and say which one each series is of."""
        history, find = self.history, self.request.grouping.find_group
        of_series = {
            alias: [[find(labels) for labels in chunk.labels] for chunk in chunks]
            for alias, chunks in history._chunks.items()
        }
        for alias, chunks in of_series.items():
            if not any(group is not None for chunk in chunks for group in chunk):
                error = build_no_series_error(self.request.queries[alias])
                if count := sum(len(chunk) for chunk in chunks):
                    message = (
                        f"group_relabel_configs drop all of its {count} series — fix the rules"
                    )
                    error = PrometheusError(message, "no_series")
                raise add_alias(alias, error)
        everyone = sorted(
            {
                group
                for chunks in of_series.values()
                for chunk in chunks
                for group in chunk
                if group is not None
            }
        )
        history.groups = tuple(everyone[: self.request.max_groups])
        history.refused = len(everyone) - len(history.groups)
        row_of = {labels: row for row, labels in enumerate(history.groups)}
        history._rows = {
            alias: [
                np.array([-1 if g is None else row_of.get(g, -1) for g in chunk], np.int64)
                for chunk in chunks
            ]
            for alias, chunks in of_series.items()
        }


def _trim(
    span: Span, step: float, features: tuple[str, ...], labels: Labels, values: Values
) -> MetricFrame:
    """The samples of a group from its first to its last with a value."""
    known = np.flatnonzero((~np.isnan(values)).any(axis=1))
    first, last = (int(known[0]), int(known[-1]) + 1) if known.size else (0, 0)
    return MetricFrame(
        span.start + first * step, step, features, (labels,), values[np.newaxis, first:last]
    )

"""The whole history of many queries: fetched in few large requests, two at once, through a cache.

While two threads download, the main thread parses; at most `_AHEAD` answers wait for it, so
that memory stays flat however long the history is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import numpy as np
import structlog
from numpy.typing import NDArray

from promad.data.frame import MetricFrame, points_between, single_group
from promad.data.groups import Labels
from promad.errors import DataError, PrometheusError
from promad.prometheus.cache import Chunk, ChunkCache
from promad.prometheus.client import PrometheusClient
from promad.prometheus.grid import Span, align_periods, requests_for
from promad.prometheus.one_series import (
    MOST_OVERLAP,
    add_alias,
    build_no_series_error,
    require_one,
    take_series,
)

log = structlog.get_logger()

_IN_FLIGHT = 2
_AHEAD = 4

_Download = tuple["_Column", Span, Future[list[bytes]]]

Progress = Callable[[int, int, str], None]
"""Called with the requests done, their total, and the alias of the last one."""


@dataclass(frozen=True)
class History:
    """What was fetched and what it took.

    Attributes:
        frames: one for each period, in order of time, on the full grid; NaN = missing.
        requests: how many requests were made of the server.
        points: how many samples they brought.
        chunks_from_cache: how many chunks needed no request.
    """

    frames: tuple[MetricFrame, ...]
    requests: int
    points: int
    chunks_from_cache: int


@dataclass
class _Tally:
    """Of one query in all periods: its label sets, and at how many times several had a value."""

    samples: int = 0
    overlaps: int = 0
    labels: dict[Labels, None] = field(default_factory=dict)

    def check(self, expr: str, known: int) -> None:
        """Raise PrometheusError if series overlap at too many of the known samples."""
        if self.overlaps > MOST_OVERLAP * known:
            require_one(expr, self.labels)


@dataclass
class _Column:
    """One query over one period while it is being filled.

    `values` float64 (samples,) is a view into the frame; `tally` is shared with the query's
    columns in other periods. `parts_with_warnings` may be incomplete in ways that do not show.
    """

    alias: str
    expr: str
    span: Span
    step: float
    values: NDArray[np.float64]
    tally: _Tally
    parts_to_keep: list[Span] = field(default_factory=list)
    parts_with_warnings: list[Span] = field(default_factory=list)
    requests_left: int = 0

    def at(self, span: Span) -> NDArray[np.float64]:
        """The view of `values` over a part of the column's time."""
        first = round((span.start - self.span.start) / self.step)
        return self.values[first : first + points_between(span.start, span.end, self.step)]


def fetch_history(
    client: PrometheusClient,
    queries: Mapping[str, str],
    periods: Sequence[tuple[float, float]],
    step: float,
    *,
    now: float,
    cache: ChunkCache | None = None,
    allow_partial: bool = False,
    progress: Progress | None = None,
) -> History:
    """The samples of every query (alias → PromQL) at each multiple of `step` in the periods.

    Periods, `step` and `now` are in (unix) seconds; periods that overlap or touch become one.

    Raises:
        PrometheusError: naming the alias, if a query fails, yields no series in all the periods,
            or several that overlap at more than a tenth of its samples; also if the server warns
            and `allow_partial` is not set.
        DataError: if the periods hold no sample at all.
    """
    spans = align_periods(periods, step)
    if not spans:
        raise DataError(
            f"no time in the collection periods is a multiple of the step ({step:g} s) and in the "
            "past — set a longer or an earlier period"
        )
    frames = [_make_frame(span, step, queries) for span in spans]
    columns = list(_make_columns(queries, spans, frames))
    cached = sum(_fill_from_cache(column, cache) for column in columns) if cache else 0
    work = [(column, part) for column in columns for part in _plan_requests(column, cache, client)]
    requests = points = 0
    with closing(_download_ahead(client, work)) as downloads:
        for done, (column, part, download) in enumerate(downloads, 1):
            with _name_failures(column.alias):
                bodies = download.result()
                points += _take(client, column, part, bodies, allow_partial)
            requests += len(bodies)
            if cache and column.requests_left == 0:
                _keep(column, cache, now)
            if progress:
                progress(done, len(work), column.alias)
    for alias in queries:
        _finish([column for column in columns if column.alias == alias])
    return History(tuple(frames), requests, points, cached)


@contextmanager
def _name_failures(alias: str) -> Iterator[None]:
    """Add the query's alias to errors of the block."""
    try:
        yield
    except PrometheusError as error:
        raise add_alias(alias, error) from None


def _make_frame(span: Span, step: float, queries: Iterable[str]) -> MetricFrame:
    features = tuple(queries)
    shape = (points_between(span.start, span.end, step), len(features))
    return single_group(span.start, step, features, np.full(shape, np.nan))


def _make_columns(
    queries: Mapping[str, str], spans: Sequence[Span], frames: Sequence[MetricFrame]
) -> Iterator[_Column]:
    for feature, (alias, expr) in enumerate(queries.items()):
        tally = _Tally(samples=sum(frame.samples for frame in frames))
        for span, frame in zip(spans, frames, strict=True):
            yield _Column(alias, expr, span, frame.step, frame.values[0, :, feature], tally)


def _finish(columns: Sequence[_Column]) -> None:
    """Check what is known of one query once all is fetched, and log what is unusual."""
    alias, expr, tally = columns[0].alias, columns[0].expr, columns[0].tally
    known = sum(int((~np.isnan(column.values)).sum()) for column in columns)
    with _name_failures(alias):
        if not tally.labels:
            raise build_no_series_error(expr)
        tally.check(expr, known + tally.overlaps)
    if tally.overlaps:
        log.warning("series overlap; samples missing", query=alias, samples=tally.overlaps)
    if len(tally.labels) > 1:
        log.info("series joined", query=alias, series=len(tally.labels))


def _fill_from_cache(column: _Column, cache: ChunkCache) -> int:
    """Copy what is kept and note what is not; how many chunks were found."""
    found = 0
    for part in cache.parts(column.span):
        chunk = cache.read(column.expr, part)
        if chunk is None:
            column.parts_to_keep.append(part)
        else:
            column.at(part)[:] = chunk.values
            column.tally.labels[chunk.labels] = None
            found += 1
    return found


def _plan_requests(
    column: _Column, cache: ChunkCache | None, client: PrometheusClient
) -> list[Span]:
    """The requests that the column still needs."""
    parts = column.parts_to_keep if cache else [column.span]
    joined = align_periods([(part.start, part.end) for part in parts], column.step)
    requests = list(requests_for(joined, column.step, client.max_points))
    column.requests_left = len(requests)
    return requests


def _download_ahead(
    client: PrometheusClient, work: Iterable[tuple[_Column, Span]]
) -> Generator[_Download]:
    """The answers in the order of `work`, fetched ahead of their use.

    When the generator is closed or a download fails, none is begun any more; one that is under way
    ends by itself, at the latest when the client is closed.
    """
    pool = ThreadPoolExecutor(_IN_FLIGHT, "download")
    waiting: deque[_Download] = deque()
    try:
        for column, part in work:
            waiting.append((column, part, pool.submit(_download, client, column, part)))
            if len(waiting) > _AHEAD:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _download(client: PrometheusClient, column: _Column, part: Span) -> list[bytes]:
    return client.range_bodies(column.expr, part.start, part.end, column.step)


def _take(
    client: PrometheusClient, column: _Column, part: Span, bodies: list[bytes], partial: bool
) -> int:
    """Put an answer where it belongs in the column; how many samples it had."""
    column.requests_left -= 1
    answer = client.read(bodies, column.expr)
    try:
        taken = take_series(column.expr, answer, part, column.step, partial)
    except ValueError as error:
        raise client.bad_answer(column.expr, str(error)) from None
    if answer.warnings:
        column.parts_with_warnings.append(part)
    column.at(part)[:] = taken.values
    tally = column.tally
    tally.labels.update(dict.fromkeys(series.labels for series in answer.series))
    tally.overlaps += int(taken.overlaps.sum())
    tally.check(column.expr, tally.samples)
    return sum(len(series.values) for series in answer.series)


def _keep(column: _Column, cache: ChunkCache, now: float) -> None:
    for part in column.parts_to_keep:
        if any(
            part.start <= bad.end and bad.start <= part.end for bad in column.parts_with_warnings
        ):
            continue
        labels = next(iter(column.tally.labels), ())
        cache.write(column.expr, Chunk(part, labels, column.at(part)), now)

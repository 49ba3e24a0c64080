"""`promad collect`: from PromQL to the raw parquet file."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from promad.config import Config
from promad.config.durations import format_instant
from promad.config.settings import DataSettings
from promad.data.artifacts import open_scratch, write_frames, write_groups
from promad.data.frame import MetricFrame
from promad.data.groups import Grouping
from promad.data.losses import Loss, find_large_losses
from promad.data.valid_range import Range, count_outside, drop_outside
from promad.files import remove_abandoned
from promad.parallel.engine import Backend
from promad.prometheus import ChunkCache, History, PrometheusClient, fetch_history
from promad.prometheus.authentication import hash_selection
from promad.prometheus.grid import Span
from promad.prometheus.groups.fetching import open_workers
from promad.prometheus.groups.history import FleetRequest, fetch_fleet
from promad.prometheus.history import Progress
from promad.prometheus.latency import ask_latency_offset
from promad.prometheus.marks import Marked, Marks, fetch_marks
from promad.training.exclusion import list_expressions

CACHE_DIRECTORY = "cache"


@dataclass(frozen=True)
class Collected:
    """What collect wrote, and what it took.

    Attributes:
        path: the parquet file.
        samples: rows over all periods.
        features: the queries' aliases.
        periods: unix seconds of each period's first and last sample.
        missing_share: by feature, the share of samples without a value, 0 to 1.
        requests: how many requests were made of the server.
        points: how many samples they brought.
        chunks_from_cache: how many chunks needed no request.
        seconds: wall time from the first request to the finished file.
        outside: by feature, how many samples were outside of its valid range; features without any
            are left out.
        marks: what the expressions of `data_settings.exclude` mark.
        losses: the features that will cost more than a tenth of the rows.
        groups: how many groups there are; 0 without `group_by`.
        groups_refused: how many more were found than `max_groups` allows.
        overlaps: by feature, how many samples are missing because several series of a group had a
            value; features without any are left out.
    """

    path: Path
    samples: int
    features: tuple[str, ...]
    periods: tuple[tuple[float, float], ...]
    missing_share: Mapping[str, float]
    requests: int
    points: int
    chunks_from_cache: int
    seconds: float
    marks: Marks
    outside: Mapping[str, int] = field(default_factory=dict)
    losses: tuple[Loss, ...] = ()
    groups: int = 0
    groups_refused: int = 0
    overlaps: Mapping[str, int] = field(default_factory=dict)


def collect(
    config: Config,
    *,
    now: float,
    progress: Progress | None = None,
    refresh: bool = False,
    backend: Backend | None = None,
) -> Collected:
    """Fetch every query's history and write it to `output_filename`; `now` is unix seconds.

    With `refresh` nothing is taken from the cache.

    Args:
        backend: what fetches the history of groups in place of this process.

    Raises:
        PromadError: if the backend cannot be used.
        PrometheusError: if a query fails or is not exactly one series; nothing is written then.
        DataError: if the periods hold no sample, or a file cannot be written.
    """
    remove_abandoned(config.artifacts_dir)
    if config.group_by:
        return _collect_groups(config, now, progress, refresh, backend)
    began = time.perf_counter()
    data, url, queries = config.data_settings, config.prometheus_url, config.promql
    cache = _open_cache(config, refresh)
    latency = _ask_latency(config, now)
    with closing(PrometheusClient(url, config.prometheus)) as client:
        history = fetch_history(
            client,
            queries,
            choose_periods(data, now, latency),
            data.step,
            now=now,
            cache=cache,
            allow_partial=data.allow_partial,
            progress=progress,
        )
        marked = fetch_marks(
            client,
            list_expressions(data.exclude),
            [Span(frame.start, frame.end) for frame in history.frames],
            data.step,
            allow_partial=data.allow_partial,
        )
    ranges = config.valid_ranges
    outside = sum(count_outside(frame.values, ranges) for frame in history.frames)
    frames = tuple(
        frame.with_values(drop_outside(frame.values, ranges)) for frame in history.frames
    )
    path = config.artifacts_dir / data.output_filename
    spans = [Span(frame.start, frame.end) for frame in history.frames]
    write_frames(path, frames, _describe(config, spans, marked, now))
    settings = config.preprocessing_settings
    losses = find_large_losses(frames, settings.nan_fill_strategy, settings.max_fill_steps)
    kept, seconds = replace(history, frames=frames), time.perf_counter() - began
    report = _report(path, kept, marked, losses, seconds)
    counts = zip(queries, np.asarray(outside).tolist(), strict=True)
    return replace(report, outside={name: count for name, count in counts if count})


def choose_periods(
    data: DataSettings, now: float, latency_offset: float
) -> list[tuple[float, float]]:
    """The periods to collect, in unix seconds; none of them reaches beyond `now`."""
    newest = now - latency_offset
    wanted = _list_given_periods(data) or [(newest - data.collection_period_hours * 3600, newest)]
    return [(start, min(end, now)) for start, end in wanted if start <= now]


def _open_cache(config: Config, refresh: bool) -> ChunkCache:
    data = config.data_settings
    return ChunkCache(
        directory=config.artifacts_dir / CACHE_DIRECTORY,
        server=config.prometheus_url,
        step=data.step,
        chunk_seconds=data.cache_chunk_hours * 3600,
        selection=hash_selection(config.prometheus),
        refresh=refresh,
    )


def _ask_latency(config: Config, now: float) -> float:
    """How far behind the clock to end; given periods end where they say."""
    if _list_given_periods(config.data_settings):
        return 0.0
    setting = config.real_time_anomaly_detection.latency_offset
    return ask_latency_offset(config.prometheus_url, config.prometheus, setting, now)


def _describe(config: Config, spans: Sequence[Span], marked: Marked, now: float) -> dict[str, str]:
    """The metadata of the file."""
    return {
        "server": config.prometheus_url,
        "queries": json.dumps(config.promql),
        "step_seconds": repr(config.data_settings.step),
        "periods": json.dumps(
            [
                {"start": format_instant(span.start), "end": format_instant(span.end)}
                for span in spans
            ]
        ),
        "marks": json.dumps(marked.marks),
        "valid_ranges": json.dumps(config.valid_ranges),
        "collected_at": format_instant(now),
    }


def _collect_groups(
    config: Config,
    now: float,
    progress: Progress | None,
    refresh: bool,
    backend: Backend | None,
) -> Collected:
    """Fetch every query's history of every group, and write one group after the other."""
    began = time.perf_counter()
    data, queries, latency = config.data_settings, config.promql, _ask_latency(config, now)
    request = FleetRequest(
        queries,
        choose_periods(data, now, latency),
        data.step,
        Grouping.of(config),
        config.max_groups,
        data.allow_partial,
    )
    path = config.artifacts_dir / data.output_filename
    client = PrometheusClient(config.prometheus_url, config.prometheus)
    with (
        closing(client),
        open_scratch(path) as scratch,
        open_workers(backend, config.prometheus_url, config.prometheus) as workers,
    ):
        history = fetch_fleet(
            client,
            request,
            scratch,
            now=now,
            cache=_open_cache(config, refresh),
            progress=progress,
            workers=workers,
        )
        marked = fetch_marks(
            client,
            list_expressions(data.exclude),
            history.spans,
            data.step,
            allow_partial=data.allow_partial,
        )
        written = _Written(tuple(queries), config.valid_ranges)
        write_groups(
            path,
            data.step,
            sorted(config.group_by),
            written.watch(history.iterate_groups()),
            lambda: _describe(config, history.spans, marked, now),
        )
    overlaps: Counter[str] = Counter()
    for (_, alias), count in history.overlaps.items():
        overlaps[alias] += count
    return Collected(
        path=path,
        samples=written.samples,
        features=tuple(queries),
        periods=tuple((span.start, span.end) for span in history.spans),
        missing_share=written.share(written.missing),
        requests=history.requests + marked.requests,
        points=history.points + marked.points,
        chunks_from_cache=history.chunks_from_cache,
        seconds=time.perf_counter() - began,
        marks=marked.marks,
        outside=written.count(written.outside),
        groups=len(history.groups),
        groups_refused=history.refused,
        overlaps=overlaps,
    )


class _Written:
    """Counts what is written of all groups."""

    def __init__(self, features: tuple[str, ...], ranges: Sequence[Range]) -> None:
        self._features, self._ranges = features, ranges
        self.samples = 0
        self.missing, self.outside = np.zeros((2, len(features)), np.int64)

    def watch(self, groups: Iterable[list[MetricFrame]]) -> Iterator[list[MetricFrame]]:
        """The groups that have a value, without those outside of their valid range."""
        for frames in groups:
            kept = [frame.with_values(drop_outside(frame.values, self._ranges)) for frame in frames]
            for before, after in zip(frames, kept, strict=True):
                self.samples += after.samples
                self.outside += count_outside(before.values, self._ranges)
                self.missing += np.isnan(after.values[0]).sum(axis=0)
            if any(frame.samples for frame in kept):
                yield kept

    def share(self, counts: NDArray[np.int64]) -> dict[str, float]:
        """Counts as shares of the samples, by feature."""
        shares = counts / max(self.samples, 1)
        return dict(zip(self._features, shares.tolist(), strict=True))

    def count(self, counts: NDArray[np.int64]) -> dict[str, int]:
        """Counts by feature, where there are any."""
        named = zip(self._features, counts.tolist(), strict=True)
        return {name: count for name, count in named if count}


def _list_given_periods(data: DataSettings) -> list[tuple[float, float]]:
    """The periods with fixed ends; none if the history up to now is to be collected."""
    if data.collection_periods_iso:
        return [(period.start, period.end) for period in data.collection_periods_iso]
    if data.start_time_iso is not None and data.end_time_iso is not None:
        return [(data.start_time_iso, data.end_time_iso)]
    return []


def _report(
    path: Path, history: History, marked: Marked, losses: tuple[Loss, ...], seconds: float
) -> Collected:
    frames = history.frames
    missing = sum(np.isnan(frame.values[0]).sum(axis=0) for frame in frames)
    samples = sum(frame.samples for frame in frames)
    return Collected(
        path=path,
        samples=samples,
        features=frames[0].features,
        periods=tuple((frame.start, frame.end) for frame in frames),
        missing_share=dict(zip(frames[0].features, (missing / samples).tolist(), strict=True)),
        requests=history.requests + marked.requests,
        points=history.points + marked.points,
        chunks_from_cache=history.chunks_from_cache,
        seconds=seconds,
        marks=marked.marks,
        losses=losses,
    )

"""`promad collect`: from PromQL to the raw parquet file."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from promad.config import Config
from promad.config.durations import format_instant
from promad.config.settings import DataSettings
from promad.data.artifacts import write_frames
from promad.data.frame import MetricFrame
from promad.data.losses import Loss, find_large_losses
from promad.data.valid_range import count_outside, drop_outside
from promad.prometheus import ChunkCache, History, PrometheusClient, fetch_history
from promad.prometheus.authentication import hash_selection
from promad.prometheus.grid import Span
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


def collect(
    config: Config, *, now: float, progress: Progress | None = None, refresh: bool = False
) -> Collected:
    """Fetch every query's history and write it to `output_filename`; `now` is unix seconds.

    With `refresh` nothing is taken from the cache.

    Raises:
        PrometheusError: if a query fails or is not exactly one series; nothing is written then.
        DataError: if the periods hold no sample, or a file cannot be written.
    """
    began = time.perf_counter()
    data, url, queries = config.data_settings, config.prometheus_url, config.promql
    cache = ChunkCache(
        directory=config.artifacts_dir / CACHE_DIRECTORY,
        server=url,
        step=data.step,
        chunk_seconds=data.cache_chunk_hours * 3600,
        selection=hash_selection(config.prometheus),
        refresh=refresh,
    )
    setting = config.real_time_anomaly_detection.latency_offset
    latency = (
        0.0
        if _list_given_periods(data)
        else ask_latency_offset(url, config.prometheus, setting, now)
    )
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
    metadata = {
        "server": url,
        "queries": json.dumps(queries),
        "step_seconds": repr(data.step),
        "periods": json.dumps(_spans(history.frames)),
        "marks": json.dumps(marked.marks),
        "valid_ranges": json.dumps(ranges),
        "collected_at": format_instant(now),
    }
    write_frames(path, frames, metadata)
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


def _list_given_periods(data: DataSettings) -> list[tuple[float, float]]:
    """The periods with fixed ends; none if the history up to now is to be collected."""
    if data.collection_periods_iso:
        return [(period.start, period.end) for period in data.collection_periods_iso]
    if data.start_time_iso is not None and data.end_time_iso is not None:
        return [(data.start_time_iso, data.end_time_iso)]
    return []


def _spans(frames: Sequence[MetricFrame]) -> list[dict[str, str]]:
    return [
        {"start": format_instant(frame.start), "end": format_instant(frame.end)} for frame in frames
    ]


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

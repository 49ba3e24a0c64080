"""The newest samples of all groups at several times, each polled by a worker of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace

import numpy as np

from promad.config import PrometheusSettings
from promad.data.frame import MetricFrame
from promad.data.groups import Labels
from promad.errors import PrometheusError
from promad.parallel.running import Failure, run_each
from promad.prometheus.client import PrometheusClient
from promad.prometheus.groups.fetching import Workers
from promad.prometheus.groups.options import PollOptions
from promad.prometheus.groups.polling import GroupPoller


def poll_on_workers(
    workers: Workers, options: PollOptions, ends: Sequence[float]
) -> Iterator[MetricFrame]:
    """The frames of one poller that polls at all of these times, in their order.

    As many are fetched at a time as there may be requests, so that memory is bounded.

    Raises:
        PrometheusError: if a query fails.
    """
    seen_at: dict[Labels, float] = {}
    for first in range(0, len(ends), workers.requests):
        times = ends[first : first + workers.requests]
        for frame in _poll_at(workers, options, times):
            yield _remember(frame, seen_at, options.forget_after)


def _poll_at(workers: Workers, options: PollOptions, times: Sequence[float]) -> list[MetricFrame]:
    connection = (workers.url, workers.settings)
    items = enumerate((options, at) for at in times)
    frames: dict[int, MetricFrame] = {}
    for place, found in run_each(_poll, connection, items, workers.engine, workers.requests):
        if isinstance(found, Failure):
            raise PrometheusError(found.reason, "bad_answer")
        if not isinstance(found, MetricFrame):
            raise PrometheusError(*found)
        frames[place] = found
    return [frames[place] for place in range(len(times))]


def _poll(
    connection: tuple[str, PrometheusSettings], task: tuple[PollOptions, float]
) -> MetricFrame | tuple[str, str, str]:
    """The frame, or the message, reason and fault of the first error."""
    options, at = task
    with closing(PrometheusClient(*connection)) as client:
        poll = GroupPoller(client, options).poll(at)
    for error in poll.failures.values():
        return str(error), error.reason, error.fault
    return replace(poll.frame, values=poll.frame.values.copy())


def _remember(frame: MetricFrame, seen_at: dict[Labels, float], forget_after: float) -> MetricFrame:
    """The frame with the groups that an earlier one had, and that are not forgotten: NaN."""
    seen = ~np.isnan(frame.values).all(axis=2)
    for labels, flags in zip(frame.groups, seen, strict=True):
        known = np.flatnonzero(flags)
        if known.size:
            seen_at[labels] = float(frame.start + frame.step * known[-1])
    here = set(frame.groups)
    gone = [
        labels
        for labels, at in seen_at.items()
        if labels not in here and frame.end - at <= forget_after
    ]
    if not gone:
        return frame
    missing = np.full((len(gone), *frame.values.shape[1:]), np.nan)
    return replace(
        frame,
        groups=(*frame.groups, *gone),
        values=np.concatenate([frame.values, missing]),
    )

"""Replaying: history judged as the daemon would have judged it, sample by sample.

The samples come through the daemon's own `Poller`, with its look at how fresh they are, and go
through its `Judge`. What no replay can know is which queries failed at the time, and which samples
had not arrived yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from promad.bundle import Opened
from promad.config.durations import format_instant
from promad.data.frame import (
    THE_ONLY_GROUP,
    MetricFrame,
    align_down,
    align_up,
    group_name,
    points_between,
)
from promad.detection.judging import Judge, Judged
from promad.errors import DataError
from promad.events.events import AnomalyEvent
from promad.events.status import GroupStatus
from promad.prometheus.client import PrometheusClient
from promad.prometheus.polling import Poller
from promad.scoring.detector import Detector
from promad.training.threshold_choice import StoredLimits, at_work

_AT_ONCE = 20_000
"""Samples that are scored at once; scores are the same for any number."""


def judge_of(opened: Opened) -> Judge:
    """A judge that has seen nothing yet."""
    limits = StoredLimits(at_work(opened.detector.threshold, opened.config))
    return Judge(opened.detector, group_of(opened), opened.config, limits)


def group_of(opened: Opened) -> str:
    """The name of the group that a detector judges."""
    return group_name(opened.config.name, THE_ONLY_GROUP)


def fetch(opened: Opened, start: float, end: float) -> MetricFrame:
    """The samples that judging every sample from `start` to `end` (unix seconds) takes.

    Raises:
        PrometheusError: if a query fails.
        DataError: if no sample lies between the two.
    """
    config, step = opened.config, opened.detector.preparation.step
    first, last = align_up(start, step), align_down(end, step)
    if last < first:
        raise DataError(
            f"no sample lies between {format_instant(start)} and {format_instant(end)} at a step "
            f"of {step:g} s — give a longer period"
        )
    samples = points_between(first, last, step) + opened.detector.samples_needed - 1
    with closing(PrometheusClient(config.prometheus_url, config.prometheus)) as client:
        poller = Poller(
            client,
            config.promql,
            step,
            samples,
            config.real_time_anomaly_detection.stale_after,
            allow_partial=config.data_settings.allow_partial,
        )
        poll = poller.poll(last)
    for failure in poll.failures.values():
        raise failure
    return poll.frame


@dataclass(frozen=True)
class Replayed:
    """One sample: the group as the daemon would have published it, and the event that ended."""

    status: GroupStatus
    ended: AnomalyEvent | None


def replay(judge: Judge, detector: Detector, frame: MetricFrame) -> Iterator[Replayed]:
    """Every sample of a frame but those that only lead up to the first, judged in order of time.

    A sample without a score says why; the event that is open stays open over it.
    """
    lead = detector.samples_needed - 1
    runs = detector.complete_runs(frame)
    before = frame.start + (lead - 1) * frame.step
    judge.memory = replace(judge.memory, scored_until=before)
    status = GroupStatus(judge.blind(before, ""))
    for first, last in _stretches(runs == detector.length, lead):
        part = frame.slice(max(first - lead, 0), last)
        scored = judge.follow(part) if runs[first] == detector.length else iter(())
        upcoming = next(scored, None)
        for row in range(first, last):
            in_window = int(runs[row])
            if upcoming is not None and upcoming.verdict.at < frame.times[row] + frame.step / 2:
                status = _after(status, upcoming, in_window)
                yield Replayed(status, upcoming.ended)
                upcoming = next(scored, None)
            else:
                verdict = judge.unscored(frame, row, in_window)
                status = replace(status, verdict=verdict, samples_in_window=in_window)
                yield Replayed(status, None)


def _after(status: GroupStatus, judged: Judged, in_window: int) -> GroupStatus:
    return replace(
        status,
        verdict=judged.verdict,
        event=judged.event,
        events_begun=status.events_begun + judged.begun,
        last_scored_at=judged.verdict.at,
        samples_in_window=in_window,
    )


def _stretches(whole: NDArray[np.bool_], first: int) -> Iterator[tuple[int, int]]:
    """Rows from `first` on as (first, one past last): alike in `whole`, and not too many."""
    changes = first + 1 + np.flatnonzero(np.diff(whole[first:]))
    bounds = [first, *changes.tolist(), len(whole)]
    for start, end in pairwise(bounds):
        for at in range(start, end, _AT_ONCE):
            yield at, min(at + _AT_ONCE, end)

"""Replaying: history judged as the daemon would have judged it, sample by sample.

The samples come through the daemon's own `Poller`, with its look at how fresh they are, and go
through the same `run`. What no replay can know is which queries failed at the time, and which
samples had not arrived yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace

from promad.bundle import Opened
from promad.config.durations import format_instant
from promad.data.frame import MetricFrame, align_down, align_up, points_between
from promad.detection.live import LiveDetector
from promad.detection.loop import make_status
from promad.errors import DataError
from promad.events.events import AnomalyEvent
from promad.events.status import GroupStatus
from promad.prometheus.client import PrometheusClient
from promad.prometheus.polling import Poller


def fetch_samples(opened: Opened, start: float, end: float) -> MetricFrame:
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
class ReplayedSample:
    """One sample: the group as the daemon would have published it, and the event that ended."""

    status: GroupStatus
    ended: AnomalyEvent | None


def replay(live: LiveDetector, frame: MetricFrame, group: int = 0) -> Iterator[ReplayedSample]:
    """One group's samples but those that only lead up to the first, in order of time.

    A sample without a score says why; an event that is open stays open over it.
    """
    for judgements in live.replay(frame):
        status = make_status(live.state, group, judgements.verdict(group))
        in_window = int(judgements.in_window[group])
        yield ReplayedSample(
            replace(status, samples_in_window=in_window), judgements.ended.get(group)
        )

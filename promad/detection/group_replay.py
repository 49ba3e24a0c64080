"""The history of one group out of many, judged as the daemon would have judged it."""

from __future__ import annotations

import re
from contextlib import closing

import numpy as np
import structlog

from promad.bundle import Opened
from promad.clock import Clock
from promad.config import Config
from promad.data.frame import MetricFrame, align_down, align_up, points_between
from promad.data.groups import Grouping, Labels, escape_label_value, list_matchers
from promad.data.shards import Shard
from promad.detection.fleet_history import FillDetails
from promad.detection.live import begin_live
from promad.detection.recent_history import RecentHistory
from promad.detection.replay import replay
from promad.errors import PromadError
from promad.prometheus.client import PrometheusClient
from promad.prometheus.groups.options import PollOptions
from promad.prometheus.groups.polling import GroupPoller
from promad.prometheus.latency import ask_latency_offset

log = structlog.get_logger()


_SELECTOR = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{([^{}]*)\})?")


def restrict_query(expr: str, labels: Labels) -> str:
    """PromQL for the series of one group alone.

    >>> print(restrict_query('x{job="a"}', (("pod", "a-1"),)))
    x{job="a", pod="a-1"}
    >>> print(restrict_query("sum by (pod) (x)", (("pod", "a-1"),)))
    (sum by (pod) (x)) and on (pod) label_replace(vector(1), "pod", "a-1", "", "")
    """
    if not labels:
        return expr
    selector = _SELECTOR.fullmatch(expr.strip())
    if selector is not None and "\n" not in expr and "#" not in expr:
        own = (selector[2] or "").strip().rstrip(",")
        matchers = ", ".join(filter(None, [own, list_matchers(labels)]))
        return f"{selector[1]}{{{matchers}}}"
    marker = "vector(1)"
    for name, value in labels:
        marker = f'label_replace({marker}, "{name}", "{_escape(value)}", "", "")'
    names = ", ".join(name for name, _ in labels)
    return (
        f"({expr}\n) and on ({names}) {marker}"
        if "#" in expr
        else (f"({expr}) and on ({names}) {marker}")
    )


def _escape(value: str) -> str:
    """A value as the replacement of label_replace, in which $ refers to a part of the match."""
    return escape_label_value(value.replace("$", "$$"))


def make_poll_options(
    config: Config, samples: int, labels: Labels | None = None, shard: Shard | None = None
) -> PollOptions:
    """What to poll for all groups, for those of a shard, or for the one with these labels."""
    live, grouping, queries = (
        config.real_time_anomaly_detection,
        Grouping.of(config, shard),
        config.promql,
    )
    if labels is not None and not grouping.rules:
        queries = {alias: restrict_query(expr, labels) for alias, expr in queries.items()}
    return PollOptions(
        queries=queries,
        grouping=grouping,
        step=live.data_step_duration or config.data_settings.step,
        samples=samples,
        stale_after=live.stale_after,
        max_groups=config.max_groups,
        forget_after=live.forget_after if labels is None else np.inf,
        allow_partial=config.data_settings.allow_partial,
    )


def fetch_group_samples(opened: Opened, labels: Labels, start: float, end: float) -> MetricFrame:
    """The samples of one group that judging every sample from `start` to `end` takes.

    Unix seconds. They are missing where the server has none.

    Raises:
        PrometheusError: if a query fails.
    """
    config, step = opened.config, opened.detector.preparation.step
    first, last = align_up(start, step), align_down(end, step)
    samples = points_between(first, last, step) + opened.detector.samples_needed - 1
    options = make_poll_options(config, samples, labels)
    with closing(PrometheusClient(config.prometheus_url, config.prometheus)) as client:
        poll = GroupPoller(client, options).poll(last)
    for failure in poll.failures.values():
        raise failure
    frame = poll.frame
    if labels in frame.groups:
        return frame.of_group(frame.groups.index(labels))
    missing = np.full((1, samples, len(frame.features)), np.nan)
    return MetricFrame(frame.start, step, frame.features, (labels,), missing)


def make_fill_details(opened: Opened, clock: Clock) -> FillDetails:
    """What reads the newest samples of a group from Prometheus, and judges them again.

    The threshold is the bundle's own: how far a daemon had raised it then is not known. A server
    that does not answer leaves the history as it is, and a line in the log.
    """
    config = opened.config
    live = config.real_time_anomaly_detection

    def fill(name: str, labels: Labels, history: RecentHistory) -> bool:
        now, step = clock.now(), opened.detector.preparation.step
        end = now - ask_latency_offset(
            config.prometheus_url, config.prometheus, live.latency_offset, now
        )
        try:
            frame = fetch_group_samples(opened, labels, end - live.history_samples * step, end)
            for sample in replay(begin_live(opened, [labels]), frame):
                history.add_earlier(sample.status.verdict)
        except PromadError as error:
            log.warning("history not filled", group=name, error=error.summary)
            return False
        return True

    return fill

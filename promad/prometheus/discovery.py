"""What a server scrapes, how often, and how far back it remembers: for `init`.

A server that lacks an endpoint of Prometheus (VictoriaMetrics, Thanos, Mimir) is asked by PromQL
for what the endpoint would have said; what stays unknown is named.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from promad.config import parse_duration
from promad.data.groups import list_matchers
from promad.errors import PrometheusError, UnreachableError
from promad.prometheus.client import PrometheusClient

HISTORY_SECONDS = 7 * 86400.0
"""How far back history is looked for."""

_RECENT_SECONDS = 3600.0
_MEASURED_RANGE = "20m"
_PROBES = 120
_NARROWER = 8
_SHORTEST_PROBE = 15.0


@dataclass(frozen=True)
class Discovery:
    """What is known of a server.

    Attributes:
        version: such as `Prometheus 2.42.0`; empty if unknown.
        targets: how many targets it scrapes; None if unknown.
        intervals: the longest scrape interval in seconds by job.
        retention: as the server writes it; None if unknown.
        names: the names of metrics with samples in the last hour.
        unread: what could not be read and why, a line each.
    """

    version: str
    targets: int | None
    intervals: Mapping[str, float]
    retention: str | None
    names: frozenset[str]
    unread: tuple[str, ...]


def discover(client: PrometheusClient, wanted: Collection[str], now: float) -> Discovery:
    """What the server says about itself at `now` (unix seconds).

    A server may refuse what it says about itself, and still answer queries.

    Args:
        wanted: the names of metrics that matter, if the server does not list all.

    Raises:
        PrometheusError: if it does not answer, or refuses the credentials.
    """
    unread: list[str] = []

    def read[Found](what: str, ask: Callable[[], Found], otherwise: Found) -> Found:
        try:
            return ask()
        except UnreachableError:
            raise
        except PrometheusError as error:
            unread.append(f"{what} ({_shorten(error)})")
        except (ValueError, LookupError, TypeError, AttributeError):
            unread.append(f"{what} (unknown form)")
        return otherwise

    names = read("metric names", lambda: _ask_names(client, now), None)
    if names is None:
        names = _ask_present(client, wanted, now)
    version = read("version", lambda: client.build_info().get("version", ""), "")
    targets = read("targets", lambda: _ask_targets(client), None)
    retention = read("retention", lambda: _ask_retention(client), None)
    return Discovery(
        version=version,
        targets=None if targets is None else len(targets),
        intervals=_list_intervals(targets or []),
        retention=retention,
        names=frozenset(names),
        unread=tuple(unread),
    )


def _shorten(error: PrometheusError) -> str:
    """The server's refusal without its URL and the remedy, which is about queries."""
    found = re.search(r"HTTP \d+", str(error))
    return found[0] if found else error.reason


def _ask_names(client: PrometheusClient, now: float) -> frozenset[str] | None:
    period = {"start": f"{now - _RECENT_SECONDS:.0f}", "end": f"{now:.0f}"}
    return frozenset(map(str, client.fetch("label/__name__/values", period)))


def _ask_present(client: PrometheusClient, wanted: Collection[str], now: float) -> frozenset[str]:
    """Those of the metrics that have a sample now."""
    names = sorted(wanted)
    answer = client.query(f'group by (__name__) ({{__name__=~"{"|".join(names)}"}})', now)
    return frozenset(dict(series.labels).get("__name__", "") for series in answer.series)


def _ask_targets(client: PrometheusClient) -> list[Mapping[str, Any]]:
    targets: list[Mapping[str, Any]] = client.fetch("targets", {"state": "active"})["activeTargets"]
    return targets


def _list_intervals(targets: list[Mapping[str, Any]]) -> dict[str, float]:
    """By job the longest scrape interval of its targets; empty where they have none."""
    intervals: dict[str, float] = {}
    for target in targets:
        job = target.get("labels", {}).get("job", "")
        try:
            seconds = parse_duration(target.get("scrapeInterval", ""))
        except ValueError:
            continue
        intervals[job] = max(seconds, intervals.get(job, 0.0))
    return intervals


def _ask_retention(client: PrometheusClient) -> str | None:
    return str(client.fetch("status/runtimeinfo")["storageRetention"]) or None


def find_interval(
    client: PrometheusClient, metric: str, known: Mapping[str, float], now: float
) -> float | None:
    """The longest scrape interval in seconds among the jobs that have a metric.

    Of a job whose interval is not among the known ones it is measured between samples; None if
    there are too few.

    Raises:
        PrometheusError: if the server does not answer.
    """
    found = list(_find_intervals(client, metric, known, now))
    return max(found, default=None)


def _find_intervals(
    client: PrometheusClient, metric: str, known: Mapping[str, float], now: float
) -> Iterator[float]:
    for series in client.query(f"topk by (job) (1, {metric})", now).series:
        labels = dict(series.labels)
        if labels.get("job") in known:
            yield known[labels["job"]]
            continue
        named = {key: value for key, value in labels.items() if key != "__name__"}
        selector = f"{metric}{{{list_matchers(tuple(named.items()))}}}[{_MEASURED_RANGE}]"
        for one in client.query(selector, now).series:
            if len(one.times) > 1:
                yield float(np.round(np.median(np.diff(one.times))))


def find_history(client: PrometheusClient, metric: str, now: float) -> float:
    """For how many seconds up to `now` a metric has samples: 0 to `HISTORY_SECONDS`.

    It is found to about a hundredth of itself. Gaps count as history.

    Raises:
        PrometheusError: if the server does not answer.
    """
    span = HISTORY_SECONDS
    while True:
        step = max(span / _PROBES, _SHORTEST_PROBE)
        end = now
        answer = client.query_range(f"count({metric})", end - span, end, step)
        times = [float(series.times[0]) for series in answer.series if len(series.times)]
        found = now - min(times) if times else 0.0
        if found >= span / _NARROWER or step == _SHORTEST_PROBE:
            return min(found, HISTORY_SECONDS)
        span = max(2 * (found + step), _NARROWER * _SHORTEST_PROBE)

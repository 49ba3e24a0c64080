"""What `mute` mutes while a detector is at work: its queries, and a log of when mutes begin.

A query that fails, or whose answer does not arrive in time, mutes nothing: no alert is lost.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from promad.config import Config
from promad.config.mute_settings import Mute
from promad.data.groups import Grouping, Labels
from promad.detection.side_query import SideQuery
from promad.errors import PrometheusError
from promad.events.mutes import Muted, Mutes
from promad.exposition import DetectorMetrics
from promad.prometheus.client import PrometheusClient
from promad.prometheus.marks import find_filters
from promad.prometheus.mute_queries import ask_muting

log = structlog.get_logger()

_LONGEST_WAIT_SECONDS = 2.0
_WAIT_SHARE = 0.25
"""How long a tick waits for answers after its own poll: of its interval, and at most."""


class MuteQueries:
    """The queries of `mute`: asked while a tick polls, read once it has polled.

    Args:
        wait: for how many seconds all answers together are awaited then.
    """

    def __init__(
        self,
        entries: Sequence[Mute],
        client: PrometheusClient,
        grouping: Grouping,
        metrics: DetectorMetrics,
        log: Any,
        wait: float = _LONGEST_WAIT_SECONDS,
    ) -> None:
        titles = {entry.query: entry.title for entry in reversed(entries) if entry.query}
        self._titles, self._metrics, self._log, self._wait = titles, metrics, log, wait
        self._failing: set[str] = set()
        self._asked = [_make_query(client, query, grouping) for query in titles]
        self._begun = [False] * len(self._asked)
        metrics.show_mute_queries(titles.values())

    def begin(self, at: float) -> None:
        """Ask what is muted at a time, in unix seconds."""
        self._begun = [each.begin(at) for each in self._asked]

    def answer(self, mutes: Mutes) -> None:
        """Let the answers mute; a query without one mutes nothing.

        A request that an earlier tick has waited for in vain is not waited for again.
        """
        deadline = time.monotonic() + self._wait
        for each, is_new in zip(self._asked, self._begun, strict=True):
            try:
                found = each.read(max(0.0, deadline - time.monotonic()) if is_new else 0.0)
                if found is None:
                    raise PrometheusError(f"query {each.query}: no answer in time", "timeout")
                mutes.answer(each.query, found[1])
                self._report_recovery(each.query)
            except PrometheusError as error:
                mutes.answer(each.query, ())
                self._report_failure(each.query, error)

    def _report_failure(self, query: str, error: PrometheusError) -> None:
        self._metrics.count_mute_failure(self._titles[query])
        if query not in self._failing:
            self._failing.add(query)
            self._log.warning(
                "mute query failed; it mutes nothing",
                mute=self._titles[query],
                reason=error.reason,
                error=str(error),
            )

    def _report_recovery(self, query: str) -> None:
        if query in self._failing:
            self._failing.remove(query)
            self._log.info("mute query answered again", mute=self._titles[query])


def _make_query(
    client: PrometheusClient, query: str, grouping: Grouping
) -> SideQuery[tuple[Labels, ...]]:
    filters = find_filters(query)

    def ask(query: str, at: float) -> tuple[Labels, ...]:
        return ask_muting(client, query, at, grouping, filters=filters)

    return SideQuery(query, ask)


class MuteLog:
    """Logs when entries of `mute` begin and cease to mute groups."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self._before: Mapping[str, int] = {}

    def report(self, muted: Muted) -> None:
        """Log what has changed since the last call."""
        now: dict[str, int] = {}
        for title, groups in zip(muted.titles, muted.counts.tolist(), strict=True):
            if groups:
                now[title] = max(groups, now.get(title, 0))
        for title in sorted(now.keys() - self._before.keys()):
            self._log.info("mute began", mute=title, groups=now[title])
        for title in sorted(self._before.keys() - now.keys()):
            self._log.info("mute ended", mute=title)
        self._before = now


def make_mute_queries(
    config: Config, client: PrometheusClient, metrics: DetectorMetrics
) -> MuteQueries | None:
    """The queries of a configuration; None if there are none."""
    if not any(entry.query for entry in config.mute):
        return None
    interval = config.real_time_anomaly_detection.query_interval_seconds
    return MuteQueries(
        config.mute,
        client,
        Grouping.of(config),
        metrics,
        log.bind(detector=config.name),
        wait=min(_LONGEST_WAIT_SECONDS, _WAIT_SHARE * interval),
    )

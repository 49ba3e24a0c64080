"""What `mute` mutes while a detector is at work: its queries, and a log of when mutes begin.

A query that fails, or whose answer does not arrive in time, mutes nothing: no alert is lost.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
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

_WAIT_SECONDS = 2.0
"""How long a tick waits for answers after its own poll."""


class MuteQueries:
    """The queries of `mute`: asked while a tick polls, read once it has polled."""

    def __init__(
        self,
        entries: Sequence[Mute],
        client: PrometheusClient,
        grouping: Grouping,
        metrics: DetectorMetrics,
        log: Any,
    ) -> None:
        titles = {entry.query: entry.title for entry in reversed(entries) if entry.query}
        self._titles, self._metrics, self._log = titles, metrics, log
        self._failing: set[str] = set()
        self._asked = [_make_query(client, query, grouping) for query in titles]
        metrics.show_mute_queries(titles.values())

    def begin(self, at: float) -> None:
        """Ask what is muted at a time, in unix seconds."""
        for each in self._asked:
            each.begin(at)

    def answer(self, mutes: Mutes) -> None:
        """Let the answers mute; a query without one mutes nothing."""
        deadline = time.monotonic() + _WAIT_SECONDS
        for each in self._asked:
            try:
                found = each.read(max(0.0, deadline - time.monotonic()))
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
        self._before: frozenset[str] = frozenset()

    def report(self, muted: Muted) -> None:
        """Log what has changed since the last call."""
        places = np.unique(muted.entries[muted.flags]).tolist() if muted.flags.any() else []
        titles = frozenset(muted.titles[place] for place in places)
        for title in sorted(titles - self._before):
            self._log.info("mute began", mute=title, groups=int(muted.flags.sum()))
        for title in sorted(self._before - titles):
            self._log.info("mute ended", mute=title)
        self._before = titles


def make_mute_queries(
    config: Config, client: PrometheusClient, metrics: DetectorMetrics
) -> MuteQueries | None:
    """The queries of a configuration; None if there are none."""
    if not any(entry.query for entry in config.mute):
        return None
    return MuteQueries(
        config.mute, client, Grouping.of(config), metrics, log.bind(detector=config.name)
    )

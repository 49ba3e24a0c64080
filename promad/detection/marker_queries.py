"""The queries of `markers` while a detector is at work: no tick ever waits for one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import inf
from typing import Any

import structlog

from promad.config import Config
from promad.config.marker_settings import MarkerSettings
from promad.data.groups import Grouping, Labels
from promad.detection.side_query import SideQuery
from promad.errors import DataError, PrometheusError
from promad.events.event_log import EventLog
from promad.events.events import AnomalyEvent
from promad.events.marker_rows import MOST_MARKERS
from promad.events.markers import (
    Marker,
    MarkerBook,
    MarkerIndex,
    MarkerRule,
    Versions,
)
from promad.exposition import DetectorMetrics
from promad.prometheus.client import PrometheusClient
from promad.prometheus.version_queries import ask_versions

log = structlog.get_logger()

_REFRESH_SECONDS = 86400.0
"""How often versions that stay are saved again: the event log forgets what was seen long ago."""


class MarkerQueries:
    """The queries of `markers`: each tick reads what the one before has asked, and asks again."""

    def __init__(
        self,
        entries: Sequence[MarkerSettings],
        client: PrometheusClient,
        grouping: Grouping,
        events: EventLog,
        metrics: DetectorMetrics,
        rule: MarkerRule,
        log: Any,
    ) -> None:
        self._events, self._metrics, self._rule, self._log = events, metrics, rule, log
        self._failing: set[str] = set()
        self._book = MarkerBook()
        self._asked = {
            entry.name: SideQuery(
                entry.query, lambda query, at: ask_versions(client, query, at, grouping)
            )
            for entry in entries
        }
        self._newest: list[Marker] = []
        self._index = MarkerIndex()
        self._saved_at: dict[str, float] = {}
        self._resume()
        metrics.show_marker_queries(self._asked)

    def _resume(self) -> None:
        """Continue from the event log."""
        try:
            self._book.resume(self._events.read_versions())
            self._newest = self._events.find_markers()
        except DataError as error:
            self._log.error("could not restore markers", error=str(error))
        self._show_newest()

    def follow(self, at: float) -> None:
        """Record what has been deployed, and ask what there is at a time, in unix seconds."""
        for name, asked in self._asked.items():
            try:
                found = asked.read()
            except PrometheusError as error:
                self._report_failure(name, error)
            else:
                if found is not None:
                    self._enter(name, *found)
            asked.begin(at)

    def _enter(self, name: str, at: float, versions: Versions) -> None:
        if name in self._failing:
            self._failing.remove(name)
            self._log.info("marker query answered again", marker=name)
        markers, changed = self._book.follow(name, at, versions)
        if at - self._saved_at.get(name, -inf) >= _REFRESH_SECONDS:
            changed, self._saved_at[name] = self._book.find_known(name, versions), at
        if not changed:
            return
        for title, count in Counter(marker.title for marker in markers).items():
            self._log.info("marker", version=title, changes=count)
        if markers:
            self._newest = [*markers, *self._newest][:MOST_MARKERS]
            self._show_newest()
        try:
            self._events.record_markers(name, at, markers, changed)
        except DataError as error:
            self._metrics.count_event_log_failure()
            self._log.error("markers not saved", error=str(error))

    def _report_failure(self, name: str, error: PrometheusError) -> None:
        self._metrics.count_marker_failure(name)
        if name not in self._failing:
            self._failing.add(name)
            self._log.warning(
                "marker query failed", marker=name, reason=error.reason, error=str(error)
            )

    def _show_newest(self) -> None:
        """Expose when each of the newest versions was deployed last: a rollback comes again."""
        self._index = MarkerIndex(self._newest)
        times: dict[tuple[str, str], float] = {}
        for marker in self._newest:
            times.setdefault((marker.name, marker.version), marker.at)
        self._metrics.show_markers(times)

    def find_title(self, group: Labels, start: float) -> str | None:
        """The marker that an event of a group names; None if none is near."""
        marker = self._index.find(group, start, self._rule)
        return None if marker is None else marker.title


def name_marker(markers: MarkerQueries | None, event: AnomalyEvent) -> dict[str, str]:
    """A field for a log line about an event; none if no marker is near."""
    title = None if markers is None else markers.find_title(event.labels, event.start)
    return {} if title is None else {"marker": title}


def make_marker_rule(config: Config) -> MarkerRule:
    """Which markers events name."""
    within = {entry.name: entry.within for entry in config.markers}
    interval = config.real_time_anomaly_detection.query_interval_seconds
    return MarkerRule(within, max(interval, config.data_settings.step))


def make_marker_queries(
    config: Config, client: PrometheusClient, events: EventLog, metrics: DetectorMetrics
) -> MarkerQueries | None:
    """The queries of a configuration; None if there are none."""
    if not config.markers:
        return None
    own = log.bind(detector=config.name)
    rule, grouping = make_marker_rule(config), Grouping.of(config)
    return MarkerQueries(config.markers, client, grouping, events, metrics, rule, own)

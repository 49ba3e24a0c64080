"""`ServerLog`: what is logged about the server and its queries, once per outage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from promad.config.durations import format_duration, format_instant
from promad.errors import PrometheusError
from promad.prometheus.server_clock import find_clock_difference
from promad.prometheus.server_faults import find_server_fault, group_by_fault

_MOST_NAMES = 5


class ServerLog:
    """Remembers what was logged of failures and of the server's clock, and logs what is new.

    A fault of the server is one line for all queries that it hits; a query's own failure is a line
    of its own.
    """

    def __init__(self, log: Any, server: str) -> None:
        self._log = log
        self._server = server
        self._failing: frozenset[str] = frozenset()
        self._since: float | None = None
        self._most_hit = 0
        self._reasons: set[str] = set()
        self._clock_differs = False

    def report_failures(
        self, failures: Mapping[str, PrometheusError], queries: int, now: float
    ) -> None:
        """Log what began or ended with a poll of so many queries; `now` in unix seconds."""
        fault, hit = find_server_fault(failures, queries)
        if fault is not None:
            self._report_fault(fault, len(hit), now)
        elif self._since is not None:
            self._report_recovery(self._since, now)
        own = {alias: error for alias, error in failures.items() if alias not in hit}
        self._report_queries(own)
        recovered = self._failing - failures.keys()
        for alias in sorted(recovered):
            self._log.info("query answered again", query=alias)
        self._failing = self._failing - recovered | own.keys()

    def report_clock(self, offset: float | None, limit: float) -> None:
        """Log it once if the server's clock is ahead or behind by more seconds than the limit."""
        difference = find_clock_difference(offset, limit / 2 if self._clock_differs else limit)
        if difference and not self._clock_differs:
            self._log.warning(
                "server clock differs; synchronise both clocks",
                server=self._server,
                difference=f"{difference} this machine",
                latency_offset=format_duration(limit),
            )
        self._clock_differs = bool(difference)

    def _report_fault(self, fault: PrometheusError, hit: int, now: float) -> None:
        self._since = now if self._since is None else self._since
        self._most_hit = max(self._most_hit, hit)
        if fault.reason in self._reasons:
            return
        self._reasons.add(fault.reason)
        self._log.warning(
            "query failed",
            server=self._server,
            queries=hit,
            since=format_instant(self._since),
            reason=fault.reason,
            error=fault.fault,
        )

    def _report_recovery(self, since: float, now: float) -> None:
        self._log.info(
            "query answered again",
            server=self._server,
            queries=self._most_hit,
            since=format_instant(since),
            lasted=format_duration(round(now - since)),
        )
        self._since, self._most_hit = None, 0
        self._reasons.clear()

    def _report_queries(self, own: Mapping[str, PrometheusError]) -> None:
        new = {alias: error for alias, error in own.items() if alias not in self._failing}
        for aliases in group_by_fault(new):
            error, more = new[aliases[0]], len(aliases) - _MOST_NAMES
            names = ", ".join(aliases[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
            shown = str(error) if len(aliases) == 1 else error.fault
            self._log.warning("query failed", query=names, reason=error.reason, error=shown)

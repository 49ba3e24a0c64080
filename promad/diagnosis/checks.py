"""The table of all checks, and how they are run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from promad.diagnosis import bundles, history, host, queries, server
from promad.diagnosis.evidence import Evidence
from promad.diagnosis.findings import Fact, Finding, Outcome, Yield


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        area: what it is about.
        needs: the part of the evidence that it looks at.
        find: from that part to findings and facts.
    """

    area: str
    needs: str
    find: Callable[[Any], Yield]


CHECKS: Mapping[str, Check] = {
    "lost_text": Check("queries", "queries", queries.find_lost_parts),
    "unknown_promql": Check("queries", "queries", queries.find_unknown_promql),
    "counter_without_rate": Check("queries", "queries", queries.find_raw_counters),
    "gauge_through_rate": Check("queries", "measured", queries.find_gauges_through_rate),
    "short_range": Check("queries", "queries", queries.find_short_ranges),
    "step_below_scrape_interval": Check("queries", "measured", queries.find_short_steps),
    "time_shift": Check("queries", "queries", queries.find_time_shifts),
    "failing_query": Check("server", "server", server.find_failing_queries),
    "latency_offset": Check("server", "answers", server.find_wrong_latency),
    "clock_skew": Check("server", "answers", server.find_clock_skew),
    "honor_labels": Check("server", "answers", server.find_renamed_labels),
    "refused_groups": Check("server", "answers", server.find_refused_groups),
    "series": Check("server", "answers", server.find_series),
    "query_cost": Check("server", "answers", server.find_query_costs),
    "tick_time": Check("server", "answers", server.find_slow_ticks),
    "memory": Check("server", "answers", server.find_memory),
    "constant_feature": Check("data", "history", history.find_constant_features),
    "duplicate_feature": Check("data", "history", history.find_duplicate_features),
    "collinear_feature": Check("data", "history", history.find_collinear_features),
    "missing_feature": Check("data", "history", history.find_missing_features),
    "gaps": Check("data", "history", history.find_gaps),
    "damaged_bundle": Check("bundle", "bundle", bundles.find_damage),
    "bundle_misfit": Check("bundle", "bundle", bundles.find_misfit),
    "bundle_age": Check("bundle", "bundle", bundles.find_age),
    "drift": Check("bundle", "drift", bundles.find_drift),
    "alert_budget": Check("bundle", "budget", bundles.find_excess),
    "artifacts_dir": Check("files", "host", host.find_unwritable_directory),
    "unreadable_secret": Check("files", "host", host.find_unreadable_secrets),
    "exposed_secret": Check("files", "host", host.find_exposed_secrets),
    "disk_space": Check("files", "host", host.find_full_disk),
}
"""Every check by its name, in the order of the report."""


def run_checks(evidence: Evidence) -> list[Outcome]:
    """What each check has found."""
    return [_run(name, check, getattr(evidence, check.needs)) for name, check in CHECKS.items()]


def _run(name: str, check: Check, part: object) -> Outcome:
    if isinstance(part, str):
        return Outcome(name, check.area, not_checked=part)
    found = list(check.find(part))
    return Outcome(
        name,
        check.area,
        tuple(each for each in found if isinstance(each, Finding)),
        tuple(each for each in found if isinstance(each, Fact)),
    )

"""What `promad check-config --online` finds for a configuration with `group_by`, line by line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from promad.cli.output import format_count
from promad.config import Config
from promad.config.durations import format_duration

if TYPE_CHECKING:
    from promad.prometheus.groups.checking import GroupCheck


def format_group_checks(checks: Sequence[GroupCheck]) -> Iterator[str]:
    """A line for a fault of the server, then one for each query that it does not hit."""
    from promad.prometheus.groups.checking import name_groups
    from promad.prometheus.server_faults import find_server_fault

    failures = {check.alias: check.failure for check in checks if check.failure is not None}
    fault, hit = find_server_fault(failures, len(checks))
    if fault is not None:
        yield f"  {fault.fault} ({format_count(len(hit), 'query', 'queries')})"
    for check in checks:
        if check.alias in hit:
            continue
        if check.problem is not None:
            yield f"  {check.alias}: {check.problem.removeprefix(f'query {check.alias}: ')}"
            continue
        age = format_duration(round(check.newest_age_seconds or 0))
        dropped = f", {check.dropped} dropped" if check.dropped else ""
        yield (
            f"  {check.alias}: {format_count(len(check.groups), 'group')}, {check.series} "
            f"series{dropped}, newest sample {age} old"
        )
        if check.lacking:
            count = format_count(len(check.lacking), "group")
            lack = "lacks" if len(check.lacking) == 1 else "lack"
            yield f"  {check.alias}: {count} {lack} it: {name_groups(check.lacking)}"


def format_prediction(config: Config, found: int) -> str:
    """How many groups and series there will be, and how much memory they take, in one line."""
    from promad.diagnosis.online import estimate_memory, predict_fleet_series

    groups = min(found, config.max_groups)
    series = predict_fleet_series(config, groups)
    return (
        f"  expected: {format_count(groups, 'group')} of "
        f"{format_count(len(config.queries), 'feature')}, up to {series.total} series "
        f"({series.groups} about groups, {series.features} about features), about "
        f"{estimate_memory(config, groups, series.total) / 1e6:.0f} MB of memory in detect"
    )

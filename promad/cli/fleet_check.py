"""What `promad check-config --online` finds for a configuration with `group_by`, line by line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from promad.cli.output import format_count
from promad.config import Config
from promad.config.durations import format_duration

if TYPE_CHECKING:
    from promad.prometheus.client import PrometheusClient
    from promad.prometheus.groups.checking import GroupCheck
    from promad.prometheus.sample_gaps import CheckLimits

_BASE_BYTES = 95e6
_DETAILED_GROUPS = 64
_SERIES_BYTES = 300
_HISTORY_BYTES = 9
_DETAIL_BYTES = 24
_SPARE_SAMPLES = 50


def check_groups(
    client: PrometheusClient, config: Config, limits: CheckLimits, at: float
) -> list[GroupCheck]:
    """A check of each query at `at`, in unix seconds."""
    from promad.data.groups import Grouping
    from promad.prometheus.groups.checking import GroupCheckOptions, inspect_groups

    options = GroupCheckOptions(
        queries=config.promql,
        grouping=Grouping.of(config),
        step=config.data_settings.step,
        limits=limits,
        max_groups=config.max_groups,
    )
    return inspect_groups(client, options, at)


def check_labels(client: PrometheusClient, config: Config, at: float) -> list[str]:
    """A line for each label of groups that Prometheus stores under another name."""
    from promad.exposition.names import STATE
    from promad.prometheus.hidden_labels import find_hidden_labels

    metric = STATE.full_name(config.real_time_anomaly_detection.metrics_prefix)
    return find_hidden_labels(client, metric, config.name, config.group_by, at)


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


def find_refused(config: Config, groups: int) -> str | None:
    """What to do if there are more groups than `max_groups`, in one line."""
    if groups <= config.max_groups:
        return None
    return (
        f"max_groups: the queries return {groups} groups, {groups - config.max_groups} more than "
        f"max_groups ({config.max_groups}), which are not monitored — raise max_groups, or drop "
        "groups with group_relabel_configs"
    )


def format_prediction(config: Config, found: int) -> str:
    """How many groups and series there will be, and how much memory they take, in one line."""
    from promad.exposition.prediction import predict_series

    groups = min(found, config.max_groups)
    live = config.real_time_anomaly_detection
    series = predict_series(groups, config.scored, live.max_feature_series)
    return (
        f"  expected: {format_count(groups, 'group')} of "
        f"{format_count(len(config.queries), 'feature')}, up to {series.total} series "
        f"({series.groups} about groups, {series.features} about features), about "
        f"{estimate_memory(config, groups, series.total) / 1e6:.0f} MB of memory in detect"
    )


def estimate_memory(config: Config, groups: int, series: int) -> float:
    """Bytes: of samples, history and metrics, beside those of the program itself."""
    features, kept = len(config.queries), config.real_time_anomaly_detection.history_samples
    samples = 2 * config.training_settings.sequence_length + _SPARE_SAMPLES
    detailed = min(groups, _DETAILED_GROUPS) * kept * features * _DETAIL_BYTES
    history = groups * kept * _HISTORY_BYTES + detailed
    return _BASE_BYTES + groups * features * samples * 8 + history + series * _SERIES_BYTES

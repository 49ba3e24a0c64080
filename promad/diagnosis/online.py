"""What `check-config --online` and `doctor --online` both ask the server and conclude from it."""

from __future__ import annotations

from promad.config import Config, format_duration
from promad.data.groups import Grouping
from promad.exposition.names import STATE
from promad.exposition.prediction import SeriesPrediction, predict_series
from promad.prometheus.checking import LatencyCheck
from promad.prometheus.client import PrometheusClient
from promad.prometheus.groups.checking import GroupCheck, GroupCheckOptions, inspect_groups
from promad.prometheus.hidden_labels import find_hidden_labels
from promad.prometheus.sample_gaps import CheckLimits

_BASE_BYTES = 95e6
_DETAILED_GROUPS = 64
_SERIES_BYTES = 300
_HISTORY_BYTES = 9
_DETAIL_BYTES = 24
_SPARE_SAMPLES = 50


def choose_limits(config: Config, latency_offset: float) -> CheckLimits:
    """What `detect` and `preprocess` require of the samples of a query."""
    live = config.real_time_anomaly_detection
    return CheckLimits(
        stale_after=live.stale_after,
        max_fill_steps=config.preprocessing_settings.max_fill_steps,
        length=config.training_settings.sequence_length,
        latency_offset=latency_offset,
    )


def describe_repetition(latency: LatencyCheck) -> str:
    """For how long the server repeats values, in words."""
    return f"the server repeats values for its newest {format_duration(latency.repeated or 0)}"


def find_latency_problem(latency: LatencyCheck) -> str:
    """What to do if the newest samples are not final at the offset; empty if they are."""
    if not latency.is_too_short:
        return ""
    offset = format_duration(latency.offset)
    return f"is {offset}, but {describe_repetition(latency)} — set latency_offset: auto"


def check_groups(
    client: PrometheusClient, config: Config, limits: CheckLimits, at: float
) -> list[GroupCheck]:
    """A check of each query at `at`, in unix seconds."""
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
    metric = STATE.full_name(config.real_time_anomaly_detection.metrics_prefix)
    return find_hidden_labels(client, metric, config.name, config.group_by, at)


def find_refused(config: Config, groups: int) -> str | None:
    """What to do if there are more groups than `max_groups`, in one line."""
    if groups <= config.max_groups:
        return None
    return (
        f"max_groups: the queries return {groups} groups, {groups - config.max_groups} more than "
        f"max_groups ({config.max_groups}), which are not monitored — raise max_groups, or drop "
        "groups with group_relabel_configs"
    )


def predict_fleet_series(config: Config, groups: int) -> SeriesPrediction:
    """How many series there are of so many groups, at most."""
    most = config.real_time_anomaly_detection.max_feature_series
    return predict_series(groups, config.scored, most, mutes=bool(config.mute))


def estimate_memory(config: Config, groups: int, series: int) -> float:
    """Bytes: of samples, history and metrics, beside those of the program itself."""
    features, kept = len(config.queries), config.real_time_anomaly_detection.history_samples
    samples = 2 * config.training_settings.sequence_length + _SPARE_SAMPLES
    detailed = min(groups, _DETAILED_GROUPS) * kept * features * _DETAIL_BYTES
    history = groups * kept * _HISTORY_BYTES + detailed
    return _BASE_BYTES + groups * features * samples * 8 + history + series * _SERIES_BYTES

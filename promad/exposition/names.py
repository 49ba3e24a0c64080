"""Every metric that promad exposes: its name, type, labels, HELP text, and when it is absent.

The collectors, the rules and dashboards of `mixin`, and docs/metrics.md take names from here alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class Subject(StrEnum):
    """What one series of a metric is about. It decides the prefix and the common labels.

    A group's series carry `metrics_prefix` and the labels of the group. Series of groups and
    detectors carry the label `detector`, the name of the detector.
    """

    GROUP = "group"
    DETECTOR = "detector"
    PROCESS = "process"


class MetricType(StrEnum):
    """Prometheus's type of a metric."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


@dataclass(frozen=True)
class MetricSpec:
    """One metric.

    Attributes:
        name: its whole name; of a metric about groups, the part after `metrics_prefix`.
        meaning: what its value is, as a sentence.
        absent: when it has no series, to complete "Absent ..."; empty if it always has one.
        labels: those of its own, besides those that follow from `subject`.
        subject: what one series is about.
        type: a counter's name ends in `_total`.
    """

    name: str
    meaning: str
    absent: str = ""
    labels: tuple[str, ...] = ()
    subject: Subject = Subject.GROUP
    type: MetricType = MetricType.GAUGE

    @property
    def help(self) -> str:
        """Its HELP text."""
        return f"{self.meaning} Absent {self.absent}." if self.absent else self.meaning

    @property
    def bucket(self) -> MetricSpec:
        """The bucket series of a histogram."""
        return replace(self, name=f"{self.name}_bucket")

    @property
    def count(self) -> MetricSpec:
        """The count series of a histogram."""
        return replace(self, name=f"{self.name}_count")

    def full_name(self, metrics_prefix: str) -> str:
        """Its whole name in a daemon whose metrics about groups begin with `metrics_prefix`.

        >>> SCORE.full_name("my_"), POLLS.full_name("my_")
        ('my_score', 'promad_polls_total')
        """
        return metrics_prefix + self.name if self.subject is Subject.GROUP else self.name


_WITHOUT_SCORE = "while warming or blind"

SCORE = MetricSpec(
    "score",
    "Score of the newest sample divided by the threshold; above 1 is anomalous.",
    _WITHOUT_SCORE,
)
THRESHOLD = MetricSpec("threshold", "Threshold of the score, in the unit of the score.")
RECONSTRUCTION_ERROR = MetricSpec(
    "latest_reconstruction_error_mse",
    "Mean squared reconstruction error of the newest window, in scaled units.",
    _WITHOUT_SCORE,
)
THRESHOLD_MSE = MetricSpec(
    "threshold_mse",
    "Threshold of the reconstruction error, in scaled units.",
    "unless `scoring` is `mse`, and while warming or blind",
)
KNOWN_FEATURES = MetricSpec(
    "known_features_ratio",
    "Share of the features that the newest score is computed from, 0 to 1. Filled values count as "
    "missing.",
    _WITHOUT_SCORE,
)
ANOMALOUS_SINCE = MetricSpec(
    "anomalous_since_timestamp_seconds",
    "Start of the open event, in unix seconds.",
    "while no event is open, and while warming or blind",
)
IS_ANOMALY = MetricSpec(
    "is_anomaly_detected",
    "1 while an event is open, 0 while none is.",
    f"{_WITHOUT_SCORE}, and while an event is open in a muted group",
)
MUTED = MetricSpec(
    "muted",
    "1 while the group is muted, so that alerts about its events do not fire, else 0.",
    "without `mute`",
)
EVENTS = MetricSpec(
    "total_anomalies_count_total",
    "Anomaly events that have begun.",
    type=MetricType.COUNTER,
)
STATE = MetricSpec(
    "state", "1 for the current state of the group, 0 for the other states.", labels=("state",)
)
LAST_SCORED = MetricSpec(
    "last_successful_run_timestamp_seconds",
    "Time of the newest sample with a score, in unix seconds.",
    "before the first score",
)
WINDOW_SAMPLES = MetricSpec(
    "data_points_in_current_window",
    "Consecutive complete samples up to now, at most the length of a window.",
)

_FEATURE = ("feature_name",)

FEATURE_ERROR = MetricSpec(
    "feature_reconstruction_error_mse",
    "Mean squared reconstruction error of the feature, in scaled units.",
    _WITHOUT_SCORE,
    _FEATURE,
)
FEATURE_CONTRIBUTION = MetricSpec(
    "feature_contribution_ratio",
    "Share of the deviation that the feature contributes, 0 to 1; the shares sum to 1.",
    _WITHOUT_SCORE,
    _FEATURE,
)
FEATURE_ELEVATION = MetricSpec(
    "feature_elevation_ratio",
    "Error of the feature divided by its baseline, the 95th percentile in training; above 1 the "
    "feature deviates.",
    _WITHOUT_SCORE,
    _FEATURE,
)
FEATURE_DEVIATING_SINCE = MetricSpec(
    "feature_deviating_since_timestamp_seconds",
    "Start of the uninterrupted deviation of the feature, in unix seconds.",
    "while the feature does not deviate, and while warming or blind",
    _FEATURE,
)
FEATURE_OBSERVED = MetricSpec(
    "feature_observed_value",
    "Newest value of the feature, in its own unit.",
    "while the feature has no current sample, and while warming or blind",
    _FEATURE,
)
FEATURE_EXPECTED = MetricSpec(
    "feature_expected_value",
    "Value that the model expects for the newest sample, in the unit of the feature.",
    _WITHOUT_SCORE,
    _FEATURE,
)

_WITHOUT_DEVIATION = "while the feature does not deviate, and while warming or blind"
FEATURE_LARGEST_AT = MetricSpec(
    "feature_largest_deviation_timestamp_seconds",
    "Time of the sample at which the feature deviated most, in its event if one is open, in unix "
    "seconds.",
    _WITHOUT_DEVIATION,
    _FEATURE,
)
FEATURE_LARGEST_OBSERVED = MetricSpec(
    "feature_largest_deviation_observed_value",
    "Value of the feature when it deviated most, in its own unit.",
    _WITHOUT_DEVIATION,
    _FEATURE,
)
FEATURE_LARGEST_EXPECTED = MetricSpec(
    "feature_largest_deviation_expected_value",
    "Value that the model expected when the feature deviated most, in the unit of the feature.",
    _WITHOUT_DEVIATION,
    _FEATURE,
)
FEATURE_LARGEST_ELEVATION = MetricSpec(
    "feature_largest_deviation_elevation_ratio",
    "Error of the feature when it deviated most, divided by its baseline.",
    _WITHOUT_DEVIATION,
    _FEATURE,
)

_WITHOUT_GROUPS = "without `group_by`"
_WITHOUT_INCIDENT = (
    "while no incident is open that is not muted, and while the scope has no group with a score"
)

GROUP_INFO = MetricSpec(
    "group_info",
    "Always 1; `calibration` is `own`, or `pooled` for a group that is calibrated by others.",
    _WITHOUT_GROUPS,
    ("calibration",),
)
INCIDENT_OPEN = MetricSpec(
    "incident_open",
    "Number of open incidents that are not muted.",
    "without `group_by`, and while the scope has no group with a score",
)
INCIDENT_MUTED = MetricSpec(
    "incident_muted",
    "Number of open incidents that are muted, as each of their groups with an open event is.",
    "without `mute`, without `group_by`, and while the scope has no group with a score",
)
INCIDENT_GROUPS = MetricSpec(
    "incident_groups", "Groups with an open event in the open incidents.", _WITHOUT_INCIDENT
)
INCIDENT_GROUPS_SHARE = MetricSpec(
    "incident_groups_share",
    "Share of the watched groups that have an open event in the open incidents, 0 to 1.",
    _WITHOUT_INCIDENT,
)
INCIDENT_SINCE = MetricSpec(
    "incident_since_timestamp_seconds",
    "Start of the open incident, in unix seconds; of several, of the one with the most groups.",
    _WITHOUT_INCIDENT,
)
INCIDENT_FEATURE_SHARE = MetricSpec(
    "incident_feature_share",
    "Share of the deviation that the feature contributes over all groups of the open incidents, 0 "
    "to 1; the shares sum to 1.",
    _WITHOUT_INCIDENT,
    _FEATURE,
)
INCIDENT_FIRST_GROUP = MetricSpec(
    "incident_first_group_info",
    "Always 1; the labels are those of the first group of the open incident; of several, of the "
    "one with the most groups.",
    _WITHOUT_INCIDENT,
)
INCIDENT_COMMON_LABELS = MetricSpec(
    "incident_common_labels_info",
    "Always 1; besides those of the scope, the labels are those that all groups of the open "
    "incident have in common, but not all watched groups; of several incidents, of the one with "
    "the most groups.",
    f"without such labels, {_WITHOUT_INCIDENT}",
)
INCIDENTS = MetricSpec(
    "incidents_total",
    "Incidents that have begun.",
    _WITHOUT_GROUPS,
    type=MetricType.COUNTER,
)

INCIDENT_METRICS = (
    INCIDENT_OPEN,
    INCIDENT_MUTED,
    INCIDENT_GROUPS,
    INCIDENT_GROUPS_SHARE,
    INCIDENT_SINCE,
    INCIDENT_FEATURE_SHARE,
    INCIDENT_FIRST_GROUP,
    INCIDENT_COMMON_LABELS,
    INCIDENTS,
)
"""Metrics about the incidents of each scope, with the labels of the scope."""

GROUP_METRICS = (
    SCORE,
    THRESHOLD,
    RECONSTRUCTION_ERROR,
    THRESHOLD_MSE,
    KNOWN_FEATURES,
    ANOMALOUS_SINCE,
    IS_ANOMALY,
    MUTED,
    EVENTS,
    STATE,
    LAST_SCORED,
    WINDOW_SAMPLES,
    FEATURE_ERROR,
    FEATURE_CONTRIBUTION,
    FEATURE_ELEVATION,
    FEATURE_DEVIATING_SINCE,
    FEATURE_OBSERVED,
    FEATURE_EXPECTED,
    FEATURE_LARGEST_AT,
    FEATURE_LARGEST_OBSERVED,
    FEATURE_LARGEST_EXPECTED,
    FEATURE_LARGEST_ELEVATION,
    GROUP_INFO,
)
"""Metrics about groups; their names begin with `metrics_prefix`."""


def _gauge(
    name: str, meaning: str, absent: str = "", *, labels: tuple[str, ...] = ()
) -> MetricSpec:
    return MetricSpec(name, meaning, absent, labels, Subject.DETECTOR)


def _counter(
    name: str, meaning: str, absent: str = "", *, labels: tuple[str, ...] = ()
) -> MetricSpec:
    return MetricSpec(name, meaning, absent, labels, Subject.DETECTOR, MetricType.COUNTER)


MODEL_INFO = _gauge(
    "promad_model_info",
    "Always 1; the labels name the model and the bundle in use.",
    labels=("model", "bundle"),
)
MODEL_TRAINED = _gauge(
    "promad_model_trained_timestamp_seconds",
    "Time at which the bundle in use was trained, in unix seconds.",
)
EXPECTED_FALSE_ALARMS = _gauge(
    "promad_expected_false_alarms_per_week",
    "Events per week that the threshold is expected to cause on normal data.",
    "if unknown, as with a fixed threshold",
)
EXPECTED_FALSE_ALARMS_BOUND = _gauge(
    "promad_expected_false_alarms_per_week_bound",
    "Bounds of the 90 % confidence interval of the expected events per week, `low` and `high`.",
    "if unknown, as with a fixed threshold",
    labels=("bound",),
)
THRESHOLD_ADAPTED = _counter(
    "promad_threshold_adapted_total",
    "Times that the threshold was raised because events far exceeded the alert budget.",
)
POLLS = _counter("promad_polls_total", "Polls of the Prometheus server.")
POLL_FAILURES = _counter(
    "promad_poll_failures_total",
    "Polls with a failed query, by the reason of the first failure.",
    labels=("reason",),
)
QUERY_UP = _gauge(
    "promad_query_up",
    "1 if the query succeeded in the last poll, else 0.",
    "before the first poll",
    labels=("query",),
)
QUERY_FAILURES = _counter(
    "promad_query_failures_total",
    "Failures of the query.",
    "before the first poll",
    labels=("query",),
)
MUTE_QUERY_FAILURES = _counter(
    "promad_mute_query_failures_total",
    "Failures of a query in `mute`, which then mutes nothing.",
    "without a query in `mute`",
    labels=("mute",),
)
MARKER_AT = _gauge(
    "promad_marker_timestamp_seconds",
    "Time at which the version was last deployed, in unix seconds; of the newest 20 versions.",
    "before a query in `markers` has changed",
    labels=("marker", "version"),
)
MARKER_QUERY_FAILURES = _counter(
    "promad_marker_query_failures_total",
    "Failures of a query in `markers`.",
    "without `markers`",
    labels=("marker",),
)
SAMPLE_AGE = _gauge(
    "promad_sample_age_seconds",
    "Age, at the last poll, of the newest sample of the feature that is furthest behind.",
    "before the first poll",
)
TICKS_SKIPPED = _counter(
    "promad_ticks_skipped_total", "Ticks skipped because the previous tick took too long."
)
TICK_FAILURES = _counter("promad_tick_failures_total", "Ticks that ended in an unexpected error.")
EVENT_LOG_FAILURES = _counter("promad_event_log_failures_total", "Failed writes to the event log.")
TICK_DURATION = MetricSpec(
    "promad_tick_duration_seconds",
    "Duration of a tick: poll, score and judge.",
    subject=Subject.DETECTOR,
    type=MetricType.HISTOGRAM,
)

_WITHOUT_RECEIVER = "without `--web.enable-remote-write-receiver`"

RECEIVED_SAMPLES = _counter(
    "promad_remote_write_samples_total",
    "Samples that were received by remote write and used.",
    _WITHOUT_RECEIVER,
)
RECEIVED_NEWEST = _gauge(
    "promad_remote_write_newest_sample_timestamp_seconds",
    "Time of the newest sample that was received by remote write, in unix seconds.",
    f"before the first one, and {_WITHOUT_RECEIVER}",
)
CATCH_UPS = _counter(
    "promad_remote_write_catch_ups_total",
    "Times that samples which had not been received were queried, by result: `success` or "
    "`failure`.",
    _WITHOUT_RECEIVER,
    labels=("result",),
)

GROUPS = _gauge("promad_groups", "Groups in the state.", _WITHOUT_GROUPS, labels=("state",))
GROUPS_REFUSED = _gauge(
    "promad_groups_refused",
    "Groups that are not watched, because `max_groups` are watched already.",
    _WITHOUT_GROUPS,
)
FEATURE_SERIES_LEFT_OUT = _gauge(
    "promad_feature_series_left_out",
    "Series about single features that are not exposed, because of `max_feature_series`.",
    _WITHOUT_GROUPS,
)

DETECTOR_METRICS = (
    MODEL_INFO,
    MODEL_TRAINED,
    EXPECTED_FALSE_ALARMS,
    EXPECTED_FALSE_ALARMS_BOUND,
    THRESHOLD_ADAPTED,
    POLLS,
    POLL_FAILURES,
    QUERY_UP,
    QUERY_FAILURES,
    MUTE_QUERY_FAILURES,
    MARKER_AT,
    MARKER_QUERY_FAILURES,
    SAMPLE_AGE,
    TICKS_SKIPPED,
    TICK_FAILURES,
    EVENT_LOG_FAILURES,
    TICK_DURATION,
    RECEIVED_SAMPLES,
    RECEIVED_NEWEST,
    CATCH_UPS,
    GROUPS,
    GROUPS_REFUSED,
    FEATURE_SERIES_LEFT_OUT,
)
"""Metrics about the work of each detector."""

BUILD_INFO = MetricSpec(
    "promad_build_info",
    "Always 1; the labels name the versions of promad and Python.",
    labels=("version", "python_version"),
    subject=Subject.PROCESS,
)
SHARD_INFO = MetricSpec(
    "promad_shard_info",
    "Always 1; the labels have the number of the daemon's shard, from 0, and how many there are.",
    "without --shard",
    labels=("shard", "shards"),
    subject=Subject.PROCESS,
)
SHARDS = MetricSpec(
    "promad_shards",
    "Number of shards among which the groups are shared out.",
    "without --shard",
    subject=Subject.PROCESS,
)
RELOAD_SUCCEEDED = MetricSpec(
    "promad_config_last_reload_successful",
    "1 if the configuration was loaded successfully the last time, else 0.",
    subject=Subject.PROCESS,
)
RELOADED_AT = MetricSpec(
    "promad_config_last_reload_success_timestamp_seconds",
    "Time at which the configuration in use was loaded, in unix seconds.",
    subject=Subject.PROCESS,
)
CONNECTIONS_CLOSED = MetricSpec(
    "promad_web_connections_closed_total",
    "HTTP connections that the server refused or closed early: `too_many` refused at the limit, "
    "`made_room` closed for a new one at the limit, `slow_request` and `slow_response` timed out, "
    "`tls_handshake` no TLS or no valid client certificate.",
    labels=("reason",),
    subject=Subject.PROCESS,
    type=MetricType.COUNTER,
)
REQUESTS_REFUSED = MetricSpec(
    "promad_web_requests_refused_total",
    "HTTP requests that the web configuration refused: `wrong_password`, `too_many_failures` of "
    "this client, `busy` verifying other passwords, `rate_limit` of all requests.",
    labels=("reason",),
    subject=Subject.PROCESS,
    type=MetricType.COUNTER,
)
WEB_CONFIG_SUCCEEDED = MetricSpec(
    "promad_web_config_last_reload_successful",
    "1 if the web configuration file and its certificates were loaded successfully the last time, "
    "else 0.",
    subject=Subject.PROCESS,
    absent="without `--web.config.file`",
)
WEB_CONFIG_LOADED_AT = MetricSpec(
    "promad_web_config_last_reload_success_timestamp_seconds",
    "Time at which the web configuration in use was loaded, in unix seconds.",
    subject=Subject.PROCESS,
    absent="without `--web.config.file`",
)
PEER_REQUESTS = MetricSpec(
    "promad_web_peer_requests_total",
    "Requests to the daemons in `web.peers`, for the page and the API, by URL and by result: "
    "`success`, or `failure` if the daemon did not respond as promad does.",
    labels=("url", "result"),
    subject=Subject.PROCESS,
    type=MetricType.COUNTER,
    absent="without `--shard` or `web.peers`",
)
RECEIVED_REQUESTS = MetricSpec(
    "promad_remote_write_requests_total",
    "Remote-write requests, by the status code of the response.",
    labels=("code",),
    subject=Subject.PROCESS,
    type=MetricType.COUNTER,
    absent=_WITHOUT_RECEIVER,
)
RECEIVED_UNUSED = MetricSpec(
    "promad_remote_write_unused_total",
    "What was received by remote write and not used: samples of an `unknown_series`, of an "
    "`invalid_series`, `too_old` or `in_future`; and each `histogram`, `exemplar` and `metadata`.",
    labels=("reason",),
    subject=Subject.PROCESS,
    type=MetricType.COUNTER,
    absent=_WITHOUT_RECEIVER,
)

PROCESS_METRICS = (
    *(BUILD_INFO, SHARD_INFO, SHARDS, RELOAD_SUCCEEDED, RELOADED_AT, CONNECTIONS_CLOSED),
    *(REQUESTS_REFUSED, WEB_CONFIG_SUCCEEDED, WEB_CONFIG_LOADED_AT, PEER_REQUESTS),
    *(RECEIVED_REQUESTS, RECEIVED_UNUSED),
)
"""Metrics about the daemon as a whole."""

METRICS = (*GROUP_METRICS, *INCIDENT_METRICS, *DETECTOR_METRICS, *PROCESS_METRICS)

"""The exposition, written out in full: this file documents the metrics that promad exposes."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from docs import metrics as reference
from promad.errors import PrometheusError
from promad.events.status import GroupStatus
from promad.exposition import (
    DaemonMetrics,
    PeerMetrics,
    ReceiverMetrics,
    Snapshot,
    SnapshotCollector,
    WebMetrics,
    collect_fleets,
    names,
)
from promad.exposition.names import MetricSpec, MetricType, Subject
from tests.support.fleet_snapshots import make_incident_snapshot
from tests.support.prometheus_server import require_binary
from tests.support.statuses import ANOMALOUS, BLIND, CPU, JUDGED, LOAD, OK, WARMING


def exposition(*statuses: GroupStatus, prefix: str = "anomaly_detector_") -> str:
    snapshots = [Snapshot(f"d{n}", prefix, (status,)) for n, status in enumerate(statuses)]
    return render(snapshots)


def render(snapshots: Sequence[Snapshot]) -> str:
    registry = CollectorRegistry()
    registry.register(SnapshotCollector(lambda: snapshots))
    return generate_latest(registry).decode()


def samples(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("#")]


ANOMALOUS_TEXT = """\
# HELP anomaly_detector_latest_reconstruction_error_mse Mean squared reconstruction error of the \
newest window, in scaled units. Absent while warming or blind.
# TYPE anomaly_detector_latest_reconstruction_error_mse gauge
anomaly_detector_latest_reconstruction_error_mse{detector="d0"} 0.2
# HELP anomaly_detector_is_anomaly_detected 1 while an event is open, 0 while none is. Absent \
while warming or blind, and while an event is open in a muted group.
# TYPE anomaly_detector_is_anomaly_detected gauge
anomaly_detector_is_anomaly_detected{detector="d0"} 1.0
# HELP anomaly_detector_muted 1 while the group is muted, so that alerts about its events do not \
fire, else 0. Absent without `mute`.
# TYPE anomaly_detector_muted gauge
# HELP anomaly_detector_score Score of the newest sample divided by the threshold; above 1 is \
anomalous. Absent while warming or blind.
# TYPE anomaly_detector_score gauge
anomaly_detector_score{detector="d0"} 2.0
# HELP anomaly_detector_threshold Threshold of the score, in the unit of the score.
# TYPE anomaly_detector_threshold gauge
anomaly_detector_threshold{detector="d0"} 3.0
# HELP anomaly_detector_threshold_mse Threshold of the reconstruction error, in scaled units. \
Absent unless `scoring` is `mse`, and while warming or blind.
# TYPE anomaly_detector_threshold_mse gauge
# HELP anomaly_detector_known_features_ratio Share of the features that the newest score is \
computed from, 0 to 1. Filled values count as missing. Absent while warming or blind.
# TYPE anomaly_detector_known_features_ratio gauge
anomaly_detector_known_features_ratio{detector="d0"} 0.5
# HELP anomaly_detector_anomalous_since_timestamp_seconds Start of the open event, in unix \
seconds. Absent while no event is open, and while warming or blind.
# TYPE anomaly_detector_anomalous_since_timestamp_seconds gauge
anomaly_detector_anomalous_since_timestamp_seconds{detector="d0"} 1.69999994e+09
# HELP anomaly_detector_last_successful_run_timestamp_seconds Time of the newest sample with a \
score, in unix seconds. Absent before the first score.
# TYPE anomaly_detector_last_successful_run_timestamp_seconds gauge
anomaly_detector_last_successful_run_timestamp_seconds{detector="d0"} 1.7e+09
# HELP anomaly_detector_data_points_in_current_window Consecutive complete samples up to now, at \
most the length of a window.
# TYPE anomaly_detector_data_points_in_current_window gauge
anomaly_detector_data_points_in_current_window{detector="d0"} 30.0
# HELP anomaly_detector_total_anomalies_count_total Anomaly events that have begun.
# TYPE anomaly_detector_total_anomalies_count_total counter
anomaly_detector_total_anomalies_count_total{detector="d0"} 3.0
# HELP anomaly_detector_state 1 for the current state of the group, 0 for the other states.
# TYPE anomaly_detector_state gauge
anomaly_detector_state{detector="d0",state="warming"} 0.0
anomaly_detector_state{detector="d0",state="ok"} 0.0
anomaly_detector_state{detector="d0",state="anomalous"} 1.0
anomaly_detector_state{detector="d0",state="blind"} 0.0
# HELP anomaly_detector_feature_reconstruction_error_mse Mean squared reconstruction error of the \
feature, in scaled units. Absent while warming or blind.
# TYPE anomaly_detector_feature_reconstruction_error_mse gauge
anomaly_detector_feature_reconstruction_error_mse{detector="d0",feature_name="cpu"} 0.3
anomaly_detector_feature_reconstruction_error_mse{detector="d0",feature_name="load"} 0.1
# HELP anomaly_detector_feature_contribution_ratio Share of the deviation that the feature \
contributes, 0 to 1; the shares sum to 1. Absent while warming or blind.
# TYPE anomaly_detector_feature_contribution_ratio gauge
anomaly_detector_feature_contribution_ratio{detector="d0",feature_name="cpu"} 0.75
anomaly_detector_feature_contribution_ratio{detector="d0",feature_name="load"} 0.25
# HELP anomaly_detector_feature_elevation_ratio Error of the feature divided by its baseline, the \
95th percentile in training; above 1 the feature deviates. Absent while warming or blind.
# TYPE anomaly_detector_feature_elevation_ratio gauge
anomaly_detector_feature_elevation_ratio{detector="d0",feature_name="cpu"} 2.5
anomaly_detector_feature_elevation_ratio{detector="d0",feature_name="load"} 0.5
# HELP anomaly_detector_feature_deviating_since_timestamp_seconds Start of the uninterrupted \
deviation of the feature, in unix seconds. Absent while the feature does not deviate, and while \
warming or blind.
# TYPE anomaly_detector_feature_deviating_since_timestamp_seconds gauge
anomaly_detector_feature_deviating_since_timestamp_seconds{detector="d0",\
feature_name="cpu"} 1.69999994e+09
# HELP anomaly_detector_feature_observed_value Newest value of the feature, in its own unit. \
Absent while the feature has no current sample, and while warming or blind.
# TYPE anomaly_detector_feature_observed_value gauge
anomaly_detector_feature_observed_value{detector="d0",feature_name="cpu"} 0.9
anomaly_detector_feature_observed_value{detector="d0",feature_name="load"} 4.0
# HELP anomaly_detector_feature_expected_value Value that the model expects for the newest sample, \
in the unit of the feature. Absent while warming or blind.
# TYPE anomaly_detector_feature_expected_value gauge
anomaly_detector_feature_expected_value{detector="d0",feature_name="cpu"} 0.25
anomaly_detector_feature_expected_value{detector="d0",feature_name="load"} 3.5
# HELP anomaly_detector_feature_largest_deviation_timestamp_seconds Time of the sample at which \
the feature deviated most, in its event if one is open, in unix seconds. Absent while the feature \
does not deviate, and while warming or blind.
# TYPE anomaly_detector_feature_largest_deviation_timestamp_seconds gauge
anomaly_detector_feature_largest_deviation_timestamp_seconds{detector="d0",feature_name="cpu"} \
1.69999997e+09
# HELP anomaly_detector_feature_largest_deviation_observed_value Value of the feature when it \
deviated most, in its own unit. Absent while the feature does not deviate, and while warming or \
blind.
# TYPE anomaly_detector_feature_largest_deviation_observed_value gauge
anomaly_detector_feature_largest_deviation_observed_value{detector="d0",feature_name="cpu"} 0.95
# HELP anomaly_detector_feature_largest_deviation_expected_value Value that the model expected \
when the feature deviated most, in the unit of the feature. Absent while the feature does not \
deviate, and while warming or blind.
# TYPE anomaly_detector_feature_largest_deviation_expected_value gauge
anomaly_detector_feature_largest_deviation_expected_value{detector="d0",feature_name="cpu"} 0.2
# HELP anomaly_detector_feature_largest_deviation_elevation_ratio Error of the feature when it \
deviated most, divided by its baseline. Absent while the feature does not deviate, and while \
warming or blind.
# TYPE anomaly_detector_feature_largest_deviation_elevation_ratio gauge
anomaly_detector_feature_largest_deviation_elevation_ratio{detector="d0",feature_name="cpu"} 40.0
"""

DAEMON_TEXT = """\
# HELP promad_threshold_adapted_total Times that the threshold was raised because events far \
exceeded the alert budget.
# TYPE promad_threshold_adapted_total counter
promad_threshold_adapted_total{detector="host"} 2.0
# HELP promad_polls_total Polls of the Prometheus server.
# TYPE promad_polls_total counter
promad_polls_total{detector="host"} 1.0
# HELP promad_poll_failures_total Polls with a failed query, by the reason of the first failure.
# TYPE promad_poll_failures_total counter
promad_poll_failures_total{detector="host",reason="unreachable"} 0.0
promad_poll_failures_total{detector="host",reason="timeout"} 1.0
promad_poll_failures_total{detector="host",reason="too_many_requests"} 0.0
promad_poll_failures_total{detector="host",reason="server_error"} 0.0
promad_poll_failures_total{detector="host",reason="bad_data"} 0.0
promad_poll_failures_total{detector="host",reason="bad_request"} 0.0
promad_poll_failures_total{detector="host",reason="execution"} 0.0
promad_poll_failures_total{detector="host",reason="unauthorized"} 0.0
promad_poll_failures_total{detector="host",reason="not_found"} 0.0
promad_poll_failures_total{detector="host",reason="redirect"} 0.0
promad_poll_failures_total{detector="host",reason="bad_answer"} 0.0
promad_poll_failures_total{detector="host",reason="partial"} 0.0
promad_poll_failures_total{detector="host",reason="several_series"} 0.0
promad_poll_failures_total{detector="host",reason="not_received"} 0.0
# HELP promad_query_failures_total Failures of the query. Absent before the first poll.
# TYPE promad_query_failures_total counter
promad_query_failures_total{detector="host",query="cpu"} 1.0
promad_query_failures_total{detector="host",query="load"} 0.0
# HELP promad_mute_query_failures_total Failures of a query in `mute`, which then mutes nothing. \
Absent without a query in `mute`.
# TYPE promad_mute_query_failures_total counter
# HELP promad_marker_query_failures_total Failures of a query in `markers`. Absent without \
`markers`.
# TYPE promad_marker_query_failures_total counter
# HELP promad_ticks_skipped_total Ticks skipped because the previous tick took too long.
# TYPE promad_ticks_skipped_total counter
promad_ticks_skipped_total{detector="host"} 2.0
# HELP promad_tick_failures_total Ticks that ended in an unexpected error.
# TYPE promad_tick_failures_total counter
promad_tick_failures_total{detector="host"} 1.0
# HELP promad_event_log_failures_total Failed writes to the event log.
# TYPE promad_event_log_failures_total counter
promad_event_log_failures_total{detector="host"} 0.0
# HELP promad_tick_duration_seconds Duration of a tick: poll, score and judge.
# TYPE promad_tick_duration_seconds histogram
promad_tick_duration_seconds_bucket{detector="host",le="0.005"} 0.0
promad_tick_duration_seconds_bucket{detector="host",le="0.01"} 1.0
promad_tick_duration_seconds_bucket{detector="host",le="0.025"} 1.0
promad_tick_duration_seconds_bucket{detector="host",le="0.05"} 1.0
promad_tick_duration_seconds_bucket{detector="host",le="0.1"} 1.0
promad_tick_duration_seconds_bucket{detector="host",le="0.25"} 1.0
promad_tick_duration_seconds_bucket{detector="host",le="0.5"} 1.0
promad_tick_duration_seconds_bucket{detector="host",le="1.0"} 1.0
promad_tick_duration_seconds_bucket{detector="host",le="2.5"} 1.0
promad_tick_duration_seconds_bucket{detector="host",le="5.0"} 1.0
promad_tick_duration_seconds_bucket{detector="host",le="10.0"} 1.0
promad_tick_duration_seconds_bucket{detector="host",le="30.0"} 1.0
promad_tick_duration_seconds_bucket{detector="host",le="+Inf"} 1.0
promad_tick_duration_seconds_count{detector="host"} 1.0
promad_tick_duration_seconds_sum{detector="host"} 0.0078125
# HELP promad_model_info Always 1; the labels name the model and the bundle in use.
# TYPE promad_model_info gauge
promad_model_info{bundle="20260101T000000Z-abc",detector="host",model="lstm_autoencoder"} 1.0
# HELP promad_model_trained_timestamp_seconds Time at which the bundle in use was trained, in unix \
seconds.
# TYPE promad_model_trained_timestamp_seconds gauge
promad_model_trained_timestamp_seconds{detector="host"} 1.7e+09
# HELP promad_expected_false_alarms_per_week Events per week that the threshold is expected to \
cause on normal data. Absent if unknown, as with a fixed threshold.
# TYPE promad_expected_false_alarms_per_week gauge
promad_expected_false_alarms_per_week{detector="host"} 1.0
# HELP promad_expected_false_alarms_per_week_bound Bounds of the 90 % confidence interval of the \
expected events per week, `low` and `high`. Absent if unknown, as with a fixed threshold.
# TYPE promad_expected_false_alarms_per_week_bound gauge
promad_expected_false_alarms_per_week_bound{bound="low",detector="host"} 0.25
promad_expected_false_alarms_per_week_bound{bound="high",detector="host"} 4.0
# HELP promad_query_up 1 if the query succeeded in the last poll, else 0. Absent before the first \
poll.
# TYPE promad_query_up gauge
promad_query_up{detector="host",query="cpu"} 0.0
promad_query_up{detector="host",query="load"} 1.0
# HELP promad_sample_age_seconds Age, at the last poll, of the newest sample of the feature that \
is furthest behind. Absent before the first poll.
# TYPE promad_sample_age_seconds gauge
promad_sample_age_seconds{detector="host"} 12.5
"""


@pytest.fixture
def daemon_registry() -> CollectorRegistry:
    """A daemon's metrics after one poll in which the query `cpu` timed out."""
    registry = CollectorRegistry()
    own = DaemonMetrics(registry).of("host")
    own.show_bundle("lstm_autoencoder", "20260101T000000Z-abc", 1.7e9)
    own.show_expected(1.0, (0.25, 4.0))
    own.count_adaptations(2)
    own.count_poll(["cpu", "load"], {"cpu": PrometheusError("too slow", "timeout")})
    own.show_sample_age(12.5)
    own.observe_tick(0.0078125)
    own.count_tick_failure()
    own.count_skipped(2)
    return registry


def test_what_is_not_known_yet_is_not_exposed() -> None:
    registry = CollectorRegistry()
    own = DaemonMetrics(registry).of("host")
    own.show_bundle("m", "b", 1.7e9)
    own.show_expected(None, None)
    text = generate_latest(registry).decode()
    assert 'promad_model_trained_timestamp_seconds{detector="host"} 1.7e+09' in text
    for unknown in ("sample_age_seconds", "expected_false_alarms_per_week", "query_up"):
        assert f"promad_{unknown}" not in text


def test_a_reload_withdraws_what_the_new_bundle_does_not_have() -> None:
    registry = CollectorRegistry()
    daemon = DaemonMetrics(registry)
    own = daemon.of("host")
    own.show_bundle("m", "old", 1.7e9)
    own.show_expected(1.0, (0.25, 4.0))
    own.count_poll(["cpu"], {})
    daemon.forget()
    own.show_bundle("m", "new", 1.8e9)
    own.show_expected(None, None)
    own.count_poll(["load"], {})
    text = generate_latest(registry).decode()
    assert "expected_false_alarms" not in text
    assert 'bundle="old"' not in text
    assert 'bundle="new"' in text
    assert 'promad_query_up{detector="host",query="cpu"}' not in text
    assert "promad_model_trained_timestamp_seconds" in text


def without_created(text: str) -> str:
    """The text as a daemon exposes it, which switches the `_created` series off."""
    lines = [line for line in text.splitlines(keepends=True) if "_created" not in line]
    return "".join(lines)


def test_an_anomalous_group_exposes_everything() -> None:
    assert exposition(ANOMALOUS) == ANOMALOUS_TEXT


def test_the_daemon_exposes_its_own_work(daemon_registry: CollectorRegistry) -> None:
    text = without_created(generate_latest(daemon_registry).decode())
    build, rest = (
        text[: text.index("# HELP promad_threshold_adapted_total")],
        text[text.index("# HELP promad_threshold_adapted_total") :],
    )
    assert "promad_build_info{" in build
    assert rest == DAEMON_TEXT


@pytest.mark.parametrize("status", [BLIND, WARMING])
def test_without_a_score_no_score_series_is_exposed(status: GroupStatus) -> None:
    exposed = {line.split("{")[0].split(" ")[0] for line in samples(exposition(status))}
    assert exposed - {"anomaly_detector_last_successful_run_timestamp_seconds"} == {
        "anomaly_detector_threshold",
        "anomaly_detector_data_points_in_current_window",
        "anomaly_detector_total_anomalies_count_total",
        "anomaly_detector_state",
    }


def test_only_the_plain_error_has_a_limit_of_its_own() -> None:
    plain = replace(OK, verdict=replace(OK.verdict, score=0.2, threshold=0.1, plain=True))
    text = samples(exposition(plain))
    values = {"latest_reconstruction_error_mse": 0.2, "threshold_mse": 0.1, "threshold": 0.1}
    for name, value in values.items():
        assert f'anomaly_detector_{name}{{detector="d0"}} {value}' in text


def test_a_quiet_group_is_flagged_0_even_while_its_score_flickers_above_1() -> None:
    text = exposition(OK)
    assert 'anomaly_detector_is_anomaly_detected{detector="d0"} 0.0\n' in text
    assert 'anomaly_detector_score{detector="d0"} 2.0\n' in text


def test_exactly_one_state_is_1() -> None:
    for status in (ANOMALOUS, OK, BLIND, WARMING):
        states = [line for line in samples(exposition(status)) if "_state{" in line]
        assert len(states) == 4
        assert [line for line in states if line.endswith(" 1.0")] == [
            f'anomaly_detector_state{{detector="d0",state="{status.verdict.state}"}} 1.0'
        ]


def test_a_missing_observation_is_withdrawn_and_not_nan() -> None:
    unseen = replace(CPU, observed=float("nan"))
    status = replace(OK, verdict=replace(OK.verdict, features=(unseen, LOAD)))
    text = exposition(status)
    assert "nan" not in text.lower()
    assert 'feature_observed_value{detector="d0",feature_name="cpu"}' not in text
    assert 'feature_expected_value{detector="d0",feature_name="cpu"} 0.25' in text


def test_each_series_names_its_detector() -> None:
    lines = samples(exposition(ANOMALOUS, BLIND))
    assert 'anomaly_detector_score{detector="d0"} 2.0' in lines
    assert not [line for line in lines if "_score{" in line and 'detector="d1"' in line]
    assert 'anomaly_detector_state{detector="d1",state="blind"} 1.0' in lines


def test_detectors_with_prefixes_of_their_own_have_families_of_their_own() -> None:
    text = render([Snapshot("a", "a_", (OK,)), Snapshot("b", "b_", (OK,))])
    assert 'a_score{detector="a"} 2.0' in samples(text)
    assert 'b_score{detector="b"} 2.0' in samples(text)


def test_a_groups_labels_stand_on_all_its_series() -> None:
    status = replace(OK, group=(("instance", "a:9100"),))
    for line in samples(exposition(status)):
        assert 'instance="a:9100"' in line


def test_label_values_survive_the_exposition_whatever_they_hold() -> None:
    name = 'a "quoted" \\ back\nslash <b>'
    status = replace(OK, verdict=replace(OK.verdict, features=(replace(CPU, name=name),)))
    families = text_string_to_metric_families(exposition(status))
    names = {sample.labels.get("feature_name") for f in families for sample in f.samples}
    assert names == {None, name}


def test_promtool_finds_nothing_to_say(daemon_registry: CollectorRegistry) -> None:
    daemon_registry.register(
        SnapshotCollector(lambda: [Snapshot("host", "anomaly_detector_", (ANOMALOUS,))])
    )
    WebMetrics(daemon_registry, ["too_many"], ["busy"]).show_web_config(1.0)
    text = without_created(generate_latest(daemon_registry).decode())
    check = subprocess.run(
        [require_binary("promtool"), "check", "metrics"],
        input=text,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (check.returncode, check.stdout + check.stderr) == (0, "")


# The table of names


OF_GROUPS = {"instance", "zone"}


def every_family() -> dict[str, Metric]:
    """All that a daemon can expose, by the names in the text format."""
    registry = CollectorRegistry()
    metrics = DaemonMetrics(registry)
    metrics.show_shard(2, 5)
    metrics.show_reload(1.7e9)
    own = metrics.of("d0")
    own.show_bundle("linear", "20260101T000000Z-abc", 1.7e9)
    own.show_expected(1.0, (0.25, 4.0))
    own.count_poll(["cpu"], {})
    own.show_sample_age(12.5)
    own.show_mute_queries(["deployment"])
    own.show_marker_queries(["api"])
    own.show_markers({("api", "1.4.2"): 1.7e9})
    scored = replace(ANOMALOUS, verdict=replace(JUDGED, plain=True), muted=False)
    snapshots = [Snapshot("d0", reference.PREFIX, (scored,))]
    registry.register(SnapshotCollector(lambda: snapshots))
    WebMetrics(registry, ["too_many"], ["busy"]).show_web_config(1.0)
    PeerMetrics(registry).begin(["http://promad-1:8001"])
    received = ReceiverMetrics(registry)
    received.begin("d0")
    received.count_request(204)
    received.count_samples("d0", 1, 1.7e9)
    families = [*collect_fleets([make_incident_snapshot()]), *registry.collect()]
    return {family.name + "_total" * (family.type == "counter"): family for family in families}


def test_the_table_holds_every_metric_with_its_type_help_and_labels() -> None:
    families = every_family()
    assert families.keys() == {spec.full_name(reference.PREFIX) for spec in names.METRICS}
    for spec in names.METRICS:
        family = families[spec.full_name(reference.PREFIX)]
        common = {"detector"} if spec.subject is not Subject.PROCESS else set()
        assert (family.type, family.documentation) == (spec.type, spec.help)
        assert family.samples
        for sample in family.samples:
            assert set(sample.labels) - {"le", *OF_GROUPS} == {*spec.labels, *common}


def test_every_name_is_in_the_table_once() -> None:
    specs = [value for value in vars(names).values() if isinstance(value, MetricSpec)]
    assert sorted(map(id, specs)) == sorted(map(id, names.METRICS))


def test_daemon_metrics_begin_with_promad_and_counters_end_in_total() -> None:
    for spec in names.METRICS:
        assert spec.name.startswith("promad_") == (spec.subject is not Subject.GROUP)
        assert spec.name.endswith("_total") == (spec.type is MetricType.COUNTER)


def test_the_reference_is_what_the_generator_writes() -> None:
    """If not: python -m docs.metrics."""
    assert reference.FILE.read_text(encoding="utf-8") == reference.render_reference()

"""`promad doctor --online`: what is asked of a server, and what follows from its answers."""

import json
import math
import re
import time
from email.utils import formatdate

import pytest

from promad.config import Config, PrometheusSettings
from promad.data.groups import Grouping
from promad.diagnosis.findings import Finding
from promad.prometheus import PrometheusClient
from promad.prometheus.metric_types import ask_types
from promad.prometheus.query_costs import measure_costs
from promad.prometheus.recent_values import RecentPeriod, ask_recent_values
from promad.prometheus.scrape_intervals import measure_intervals
from promad.stages.doctor import diagnose
from tests.support.prometheus_stub import Say, matrix, stub_server
from tests.support.simulated import NAMES, NOW, host_values

HOSTS = ({"instance": "h1:9100", "job": "node"}, {"instance": "h2:9100", "job": "node"})
NOT_FOUND = Say(404, '{"status":"error","errorType":"not_found","error":"unknown"}')


def success(data):
    return json.dumps({"status": "success", "data": data})


def vector(series, stats=None):
    now = time.time()
    result = [{"metric": labels, "value": [now, str(value)]} for labels, value in series]
    data = {"resultType": "vector", "result": result}
    return success(data if stats is None else {**data, "stats": stats})


def answering(metrics, types=None, samples=None, interval=15.0, ahead=0.0, hosts=HOSTS, hidden=()):
    """A server like Prometheus: its metrics, their types, and the samples that a query reads.

    Without `types` it has no metadata, and without `samples` no query statistics.
    """

    def handle(asked):
        headers = {"Date": formatdate(time.time() + ahead, usegmt=True)}
        return Say(body=_answer(asked), headers=headers)

    def _answer(asked):
        if asked.path.endswith("/metadata"):
            kind = (types or {}).get(asked.form["metric"])
            return success({asked.form["metric"]: [{"type": kind}]} if kind else {})
        expr = asked.form["query"]
        if asked.path.endswith("/query"):
            if "exported_" in expr:
                return vector([({"job": job}, 1.0) for job in hidden])
            if "count_over_time" in expr:
                seconds = float(re.search(r"\[(\d+)m\]", expr)[1]) * 60
                return vector([({"job": "node"}, seconds / interval)])
            stats = None if samples is None else {"samples": {"totalQueryableSamples": samples}}
            return vector([(labels, 1.0) for labels in hosts], stats)
        start, step = float(asked.form["start"]), float(asked.form["step"])
        times = [start + place * step for place in range(asked.points)]
        if expr == "time()":
            return matrix({(): [(at, at) for at in times]})
        if not any(re.search(rf"\b{name}\b", expr) for name in metrics):
            return matrix({})
        ages = "timestamp(" in expr
        own = [(at, at // interval * interval if ages else at % 7) for at in times]
        return matrix({tuple(labels.items()): own for labels in hosts})

    return handle


def check(handle, tmp_path, queries, **sections):
    """The outcome of each check by its name."""
    with stub_server(handle) as stub:
        config = Config.model_validate(
            {
                "prometheus_url": stub.url,
                "artifacts_dir": tmp_path,
                "queries": queries,
                "group_by": ["instance"],
                **sections,
            }
        )
        outcomes = diagnose(config, tmp_path / "config.yaml", online=True, now=time.time())
    return {outcome.check: outcome for outcome in outcomes}


def list_findings(outcomes):
    return [each for outcome in outcomes.values() for each in outcome.findings]


@pytest.fixture
def client():
    opened = []

    def connect(handle):
        server = stub_server(handle)
        stub = server.__enter__()
        made = PrometheusClient(stub.url, PrometheusSettings(), retries=0)
        opened.append((server, made))
        return made

    yield connect
    for server, made in opened:
        made.close()
        server.__exit__(None, None, None)


# All of it


def test_a_query_of_mute_that_fails_and_a_marker_without_series_are_findings(tmp_path):
    handle = answering({"load"})

    def refusing(asked):
        if asked.form.get("query") == "deploying":
            return Say(422, '{"status":"error","errorType":"execution","error":"too much"}')
        return handle(asked)

    found = check(
        refusing,
        tmp_path,
        {"l": "sum by (instance) (load)"},
        mute=[{"query": "deploying"}],
        markers=[{"name": "api", "query": "app_build"}],
    )
    findings = found["failing_query"].findings
    assert [each.subject for each in findings] == ["mute.0", "markers.api"]
    assert "too much" in findings[0].found


def test_a_healthy_server_has_no_findings(tmp_path):
    types = {"load": "gauge", "e_total": "counter"}
    handle = answering({"load", "e_total"}, types, samples=40)
    queries = {"l": "sum by (instance) (load)", "e": "sum by (instance) (rate(e_total[2m]))"}
    found = check(handle, tmp_path, queries)
    assert list_findings(found) == []
    facts = {name: [fact.text for fact in outcome.facts] for name, outcome in found.items()}
    assert facts["series"] == ["2 groups, up to 70 series on /metrics"]
    assert facts["query_cost"] == ["80 samples read per tick, most for l (40)"]
    assert facts["memory"] == ["about 95 MB in detect"]


def test_what_the_server_knows_of_metrics_and_scrapes_is_used(tmp_path):
    types = {"pods_count": "gauge", "seen": "counter", "load": "gauge"}
    queries = {
        "a": "sum by (instance) (pods_count)",
        "b": "sum by (instance) (seen)",
        "c": "sum by (instance) (rate(load[2m]))",
    }
    handle = answering({"pods_count", "seen", "load"}, types, interval=60.0)
    found = check(handle, tmp_path, queries)
    named = {(name, each.subject) for name, out in found.items() for each in out.findings}
    assert named == {
        ("counter_without_rate", "queries.b"),
        ("gauge_through_rate", "queries.c"),
        ("short_range", "queries.c"),
        ("step_below_scrape_interval", "data_settings.step"),
    }


def test_a_server_without_metadata_and_statistics_is_judged_by_names(tmp_path):
    found = check(answering({"e_total", "load"}), tmp_path, {"e": "e_total", "l": "load"})
    assert [each.found for each in list_findings(found)] == [
        "e_total looks like a counter, which only rises and resets"
    ]
    assert [fact.text for fact in found["query_cost"].facts] == [
        "unknown: the server does not report how many samples it read"
    ]


def test_a_query_without_series_is_an_error_and_the_others_are_checked(tmp_path):
    found = check(answering({"load"}, samples=5), tmp_path, {"l": "load", "gone": "sum(gone)"})
    assert list_findings(found) == [
        Finding(
            "error",
            "queries.gone",
            "no series in the requested period",
            "check the metric's name and labels, and that it is scraped",
        )
    ]
    assert found["series"].facts


def test_more_groups_than_max_groups_are_an_error(tmp_path):
    found = check(answering({"load"}), tmp_path, {"l": "load"}, max_groups=1)
    (refused,) = found["refused_groups"].findings
    assert refused.subject == "max_groups"
    assert refused.found.startswith("the queries return 2 groups, 1 more than max_groups (1)")


def test_a_clock_that_differs_is_an_error(tmp_path):
    found = check(answering({"load"}, ahead=900.0), tmp_path, {"l": "load"})
    (skew,) = found["clock_skew"].findings
    assert skew.severity == "error"
    assert re.match(r"the server's clock is 1[45]m\S* ahead of this machine's", skew.found)


def test_a_job_that_renames_labels_of_groups_is_an_error(tmp_path):
    found = check(answering({"load"}, hidden=["promad"]), tmp_path, {"l": "load"})
    assert found["honor_labels"].findings == (
        Finding(
            "error",
            "anomaly_detector_state",
            'job "promad" stores the label instance of the groups as exported_instance, so their '
            "series do not join with those of the groups",
            "add honor_labels: true to this job in the scrape configuration",
        ),
    )


def test_a_server_that_cannot_be_reached_is_one_error(tmp_path):
    config = Config.model_validate(
        {
            "prometheus_url": "http://127.0.0.1:9",
            "artifacts_dir": tmp_path,
            "queries": {"l": "load", "m": "more"},
        }
    )
    outcomes = diagnose(config, tmp_path / "config.yaml", online=True, now=time.time())
    found = {outcome.check: outcome for outcome in outcomes}
    (gone,) = list_findings(found)
    assert (gone.severity, gone.subject) == ("error", "http://127.0.0.1:9")
    assert gone.found.startswith("connection failed")
    for name in ("gauge_through_rate", "clock_skew", "series", "memory", "tick_time"):
        assert found[name].not_checked == "the server does not answer queries — fix that first"
        assert found[name].facts == ()


def test_a_server_that_is_lost_meanwhile_is_an_error_and_the_rest_is_not_judged(tmp_path):
    healthy = answering({"load"}, samples=5)

    def handle(asked):
        return Say(hang_up=True) if asked.path.endswith("/metadata") else healthy(asked)

    found = check(handle, tmp_path, {"l": "load"})
    (lost,) = list_findings(found)
    assert (lost.severity, found["failing_query"].findings) == ("error", (lost,))
    assert found["series"].not_checked == "the server does not answer queries — fix that first"


def test_without_groups_there_is_one(tmp_path):
    handle = answering({"load"}, hosts=HOSTS[:1])
    found = check(handle, tmp_path, {"l": "load"}, group_by=[])
    assert list_findings(found) == []
    assert found["series"].facts[0].text.startswith("1 group, ")


@pytest.mark.parametrize(("value", "drifted"), [(1e9, True), (None, False)])
def test_drift_is_found_by_a_coarse_look_at_the_newest_week(sketched, tmp_path, value, drifted):
    trained = dict(zip(NAMES, host_values(420).mean(axis=0).tolist(), strict=True))

    def handle(asked):
        expr = asked.form.get("query")
        if not asked.path.endswith("/query_range") or expr not in trained:
            return NOT_FOUND
        start, step = float(asked.form["start"]), float(asked.form["step"])
        at = [start + place * step for place in range(asked.points)]
        own = trained[expr] if value is None else value
        return Say(body=matrix({(): [(each, own) for each in at]}))

    with stub_server(handle) as stub:
        config = sketched.config.model_copy(update={"prometheus_url": stub.url})
        outcomes = diagnose(config, tmp_path / "config.yaml", online=True, now=NOW)
        weekly = [one.form for one in stub.asked if one.form.get("step") == "3600"]
    (drift,) = (outcome for outcome in outcomes if outcome.check == "drift")
    assert drift.not_checked == ""
    assert [each.subject for each in drift.findings] == (
        [f"queries.{name}" for name in NAMES] if drifted else []
    )
    assert [float(form["end"]) - float(form["start"]) for form in weekly] == [7 * 86400.0] * 3


# Types of metrics


@pytest.mark.parametrize(
    ("metric", "types", "kind"),
    [
        ("load", {"load": "gauge"}, "gauge"),
        ("e_total", {"e_total": "counter"}, "counter"),
        ("e_total", {"e": "counter"}, "counter"),
        ("d_sum", {"d": "summary"}, "counter"),
        ("d_bucket", {"d": "histogram"}, "counter"),
        ("pods_count", {"pods_count": "gauge"}, "gauge"),
        ("pods_count", {"pods": "gauge"}, "gauge"),
        ("seen", {"seen": "unknown"}, None),
        ("seen", {}, None),
    ],
)
def test_the_type_of_a_metric_is_that_of_its_family(client, metric, types, kind):
    found = ask_types(client(answering(set(), types)), [metric])
    assert found == ({} if kind is None else {metric: kind})


def test_types_of_which_targets_disagree_are_unknown(client):
    body = success({"seen": [{"type": "gauge"}, {"type": "counter"}]})
    assert ask_types(client(lambda _: Say(body=body)), ["seen"]) == {}


@pytest.mark.parametrize("say", [NOT_FOUND, Say(body=success([])), Say(body="<html>")])
def test_a_server_without_metadata_knows_no_types(client, say):
    assert ask_types(client(lambda _: say), ["seen"]) == {}


# Scrape intervals and costs


def test_intervals_are_measured_by_job_over_at_least_ten_minutes(client):
    asked = []

    def handle(one):
        asked.append((one.form["query"], one.form["time"]))
        return Say(body=vector([({"job": "a"}, 40.0), ({}, 10.0), ({"job": "new"}, 0.0)]))

    connected = client(handle)
    assert measure_intervals(connected, ["up"], 30.0, 6000.0) == {"up": {"a": 15.0, "": 60.0}}
    assert measure_intervals(connected, ["up"], 300.0, 6000.0)["up"]["a"] == 150.0
    short, long = (
        f"max by (job) (count_over_time(up[{text}]) and up offset {text})"
        for text in ("10m", "1h40m")
    )
    assert asked == [(short, "6000"), (short, "5400"), (long, "6000"), (long, "0")]


def test_a_restart_of_the_server_does_not_change_the_interval(client):
    def handle(one):
        counts = [("a", 30.0), ("new", 40.0)] if one.form["time"] == "6000" else [("a", 40.0)]
        return Say(body=vector([({"job": job}, count) for job, count in counts]))

    found = measure_intervals(client(handle), ["up"], 30.0, 6000.0)
    assert found == {"up": {"a": 15.0, "new": 15.0}}


def test_a_selector_that_the_server_refuses_is_not_measured(client):
    refusal = Say(400, '{"status":"error","errorType":"bad_data","error":"no"}')
    assert measure_intervals(client(lambda _: refusal), ["up"], 30.0, 0.0) == {"up": {}}


def test_the_cost_of_a_query_is_its_time_and_the_samples_it_reads(client):
    clock = iter([1.0, 1.5, 2.0, 2.25])

    def handle(asked):
        if asked.form["query"] == "bad":
            return Say(400, '{"status":"error","errorType":"bad_data","error":"no"}')
        assert asked.form["stats"] == "all"
        return Say(body=vector([], {"samples": {"totalQueryableSamples": 7}}))

    costs = measure_costs(client(handle), {"a": "up"}, 0.0, 10, lambda: next(clock))
    assert (costs["a"].seconds, costs["a"].samples) == (0.5, 7)
    assert measure_costs(client(handle), {"b": "bad"}, 0.0, 10, lambda: next(clock)) == {}


# Recent values


def test_recent_values_are_coarser_for_many_groups():
    week = 7 * 86400.0
    steps = [RecentPeriod(0.0, week, groups).step for groups in (1, 500, 100_000)]
    assert steps == [3600.0, 7200.0, 43200.0]


def test_recent_values_are_of_each_group_without_what_is_missing(client):
    def handle(asked):
        if asked.form["query"] == "bad":
            return Say(400, '{"status":"error","errorType":"bad_data","error":"no"}')
        at = float(asked.form["start"])
        host = (("instance", "h1"), ("disk", "a")), (("instance", "h1"), ("disk", "b"))
        return Say(body=matrix({host[0]: [(at, 1.0), (at + 3600, math.nan)], host[1]: [(at, 2.0)]}))

    queries, period = {"a": "a", "b": "bad"}, RecentPeriod(1e9, 86400.0, 1)
    found = ask_recent_values(client(handle), queries, Grouping(("instance",)), period, 100)
    assert list(found) == ["a"]
    assert found["a"][("instance", "h1"),].tolist() == [1.0, 2.0]

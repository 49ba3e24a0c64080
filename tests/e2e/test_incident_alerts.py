"""Alerts of a detector with `group_by` are about incidents: one for any number of groups."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from promad.config import Config
from promad.mixin.alerts import AlertScope
from promad.mixin.deployment import Deployment
from promad.mixin.writing import build_rule_files
from tests.support.fleet_scrapes import name_hosts, scrape_fleet
from tests.support.promtool import RuleTest, Story, promtool
from tests.support.scrapes import TARGET

ALERTS = "prometheus/promad-alerts.yaml"
HOSTS = name_hosts(50)
INCIDENT = ["PromadIncident"]
NOTHING: list[str] = []


def write_rules(
    directory: Path, *more: Config, scope: AlertScope = AlertScope.INCIDENTS, **changed: object
) -> RuleTest:
    fleet = {"name": "d0", "queries": {"cpu": "up"}, "group_by": ["instance"], **changed}
    deployment = Deployment.from_configs([Config.model_validate(fleet), *more], "promad")
    path = directory / "alerts.yaml"
    path.write_text(build_rule_files(deployment, scope)[ALERTS], encoding="utf-8")
    return RuleTest(directory, path)


@pytest.fixture
def rules(tmp_path: Path) -> RuleTest:
    return write_rules(tmp_path)


OK = scrape_fleet(HOSTS)


def begin(*anomalous: int, **more: object) -> dict[str, object]:
    return scrape_fleet(HOSTS, anomalous, **more)


# When they fire


def test_nothing_fires_while_all_groups_are_ok(rules):
    rules.fire(Story().then(OK, 20), dict.fromkeys((1, 10, 19), NOTHING))


def test_forty_groups_within_a_minute_are_one_alert(rules):
    story = Story().then(OK, 5).then(begin(3), 0.5).then(begin(*range(20)), 0.5)
    story = story.then(begin(*range(40)), 10)
    rules.fire(story, {4.5: NOTHING, 5: INCIDENT, 5.5: INCIDENT, 6: INCIDENT, 15: INCIDENT})


def test_two_incidents_an_hour_apart_are_two_alerts(rules):
    story = Story().then(begin(1), 5).then(OK, 55).then(begin(7), 5).then(OK, 15)
    rules.fire(story, {4: INCIDENT, 16: NOTHING, 59: NOTHING, 60: INCIDENT, 79: NOTHING})


def test_an_incident_that_begins_while_another_lasts_is_an_alert_of_its_own(rules):
    story = Story().then(begin(1), 60).then(begin(1, 7, incidents=2), 10).then(begin(1), 15)
    rules.fire(story, {59: INCIDENT, 60: INCIDENT * 2, 84: INCIDENT})


def test_a_group_that_flaps_is_one_alert(rules):
    story = Story()
    for _ in range(5):
        story = story.then(begin(3), 2).then(OK, 5)
    rules.fire(story.then(OK, 20), {**dict.fromkeys(range(0, 38, 2), INCIDENT), 42: NOTHING})


def test_a_score_of_more_than_three_times_the_threshold_is_severe_after_two_minutes(rules):
    story = Story().then(begin(*range(40), score=4.0), 5).then(OK, 20)
    severe = ["PromadIncident", "PromadIncidentSevere"]
    rules.fire(story, {1.5: INCIDENT, 2: severe, 4: severe, 20: NOTHING})


def test_a_share_of_blind_groups_is_one_alert(rules):
    story = Story().then(OK, 1).then(scrape_fleet(HOSTS, blind=range(20)), 20)
    rules.fire(story, {10.5: NOTHING, 11: ["PromadGroupsBlind"], 20: ["PromadGroupsBlind"]})


def test_a_few_blind_groups_are_none(rules):
    rules.fire(Story().then(scrape_fleet(HOSTS, blind=range(4)), 20), {19: NOTHING})


def test_a_fleet_without_any_group_is_blind(rules):
    rules.fire(Story().then(scrape_fleet([]), 20), {9.5: NOTHING, 19: ["PromadGroupsBlind"]})


def test_refused_groups_are_one_alert(rules):
    refused = scrape_fleet(HOSTS, refused=12)
    story = Story().then(refused, 20)
    rules.fire(story, {9.5: NOTHING, 10: ["PromadGroupsRefused"]})
    text = (
        "12 groups are not monitored, because there are max_groups already. Their anomalies go "
        "undetected."
    )
    assert_text(rules, story, 15, "PromadGroupsRefused", text, "refuses groups")


def test_late_samples_are_stale_unless_the_groups_are_blind(rules):
    late = Story().then(scrape_fleet(HOSTS, age=500.0), 20)
    rules.fire(late, {9.5: NOTHING, 10: ["PromadDataStale"]})
    blind = Story().then(scrape_fleet(HOSTS, blind=range(20), age=500.0), 20)
    rules.fire(blind, {19: ["PromadGroupsBlind"]})


# Their texts


def assert_text(
    rules: RuleTest, story: Story, at: float, alert: str, text: str, summary: str, **labels: str
) -> None:
    notes = {
        "summary": f"Detector d0 {summary}",
        "description": text,
        "runbook": f"docs/runbooks.md#{alert.lower()}",
    }
    severity = "critical" if alert.endswith("Severe") else "warning"
    own = {**TARGET, "detector": "d0", "severity": severity, **labels}
    rules.say(story, at, alert, own, notes)


def test_an_incident_names_the_number_of_groups_the_first_and_the_leading_features(rules):
    text = (
        "40 groups (80% of those monitored), anomalous since 2023-11-14T22:13:20Z. First group: "
        'instance="host-3:9100". Leading features: cpu (70% of the deviation), load (20% of the '
        "deviation), disk (10% of the deviation)."
    )
    story = Story().then(begin(3, *range(10, 49)), 5)
    assert_text(rules, story, 4, "PromadIncident", text, "reports an incident", open_incident="1")


def test_an_incident_of_one_group_is_in_the_singular(rules):
    text = (
        "1 group (2% of those monitored), anomalous since 2023-11-14T22:13:20Z. First group: "
        'instance="host-3:9100". Leading features: cpu (70% of the deviation), load (20% of the '
        "deviation), disk (10% of the deviation)."
    )
    story = Story().then(begin(3, score=4.0), 5)
    assert_text(rules, story, 4, "PromadIncidentSevere", text, "reports a severe incident")


@pytest.mark.parametrize(
    ("anomalous", "common"),
    [((1, 3, 5), ' All of them have datacenter="eu".'), ((1, 2, 3), "")],
    ids=["one data centre", "both"],
)
def test_an_incident_names_a_label_that_only_its_groups_have_in_common(tmp_path, anomalous, common):
    rules = write_rules(tmp_path, group_by=["datacenter", "instance"])
    text = (
        "3 groups (6% of those monitored), anomalous since 2023-11-14T22:13:20Z. First group: "
        'datacenter="eu", instance="host-1:9100". Leading features: cpu (70% of the deviation), '
        f"load (20% of the deviation), disk (10% of the deviation).{common}"
    )
    both = ("datacenter", "instance")
    story = Story().then(scrape_fleet(HOSTS, anomalous, keep=both), 5)
    assert_text(rules, story, 4, "PromadIncident", text, "reports an incident", open_incident="1")


def test_blind_groups_are_named(rules):
    text = (
        "25% of the groups have had no score for at least 10m: their anomalies go undetected. Some "
        'of them: instance="host-0:9100"; instance="host-1:9100".'
    )
    story = Story().then(scrape_fleet(name_hosts(8), blind=(0, 1)), 20)
    assert_text(rules, story, 15, "PromadGroupsBlind", text, "has blind groups")


def test_a_fleet_without_groups_says_so(rules):
    text = "No group is monitored: the queries fail or return no series."
    assert_text(
        rules, Story().then(scrape_fleet([]), 20), 15, "PromadGroupsBlind", text, "has blind groups"
    )


# One alert for each group


def test_per_group_alerts_are_one_for_each_group_with_its_labels(tmp_path):
    rules = write_rules(tmp_path, scope=AlertScope.PER_GROUP)
    story = Story().then(begin(1, 2, 3, score=4.0), 20)
    both = ["PromadAnomaly"] * 3 + ["PromadAnomalySevere"] * 3
    rules.fire(story, {1: ["PromadAnomaly"] * 3, 5: both})
    one = Story().then(begin(7), 5)
    notes = {
        "summary": 'Detector d0 reports an anomaly: instance="host-7:9100"',
        "description": "Score: 2× the threshold; anomalous since 2023-11-14T22:13:20Z. No "
        "feature is above its baseline.",
        "runbook": "docs/runbooks.md#promadanomaly",
    }
    labels = {"job": "promad", "instance": "host-7:9100", "detector": "d0", "severity": "warning"}
    rules.say(one, 4, "PromadAnomaly", labels, notes)


def test_per_group_alerts_of_blind_groups_are_one_for_each(tmp_path):
    rules = write_rules(tmp_path, scope=AlertScope.PER_GROUP)
    rules.fire(Story().then(scrape_fleet(HOSTS, blind=(4, 5)), 20), {15: ["PromadBlind"] * 2})


def test_groups_whose_labels_hide_the_job_are_found_by_their_detector(tmp_path):
    rules = write_rules(tmp_path, group_by=["job", "instance"])
    hosts = [{"job": "node", "instance": f"host-{place}:9100"} for place in range(3)]
    story = Story().then(scrape_fleet(hosts, (0,), keep=("job", "instance"), score=4.0), 10)
    rules.fire(story, {5: ["PromadIncident", "PromadIncidentSevere"]})


# Several detectors


def test_a_detector_without_groups_beside_a_fleet_has_alerts_of_its_own(tmp_path):
    single = Config.model_validate({"name": "web", "queries": {"cpu": "up"}})
    rules = write_rules(tmp_path, single)
    written = yaml.safe_load(rules.rules.read_text())["groups"]
    expressions = {rule["alert"]: rule["expr"] for group in written for rule in group["rules"]}
    assert 'detector="web"' in expressions["PromadAnomaly"]
    assert 'detector="d0"' in expressions["PromadIncident"]
    rules.fire(Story().then(begin(1), 5), {4: INCIDENT})


@pytest.mark.parametrize("scope", AlertScope)
def test_prometheus_takes_the_rules(tmp_path, scope):
    rules = write_rules(
        tmp_path,
        scope=scope,
        group_by=["datacenter", "instance"],
        incidents={"scope": ["datacenter"]},
    )
    assert "SUCCESS" in promtool("check", "rules", rules.rules)

"""Each alert fires when it should and not otherwise, with the text that promad itself writes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import promql_parser
import pytest
import yaml

from promad.config import Config, load_config
from promad.events.explanation import paragraph
from promad.events.verdict import FeatureView, LargestDeviation
from promad.exposition import names
from promad.mixin.alert import SEVERE_RATIO, SEVERE_SAMPLES
from promad.mixin.alerts import OLD_DAYS, OVERRUN_SHARE, AlertScope
from promad.mixin.deployment import Deployment
from promad.mixin.incident_alerts import BLIND_SHARE
from promad.mixin.recording import name_events_over_expected, name_state_share
from promad.mixin.writing import build_rule_files
from tests.support.fleet_scrapes import name_hosts, scrape_fleet
from tests.support.promtool import RuleTest, Story, promtool
from tests.support.scrapes import (
    ANOMALOUS,
    BLIND,
    CPU,
    EVENT,
    JUDGED,
    LOAD,
    OK,
    PREFIX,
    TARGET,
    WARMING,
    scrape,
)

ROOT = Path(__file__).parents[2]
ALERTS = "prometheus/promad-alerts.yaml"
RECORDINGS = "prometheus/promad-recording.yaml"
DEPLOYED = ROOT / "deploy"
RUNBOOKS = (ROOT / "docs" / "runbooks.md").read_text()


def config(**changed: object) -> Config:
    return Config.model_validate({"queries": {"cpu": "up"}, **changed})


def build(
    *configs: Config, scope: AlertScope = AlertScope.INCIDENTS, several: bool = False
) -> Mapping[str, str]:
    deployment = Deployment.from_configs(configs, "promad", several=several)
    return build_rule_files(deployment, scope)


def read_rules(text: str) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


FLEET = config(name="fleet", group_by=["instance"])
WRITTEN = build(config())
"""The rules of a detector without groups."""

RULES = {name: read_rules(text) for name, text in WRITTEN.items()}
BY_NAME = {rule["alert"]: rule for rule in RULES[ALERTS]}
OF_SEVERAL = {name: read_rules(text) for name, text in build(FLEET, several=True).items()}
"""The rules of several daemons, shards or replicas."""

EVERY_ALERT = {rule["alert"]: rule for rule in OF_SEVERAL[ALERTS]} | {
    rule["alert"]: rule
    for scope in AlertScope
    for rule in read_rules(build(config(), FLEET, scope=scope)[ALERTS])
}
EVERY_RULE = [*EVERY_ALERT.values(), *RULES[RECORDINGS], *read_rules(build(FLEET)[RECORDINGS])]
EVERY_RULE += [rule for rules in OF_SEVERAL.values() for rule in rules]

SEVERE = replace(ANOMALOUS, verdict=replace(JUDGED, score=9.5))
NOTHING: list[str] = []


@pytest.fixture
def rules(tmp_path: Path) -> RuleTest:
    return rules_of(tmp_path, config())


@pytest.fixture
def recording(tmp_path: Path) -> RuleTest:
    path = tmp_path / "recording.yaml"
    path.write_text(WRITTEN[RECORDINGS], encoding="utf-8")
    return RuleTest(tmp_path, path)


def rules_of(tmp_path: Path, *configs: Config, job: str = "promad") -> RuleTest:
    path = tmp_path / "alerts.yaml"
    path.write_text(
        build_rule_files(Deployment.from_configs(configs, job))[ALERTS], encoding="utf-8"
    )
    return RuleTest(tmp_path, path)


# The files


def test_the_committed_rules_are_what_promad_mixin_writes():
    """If not: promad mixin -o mixin, and copy mixin/prometheus into deploy."""
    built = build_rule_files(Deployment.from_configs([load_config(ROOT / "config.yaml")], "promad"))
    assert built == {name: (DEPLOYED / name).read_text(encoding="utf-8") for name in RULES}


def test_prometheus_takes_the_rules():
    found = promtool("check", "rules", *(DEPLOYED / name for name in RULES))
    for name in RULES:
        rules = read_rules((DEPLOYED / name).read_text(encoding="utf-8"))
        assert f"{len(rules)} rules found" in found


@pytest.mark.parametrize("rule", EVERY_RULE, ids=lambda rule: rule.get("alert") or rule["record"])
def test_every_expression_is_promql(rule):
    promql_parser.parse(rule["expr"])


def test_recording_rules_are_named_by_level_metric_and_operations():
    exposed = "|".join(name.removesuffix("_total") for name in EXPOSED)
    levels = "group|group_state|detector|detector_state|scope|shard"
    operations = r"\w+1[hw]|max|min|sum|joined"
    for rule in EVERY_RULE:
        if "record" in rule:
            assert re.fullmatch(rf"({levels}):({exposed}):({operations})", rule["record"])


LARGEST = replace(CPU, largest=LargestDeviation(1699999950.0, 0.01, 0.3, 400.0))
DEVIATING = replace(JUDGED, features=(LARGEST, LOAD))

EXPOSED = {
    name.partition("{")[0]
    for name in (
        *scrape(replace(ANOMALOUS, verdict=DEVIATING, samples_in_window=1)),
        *scrape_fleet(name_hosts(2), (1,)),
    )
} | {names.SHARD_INFO.name, names.SHARDS.name}


def test_every_metric_in_the_rules_is_exposed():
    text = "".join(str(rule) for rule in EVERY_RULE)
    text = re.sub(r":\w+:\w+", "", text)
    assert set(re.findall(r"\b(?:promad|anomaly_detector)_\w+", text)) <= EXPOSED


def test_every_alert_has_a_severity_a_summary_a_description_and_a_runbook():
    for name, rule in EVERY_ALERT.items():
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert set(rule["annotations"]) == {"summary", "description", "runbook"}
        assert rule["annotations"]["runbook"] == f"docs/runbooks.md#{name.lower()}"
        assert not rule["annotations"]["summary"].endswith(".")


def test_every_alert_has_its_section_in_the_runbooks_and_no_section_lacks_its_alert():
    assert sorted(re.findall(r"^## (.+)$", RUNBOOKS, re.MULTILINE)) == sorted(EVERY_ALERT)


QUERIES = [
    line
    for block in re.findall(r"^```promql\n(.*?)^```$", RUNBOOKS, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_in_the_runbooks_is_promql_on_metrics_that_are_there(query):
    promql_parser.parse(query)
    recorded = {rule["record"] for rule in EVERY_RULE if "record" in rule}
    assert set(re.findall(r"[\w:]*(?:promad|anomaly_detector)_[\w:]+", query)) <= EXPOSED | recorded


def test_every_number_in_the_runbooks_is_that_of_the_rules():
    assert "three times the threshold, for four samples" in RUNBOOKS
    assert (SEVERE_RATIO, SEVERE_SAMPLES) == (3, 4)
    assert "More than a tenth of the ticks" in RUNBOOKS
    assert OVERRUN_SHARE == 0.1
    assert "more than thirty days ago" in RUNBOOKS
    assert OLD_DAYS == 30
    assert "More than a tenth of the groups" in RUNBOOKS
    assert BLIND_SHARE == 0.1


# When they fire


def test_nothing_fires_while_all_is_well(rules):
    rules.fire(Story().then(scrape(OK), 120), dict.fromkeys(range(0, 120, 10), NOTHING))


def test_an_anomaly_fires_at_once_for_the_event_has_already_waited(rules):
    story = Story().then(scrape(OK), 5).then(scrape(ANOMALOUS), 5).then(scrape(OK), 30)
    rules.fire(story, {4.5: NOTHING, 5: ["PromadAnomaly"]})


def test_an_anomaly_that_ends_and_begins_again_within_ten_minutes_is_one(rules):
    story = Story().then(scrape(ANOMALOUS), 5).then(scrape(OK), 9).then(scrape(ANOMALOUS), 5)
    rules.fire(story.then(scrape(OK), 30), {at: ["PromadAnomaly"] for at in (0, 4, 9, 13, 20, 28)})
    rules.fire(story.then(scrape(OK), 30), {30: NOTHING})


def test_a_score_of_more_than_three_times_the_threshold_is_severe_after_two_minutes(rules):
    story = Story().then(scrape(SEVERE), 5).then(scrape(OK), 30)
    both = ["PromadAnomaly", "PromadAnomalySevere"]
    rules.fire(story, {1.5: ["PromadAnomaly"], 2: both, 5: both, 14: both, 16: NOTHING})


def test_a_high_score_that_is_no_event_yet_fires_nothing(rules):
    high = replace(OK, verdict=replace(OK.verdict, score=9.5))
    rules.fire(Story().then(scrape(high), 10), {5: NOTHING})


def test_a_blind_group_fires_after_ten_minutes_and_not_before(rules):
    story = Story().then(scrape(OK), 5).then(scrape(BLIND), 20).then(scrape(OK), 5)
    rules.fire(story, {14.5: NOTHING, 15: ["PromadBlind"], 24.5: ["PromadBlind"], 25: NOTHING})


def test_a_group_that_warms_up_is_not_blind(rules):
    rules.fire(Story().then(scrape(WARMING), 30), dict.fromkeys((5, 15, 29), NOTHING))


def test_a_group_that_goes_blind_during_an_anomaly_is_never_silent(rules):
    story = Story().then(scrape(ANOMALOUS), 5).then(scrape(BLIND), 30)
    fires = {5: ["PromadAnomaly"], 14.5: ["PromadAnomaly"], 20: ["PromadBlind"]}
    rules.fire(story, fires)


def test_samples_that_are_late_for_ten_minutes_are_stale(rules):
    late = scrape(OK, changed={names.SAMPLE_AGE: 191.0})
    story = Story().then(scrape(OK), 5).then(late, 20).then(scrape(OK), 5)
    rules.fire(
        story, {14.5: NOTHING, 15: ["PromadDataStale"], 24.5: ["PromadDataStale"], 25: NOTHING}
    )


def test_samples_as_old_as_they_may_be_are_not_stale(rules):
    rules.fire(Story().then(scrape(OK, changed={names.SAMPLE_AGE: 190.0}), 30), {29: NOTHING})


def test_gap_upon_gap_so_that_no_window_ever_fills_is_stale_too(rules):
    stuck = scrape(replace(WARMING, last_scored_at=0.0), changed={names.LAST_SCORED: 0.0})
    story = Story().then(stuck, 60)
    rules.fire(story, {30: NOTHING, 40: NOTHING, 40.5: ["PromadDataStale"]})


def test_a_blind_group_is_blind_and_not_stale_besides(rules):
    story = Story().then(scrape(BLIND, changed={names.SAMPLE_AGE: 1000.0}), 30)
    rules.fire(story, {20: ["PromadBlind"]})


def test_a_daemon_that_cannot_be_scraped_is_down_after_five_minutes(rules):
    down = {f'up{{job="promad", instance="{TARGET["instance"]}"}}': 0.0}
    story = Story().then(scrape(OK), 5).then(down, 20).then(scrape(OK), 5)
    rules.fire(story, {9.5: NOTHING, 10: ["PromadDown"], 24.5: ["PromadDown"], 25: NOTHING})


def test_a_target_that_is_gone_altogether_is_down(rules):
    other = {'up{job="node", instance="localhost:9100"}': 1.0}
    rules.fire(Story().then(scrape(OK), 5).then(other, 20), {9.5: NOTHING, 10: ["PromadDown"]})


def test_a_target_that_answers_as_something_else_is_down(rules):
    other = {f'up{{job="promad", instance="{TARGET["instance"]}"}}': 1.0}
    rules.fire(Story().then(other, 20), {4.5: NOTHING, 5: ["PromadDown"]})


def test_one_daemon_of_two_that_is_down_is_not_hidden_by_the_other(rules):
    there = scrape(OK, target={**TARGET, "instance": "other:8001"})
    down = {**there, f'up{{job="promad", instance="{TARGET["instance"]}"}}': 0.0}
    rules.fire(Story().then(down, 20), {10: ["PromadDown"]})


def test_a_daemon_that_dies_during_an_anomaly_is_never_silent(rules):
    down = {f'up{{job="promad", instance="{TARGET["instance"]}"}}': 0.0}
    story = Story().then(scrape(ANOMALOUS), 5).then(down, 30)
    fires = {6: ["PromadAnomaly"], 12: ["PromadAnomaly", "PromadDown"], 20: ["PromadDown"]}
    rules.fire(story, fires)


def test_ticks_that_are_left_out_for_a_quarter_of_an_hour_are_an_overrun(rules):
    halved = {
        names.TICKS_SKIPPED: lambda at: at / 60,
        names.TICK_DURATION.count: lambda at: at / 60,
    }
    story = Story().then(scrape(OK, changed=halved), 40)
    rules.fire(story, {15: NOTHING, 16: ["PromadTickOverrun"], 39: ["PromadTickOverrun"]})


def test_one_long_pause_is_no_overrun(rules):
    paused = {names.TICKS_SKIPPED: lambda at: 100.0 * (at >= 1200)}
    story = Story().then(scrape(OK, changed=paused), 60)
    rules.fire(story, dict.fromkeys((20, 25, 30, 35, 40), NOTHING))


@pytest.mark.parametrize(
    "kinds",
    [
        [names.RELOAD_SUCCEEDED],
        [names.WEB_CONFIG_SUCCEEDED],
        [names.RELOAD_SUCCEEDED, names.WEB_CONFIG_SUCCEEDED],
    ],
)
def test_a_failed_reload_fires_after_five_minutes(rules, kinds):
    failed = scrape(OK, changed=dict.fromkeys(kinds, 0.0))
    story = Story().then(failed, 10).then(scrape(OK), 5)
    reload_failed = ["PromadConfigReloadFailed"]
    rules.fire(story, {4.5: NOTHING, 5: reload_failed, 9.5: reload_failed, 10: NOTHING})


def test_a_model_older_than_thirty_days_is_old(rules):
    month = 30 * 86400.0
    old, young = (
        scrape(OK, changed={names.MODEL_TRAINED: at}) for at in (-month - 1, 7200 - month)
    )
    rules.fire(Story().then(old, 90), {59.5: NOTHING, 60: ["PromadBundleOld"]})
    rules.fire(Story().then(young, 90), {89: NOTHING})


def test_of_several_detectors_only_those_fire_that_have_reason_to(tmp_path):
    rules = rules_of(tmp_path, config(name="d0"), config(name="d1"), config(name="d2"))
    story = Story().then(scrape(ANOMALOUS, BLIND, OK), 30)
    rules.fire(story, {20: ["PromadAnomaly", "PromadBlind"]})


def test_a_slow_detector_is_given_more_time(tmp_path):
    slow = config(
        data_settings={"step": "5m"},
        real_time_anomaly_detection={"query_interval_seconds": 300.0, "stale_after": "15m"},
    )
    rules = rules_of(tmp_path, slow)
    story = Story().then(scrape(BLIND), 40)
    rules.fire(story, {24: NOTHING, 25: ["PromadBlind"]})
    late = Story().then(scrape(OK, changed={names.SAMPLE_AGE: 1200.0}), 40)
    rules.fire(late, {39: NOTHING})


# Their texts


def assert_text(
    rules: RuleTest,
    story: Story,
    at: float,
    alert: str,
    description: str,
    labels: Mapping[str, str] = MappingProxyType({"detector": "d0"}),
    notes: Mapping[str, str | None] = MappingProxyType({}),
) -> None:
    """Assert that the alert has this description; `labels` and `notes` are additional ones.

    Its summary names the detector in `labels`. A note that is None is no annotation of it.
    """
    rule = BY_NAME[alert]
    detector = labels.get("detector", "")
    summary = rule["annotations"]["summary"].replace("{{ $labels.detector }}", detector)
    usual = {**rule["annotations"], "summary": summary, "description": description}
    annotations = {name: text for name, text in {**usual, **notes}.items() if text is not None}
    rules.say(story, at, alert, {**TARGET, **rule["labels"], **labels}, annotations)


def verdicts() -> Sequence[object]:
    many = tuple(replace(CPU, name=name, contribution=share) for name, share in PARTS)
    largest = LARGEST
    at_last = LargestDeviation(JUDGED.at, 0.9, 0.25, 12.0)
    small = replace(LOAD, contribution=0.05)
    return [
        pytest.param(JUDGED, id="two features, one of them deviating and one below"),
        pytest.param(replace(JUDGED, missing=("disk",)), id="a feature is missing"),
        pytest.param(replace(JUDGED, features=many), id="more than three contribute"),
        pytest.param(
            replace(JUDGED, features=(replace(CPU, observed=math.nan), LOAD)),
            id="no current sample",
        ),
        pytest.param(replace(JUDGED, features=(replace(CPU, contribution=0.0),)), id="no excess"),
        pytest.param(
            replace(JUDGED, features=(CPU, replace(LOAD, elevation=0.5))),
            id="one is below its baseline",
        ),
        pytest.param(
            replace(JUDGED, features=(replace(CPU, name='say "95 %" {é} \\d', contribution=1.0),)),
            id="a name that has to be quoted",
        ),
        pytest.param(replace(JUDGED, features=(largest, LOAD)), id="a largest deviation"),
        pytest.param(
            replace(JUDGED, features=(replace(largest, elevation=0.5, since=None), LOAD)),
            id="a feature that has recovered",
        ),
        pytest.param(
            replace(JUDGED, features=(replace(CPU, largest=at_last), LOAD)),
            id="the newest sample deviates most",
        ),
        pytest.param(
            replace(JUDGED, features=(replace(largest, observed=math.nan), LOAD)),
            id="a largest deviation and no current sample",
        ),
        pytest.param(
            replace(JUDGED, features=(replace(CPU, contribution=0.95), small)),
            id="one contributes little",
        ),
        pytest.param(replace(JUDGED, score=123456.0), id="a huge score"),
        pytest.param(replace(JUDGED, score=3789.0), id="a score of four digits"),
    ]


PARTS = (("a", 0.1), ("b", 0.4), ("c", 0.0), ("d", 0.3), ("e", 0.2))


@pytest.mark.parametrize("verdict", verdicts())
@pytest.mark.parametrize("alert", ["PromadAnomaly", "PromadAnomalySevere"])
def test_an_anomaly_alert_has_the_text_that_promad_itself_writes(rules, verdict, alert):
    severe = alert == "PromadAnomalySevere"
    verdict = replace(verdict, score=verdict.score * (4 if severe else 1))
    scored = {names.LAST_SCORED: verdict.at}
    story = Story().then(scrape(replace(ANOMALOUS, verdict=verdict), changed=scored), 5)
    assert_text(rules, story, 4, alert, paragraph(verdict, EVENT.start))


def test_numbers_come_out_as_promad_itself_writes_them(rules):
    """At every magnitude, three features to an alert."""
    digits = (1.0, -1.23456, 9.9996)
    numbers = [digit * 10.0**power for power in (*range(-7, 9), 12, 24, 28) for digit in digits]
    for first in range(0, len(numbers), 3):
        views = tuple(
            FeatureView(
                f"f{place}", 1.0, 0.5 - place / 10, number, number / 7, 1 + abs(number), 1e9
            )
            for place, number in enumerate(numbers[first : first + 3])
        )
        verdict = replace(JUDGED, features=views)
        story = Story().then(scrape(replace(ANOMALOUS, verdict=verdict)), 1)
        assert_text(rules, story, 0.5, "PromadAnomaly", paragraph(verdict, EVENT.start))


def test_factors_come_out_as_promad_itself_writes_them(rules):
    factors = [
        1.004,
        9.996,
        99.94,
        99.96,
        100.4,
        999.6,
        1089.7,
        9999.6,
        10000.0,
        10000.1,
        1e6,
        1e30,
    ]
    for first in range(0, len(factors), 3):
        views = tuple(
            replace(CPU, name=f"f{place}", contribution=0.5 - place / 10, elevation=factor)
            for place, factor in enumerate(factors[first : first + 3])
        )
        verdict = replace(JUDGED, score=JUDGED.threshold * factors[first] / 1000, features=views)
        story = Story().then(scrape(replace(ANOMALOUS, verdict=verdict)), 1)
        assert_text(rules, story, 0.5, "PromadAnomaly", paragraph(verdict, EVENT.start))


def test_of_several_detectors_each_alert_is_about_its_own(tmp_path):
    rules = rules_of(tmp_path, config(name="d0"), config(name="d1"))
    other = replace(JUDGED, score=5.0, features=(LOAD,))
    story = Story().then(scrape(ANOMALOUS, replace(ANOMALOUS, verdict=other)), 5)
    rules.yield_samples(
        story, 4, 'count by (detector) (ALERTS{alertname="PromadAnomaly"})', BOTH_DETECTORS
    )
    quiet = Story().then(scrape(OK, replace(ANOMALOUS, verdict=other)), 5)
    text = paragraph(other, EVENT.start)
    assert_text(rules, quiet, 4, "PromadAnomaly", text, {"detector": "d1"})


BOTH_DETECTORS = {'{detector="d0"}': 1.0, '{detector="d1"}': 1.0}


def test_a_blind_detector_names_the_queries_that_fail(rules):
    why = "No score for at least 10m: anomalies go undetected. "
    succeeding = Story().then(scrape(BLIND), 20)
    missing = "All queries succeed, but samples are missing or stale."
    blind = {"detector": "d0", "state": "blind"}
    assert_text(rules, succeeding, 15, "PromadBlind", why + missing, blind)
    failing = Story().then(scrape(BLIND, changed={names.QUERY_UP: 0.0}), 20)
    assert_text(rules, failing, 15, "PromadBlind", f"{why}Failed queries: cpu, load.", blind)


def test_a_daemon_that_is_down_is_named_if_prometheus_knows_it(rules):
    (up,) = (name for name in scrape(OK) if name.startswith("up{"))
    effect = "Anomalies go undetected."
    there = f"promad does not respond at localhost:8001. {effect}"
    assert_text(rules, Story().then({up: 0.0}, 10), 6, "PromadDown", there, {})
    gone = f"Prometheus has no target for the job promad. {effect}"
    rule = BY_NAME["PromadDown"]
    notes = {**rule["annotations"], "description": gone}
    rules.say(Story().then({}, 10), 6, "PromadDown", {"job": "promad", **rule["labels"]}, notes)


def test_with_an_address_of_its_own_an_anomaly_links_to_the_page_about_it(tmp_path):
    web = {"external_url": "https://promad.example/x", "runbook_url": "https://wiki.example/book"}
    two = rules_of(tmp_path, config(name="d0", web=web), config(name="d1"))
    story = Story().then(scrape(OK, ANOMALOUS), 5)
    text = paragraph(JUDGED, EVENT.start)
    links = {
        "link": "https://promad.example/x/?group=d1",
        "runbook_url": "https://wiki.example/book#promadanomaly",
        "runbook": None,
    }
    assert_text(two, story, 4, "PromadAnomaly", text, {"detector": "d1"}, links)


def test_another_job_and_prefix_reach_every_rule(tmp_path):
    other = config(real_time_anomaly_detection={"metrics_prefix": "mine_"})
    for text in build_rule_files(Deployment.from_configs([other], 'my "job"')).values():
        assert "anomaly_detector_" not in text
        assert 'job="promad"' not in text
        assert "mine_" in text
    path = tmp_path / "alerts.yaml"
    path.write_text(text)
    promtool("check", "rules", path)


# Recording rules


def test_half_an_hour_of_blindness_is_half_of_the_last_hour(recording):
    story = Story().then(scrape(OK), 30).then(scrape(BLIND), 30)
    share = name_state_share(PREFIX)
    series = f'{share}{{{LABELS}, state="blind"}}'
    recording.yield_samples(story, 59.5, f'{share}{{state="blind"}}', {series: 0.5})


def test_events_of_a_week_are_held_against_those_expected(recording):
    changed = {
        names.EVENTS: lambda at: 3.0 * (at >= 1800),
        names.EXPECTED_FALSE_ALARMS: 2.0,
    }
    story = Story().then(scrape(OK, changed=changed), 60)
    ratio = name_events_over_expected(PREFIX)
    recording.yield_samples(story, 59, f"round({ratio}, 0.1)", {f"{{{LABELS}}}": 1.5})


LABELS = 'detector="d0", instance="localhost:8001", job="promad"'

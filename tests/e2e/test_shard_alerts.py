"""Alerts over several daemons: an incident on three shards or two replicas is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import yaml

from promad.config import Config
from promad.exposition import names
from promad.mixin.deployment import Deployment
from promad.mixin.writing import build_rule_files
from tests.support.fleet_scrapes import START, name_hosts, scrape_fleet
from tests.support.promtool import RuleTest, Scrape, Story
from tests.support.scrapes import PREFIX, TARGET

HOSTS = name_hosts(42)
SHARDS = [HOSTS[number::3] for number in range(3)]
INCIDENT = ["PromadIncident"]
NOTHING: list[str] = []
SINCE = names.INCIDENT_SINCE.full_name(PREFIX)


@pytest.fixture
def rules(tmp_path: Path) -> RuleTest:
    return write_rules(tmp_path)


def write_rules(directory: Path, **changed: object) -> RuleTest:
    fleet = {"name": "d0", "queries": {"cpu": "up"}, "group_by": ["instance"], **changed}
    config = Config.model_validate(fleet)
    files = build_rule_files(Deployment.from_configs([config], "promad", several=True))
    groups = [
        group
        for name in ("recording", "alerts")
        for group in yaml.safe_load(files[f"prometheus/promad-{name}.yaml"])["groups"]
    ]
    path = directory / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": groups}), encoding="utf-8")
    return RuleTest(directory, path)


def at_target(scrape: Scrape, address: str, shard: int | None, replica: str = "") -> Scrape:
    """The series of a daemon at another address, of a shard of three, and perhaps a replica."""
    target = f'instance="{address}"'
    found = {
        name.replace(f'instance="{TARGET["instance"]}"', target): value
        for name, value in scrape.items()
    }
    if shard is not None:
        found[f'promad_shard_info{{job="promad", {target}, shard="{shard}", shards="3"}}'] = 1.0
        found[f'promad_shards{{job="promad", {target}}}'] = 3.0
    if replica:
        found = {f'{name[:-1]}, replica="{replica}"}}': value for name, value in found.items()}
    return found


def on_shards(
    anomalous: Mapping[int, Sequence[int]] = {},
    *,
    missing: Sequence[int] = (),
    later: Mapping[int, float] = {},
) -> Scrape:
    """All three shards; by shard its anomalous groups, and how much later its incident began."""
    found: dict[str, object] = {}
    for number, hosts in enumerate(SHARDS):
        if number in missing:
            continue
        own = dict(scrape_fleet(hosts, anomalous.get(number, ())))
        for name in own:
            if name.startswith(f"{SINCE}{{"):
                own[name] = START + later.get(number, 0.0)
        found |= at_target(own, f"promad-{number}:8001", number)
    return found  # type: ignore[return-value]


EVERYWHERE = {0: range(14), 1: range(13), 2: range(13)}


def test_nothing_fires_while_all_shards_are_ok(rules):
    rules.fire(Story().then(on_shards(), 20), dict.fromkeys((1, 10, 19), NOTHING))


def test_forty_groups_on_three_shards_are_one_alert_that_counts_them(rules):
    story = Story().then(on_shards(), 5).then(on_shards({1: [2]}), 1)
    first = names.ANOMALOUS_SINCE.full_name(PREFIX)
    first = f'{first}{{job="promad", instance="host-0:9100", detector="d0"}}'
    everywhere = {**on_shards(EVERYWHERE, later={0: 90.0, 2: 400.0}), first: START - 30.0}
    story = story.then(everywhere, 10)
    rules.fire(story, {4.5: NOTHING, 5.5: INCIDENT, 8: INCIDENT, 15: INCIDENT})
    labels = {"job": "promad", "detector": "d0", "open_incident": "1", "severity": "warning"}
    text = (
        "40 groups on 3 shards, anomalous since 2023-11-14T22:13:20Z. First group: "
        'instance="host-0:9100". Leading features: cpu (70% of the deviation), '
        "load (20% of the deviation), disk (10% of the deviation)."
    )
    about = {
        "summary": "Detector d0 reports an incident",
        "description": text,
        "runbook": "docs/runbooks.md#promadincident",
    }
    rules.say(story, 14, "PromadIncident", labels, about)


def test_an_incident_that_begins_an_hour_later_on_another_shard_is_an_alert_of_its_own(rules):
    story = Story().then(on_shards({0: [1]}), 10)
    story = story.then(on_shards({0: [1], 2: [3]}, later={2: 3600.0}), 10).then(on_shards(), 15)
    rules.fire(story, {9: INCIDENT, 12: INCIDENT * 2, 34: NOTHING})


@pytest.mark.parametrize(("begin", "apart"), [(0.0, 0.0), (300.0, 450.0), (899.0, 899.0)])
def test_onsets_near_each_other_are_joined_wherever_they_are(rules, begin, apart):
    later = {0: begin, 1: begin + apart}
    rules.fire(Story().then(on_shards({0: [1], 1: [1]}, later=later), 3), {2: INCIDENT})


def test_a_shard_without_a_daemon_is_an_alert(rules):
    story = Story().then(on_shards(), 5).then(on_shards(missing=[1]), 10)
    rules.fire(story, {4.5: NOTHING, 9: NOTHING, 11: ["PromadShardMissing"]})


ALL = HOSTS[:20]


def replicas(first: Scrape | None, second: Scrape | None, shard: int | None = None) -> Scrape:
    """Two daemons on the same groups, told apart by the label replica of their targets."""
    found: dict[str, object] = {}
    for name, own in (("a", first), ("b", second)):
        if own is not None:
            found |= at_target(own, f"promad-{name}:8001", shard, name)
    return found  # type: ignore[return-value]


def blind() -> Scrape:
    """A daemon all of whose groups are blind, and which so knows nothing of incidents."""
    scrape = scrape_fleet(ALL, blind=range(len(ALL)))
    return {name: value for name, value in scrape.items() if "incident_open{" not in name}


OK = scrape_fleet(ALL)
BAD = scrape_fleet(ALL, [3, 4])


def test_an_incident_that_both_replicas_have_is_one_alert(rules):
    story = Story().then(replicas(OK, OK), 3).then(replicas(BAD, BAD), 10)
    rules.fire(story, {2.5: NOTHING, 4: INCIDENT, 12: INCIDENT})


def test_a_replica_that_lags_neither_delays_nor_doubles_the_alert(rules):
    story = Story().then(replicas(OK, OK), 3).then(replicas(OK, BAD), 2)
    story = story.then(replicas(BAD, BAD), 5).then(replicas(BAD, OK), 2).then(replicas(OK, OK), 15)
    rules.fire(story, {2.5: NOTHING, 4: INCIDENT, 8: INCIDENT, 11: INCIDENT, 25: NOTHING})


def test_an_incident_is_seen_while_one_replica_is_blind(rules):
    story = Story().then(replicas(blind(), OK), 15).then(replicas(blind(), BAD), 10)
    rules.fire(story, {14: NOTHING, 17: INCIDENT, 24: INCIDENT})


def test_groups_that_are_blind_in_both_replicas_are_an_alert(rules):
    story = Story().then(replicas(blind(), blind()), 15)
    rules.fire(story, {9: NOTHING, 12: ["PromadGroupsBlind"]})


def test_an_incident_is_seen_while_one_replica_is_gone(rules):
    story = Story().then(replicas(OK, OK), 3).then(replicas(None, OK), 3)
    story = story.then(replicas(None, BAD), 10)
    rules.fire(story, {5: NOTHING, 7: INCIDENT, 15: INCIDENT})


def test_replicas_of_one_shard_are_one(rules):
    others = {name: value for name, value in on_shards().items() if "promad-0:8001" not in name}
    both = replicas(scrape_fleet(SHARDS[0], [1]), scrape_fleet(SHARDS[0], [1, 2]), shard=0)
    story = Story().then({**others, **both}, 10)
    rules.fire(story, {8: INCIDENT})
    groups = names.INCIDENT_GROUPS.full_name(PREFIX)
    name = f'scope:{groups}:sum{{job="promad", detector="d0"}}'
    rules.yield_samples(story, 8, f"scope:{groups}:sum", {name: 2.0})


def test_incidents_of_two_scopes_stay_apart(tmp_path):
    rules = write_rules(
        tmp_path, group_by=["instance", "datacenter"], incidents={"scope": ["datacenter"]}
    )
    name = f'{names.INCIDENT_OPEN.full_name(PREFIX)}{{job="promad", instance="%s", detector="d0"'
    series = {
        f'{name % f"promad-{number}:8001"}, datacenter="{place}"}}': 1.0
        for number in range(2)
        for place in ("eu", "us")
    }
    since = {name.replace("_open", "_since_timestamp_seconds"): START for name in series}
    rules.fire(Story().then({**on_shards(), **series, **since}, 3), {2: INCIDENT * 2})

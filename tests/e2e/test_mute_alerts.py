"""Alerts and `mute`: none fires about what is muted, and all fire once it is not any more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from promad.config import Config
from promad.exposition import collect_fleets
from promad.exposition.columns import IncidentColumns
from promad.exposition.fleet import FleetSnapshot
from promad.mixin.alerts import AlertScope
from promad.mixin.deployment import Deployment
from promad.mixin.writing import build_rule_files
from tests.support.fleet_snapshots import make_incident_snapshot
from tests.support.promtool import RuleTest, Scrape, Story
from tests.support.scrapes import ANOMALOUS, JUDGED, OK, PREFIX, TARGET, scrape, selector

SEVERE = replace(ANOMALOUS, verdict=replace(JUDGED, score=12.0), muted=False)
NOTHING: list[str] = []


def write_rules(
    directory: Path, scope: AlertScope = AlertScope.INCIDENTS, **keys: object
) -> RuleTest:
    config = Config.model_validate({"name": "d0", "queries": {"cpu": "up"}, **keys})
    path = directory / "alerts.yaml"
    files = build_rule_files(Deployment.from_configs([config], "promad"), scope)
    path.write_text(files["prometheus/promad-alerts.yaml"], encoding="utf-8")
    return RuleTest(directory, path)


def test_a_muted_event_fires_once_the_mute_ends(tmp_path: Path) -> None:
    muted, after = scrape(replace(SEVERE, muted=True)), scrape(SEVERE)
    ok = scrape(replace(OK, muted=False))
    story = Story().then(ok, 2).then(muted, 30).then(after, 10).then(ok, 15)
    both = ["PromadAnomaly", "PromadAnomalySevere"]
    expected = {1: NOTHING, 3: NOTHING, 31: NOTHING, 32: ["PromadAnomaly"], 40: both, 56: NOTHING}
    write_rules(tmp_path).fire(story, expected)


def test_a_muted_event_that_is_over_in_time_fires_nothing(tmp_path: Path) -> None:
    ok, muted = scrape(replace(OK, muted=False)), scrape(replace(SEVERE, muted=True))
    story = Story().then(ok, 2).then(muted, 30).then(ok, 15)
    write_rules(tmp_path).fire(story, dict.fromkeys((3, 20, 31, 32, 46), NOTHING))


def scrape_incident(muted: bool) -> Scrape:
    """Two hosts of three with an open incident."""
    snapshot = make_incident_snapshot()
    groups = {
        member.group for incident in snapshot.incidents.open for member in incident.members if muted
    }
    columns = replace(
        snapshot.columns,
        score=snapshot.columns.threshold * 4,
        muted=np.array([muted, muted, True]),
    )
    shown = FleetSnapshot(
        "d0",
        PREFIX,
        columns,
        IncidentColumns(snapshot.incidents.open, muted_groups=frozenset(groups)),
        (),
        1000,
        snapshot.build_status,
    )
    daemon = {name: value for name, value in scrape(OK).items() if not name.startswith(PREFIX)}
    samples = [sample for family in collect_fleets([shown]) for sample in family.samples]
    return daemon | {
        selector(each.name, {**TARGET, **each.labels}): (
            each.value if "last_successful" not in each.name else lambda at: at
        )
        for each in samples
    }


@pytest.mark.parametrize(
    ("scope", "firing"),
    [
        (AlertScope.INCIDENTS, ["PromadIncident", "PromadIncidentSevere"]),
        (AlertScope.PER_GROUP, [*["PromadAnomaly"] * 2, *["PromadAnomalySevere"] * 2]),
    ],
)
def test_a_muted_incident_fires_once_a_group_is_muted_no_more(
    tmp_path: Path, scope: AlertScope, firing: list[str]
) -> None:
    rules = write_rules(tmp_path, scope, group_by=["instance", "zone"])
    story = Story().then(scrape_incident(muted=True), 20).then(scrape_incident(muted=False), 10)
    rules.fire(story, {1: NOTHING, 10: NOTHING, 19.5: NOTHING, 25: firing})

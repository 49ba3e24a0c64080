"""The REST API of a fleet: the list a page at a time, what changed, peers, incidents."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from starlette.testclient import TestClient

from promad.data.groups import name_group
from promad.detection.running_detector import RunningDetector
from promad.events.verdict import STATES, State
from promad.exposition.fleet import FleetSnapshot
from promad.web.app import build_app
from tests.support.served import NOW, close_logs
from tests.support.served_fleet import (
    create_fleet_groups,
    create_fleet_snapshot,
    create_running_fleet,
    log_incidents,
)

HOSTS = 300
ODD, BLIND, NEW = (17, 140, 270), (5, 6), (17, 30)


class Fleet:
    """A fleet and its API; counts for which groups a status was built."""

    def __init__(self, served: RunningDetector) -> None:
        self.served, self.built = served, 0
        self.snapshot = self._count(served.snapshot())
        running = [replace(served, snapshot=lambda: self.snapshot)]
        app = build_app(CollectorRegistry(), lambda: running, lambda: True, now=lambda: NOW)
        self.client = TestClient(app)

    def _count(self, snapshot: Any) -> FleetSnapshot:
        def build(row: int) -> Any:
            self.built += 1
            return snapshot.build_status(row)

        return replace(snapshot, build_status=build)

    def show(self, states: dict[int, State], hosts: int = HOSTS) -> None:
        """Another tick, with these states of groups; the others are ok."""
        numbers = np.full(hosts, STATES.index(State.OK), np.uint8)
        for row, state in states.items():
            numbers[row] = STATES.index(state)
        self.snapshot = self._count(create_fleet_snapshot(create_fleet_groups(hosts), numbers))

    def get(self, path: str, **params: Any) -> Any:
        answer = self.client.get(f"/api/v1/{path}", params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def list_names(self, **params: Any) -> list[str]:
        return [each["labels"]["instance"][5:9] for each in self.get("groups", **params)["groups"]]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    served = create_running_fleet(tmp_path, groups=HOSTS, anomalous=ODD, blind=BLIND, pooled=NEW)
    yield Fleet(served)
    close_logs([served])


def name_of(number: int) -> str:
    return name_group("promad", create_fleet_groups(number + 1)[number])


# The list


def test_a_page_of_the_list_is_worst_first_and_builds_no_other_group(fleet: Fleet) -> None:
    answer = fleet.get("groups", limit=20)
    assert fleet.built == 20
    names = [each["group"] for each in answer["groups"]]
    assert names[:5] == [name_of(270), name_of(140), name_of(17), name_of(5), name_of(6)]
    scores = [each["score"] for each in answer["groups"][5:]]
    assert min(scores) >= 0.4
    assert names[5:] == sorted(names[5:])
    assert (answer["total"], answer["matching"]) == (HOSTS, HOSTS)
    assert answer["counts"] == {"warming": 0, "ok": 295, "anomalous": 3, "blind": 2}
    assert (answer["detectors"], answer["selected"]) == (["promad"], None)


def test_pages_follow_each_other(fleet: Fleet) -> None:
    whole = fleet.list_names(sort="name")
    assert whole == [f"{number:04d}" for number in range(HOSTS)]
    paged = [
        name
        for offset in range(0, HOSTS, 120)
        for name in fleet.list_names(sort="name", limit=120, offset=offset)
    ]
    assert paged == whole
    assert fleet.list_names(limit=10, offset=HOSTS) == []


def test_groups_are_sorted_by_score(fleet: Fleet) -> None:
    groups = fleet.get("groups", sort="score")["groups"]
    scores = [each["score"] for each in groups]
    assert scores[:298] == sorted(scores[:298], reverse=True)
    assert scores[298:] == [None, None]


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("HOST-0017", ["0017"]),
        ("blind", ["0005", "0006"]),
        ("cpu", ["0270", "0140", "0017"]),
        ("cpu r7", ["0017"]),
        ("memory", []),
        ("nothing like it", []),
    ],
)
def test_a_search_is_for_words_in_name_state_and_leading_features(
    fleet: Fleet, search: str, found: list[str]
) -> None:
    assert fleet.list_names(search=search) == found


def test_chips_count_what_a_search_finds_and_the_page_what_matches_both(fleet: Fleet) -> None:
    answer = fleet.get("groups", search="host-000", state="blind", limit=1)
    assert answer["counts"] == {"warming": 0, "ok": 8, "anomalous": 0, "blind": 2}
    assert answer["states"] == {"warming": 0, "ok": 295, "anomalous": 3, "blind": 2}
    assert (answer["total"], answer["matching"], len(answer["groups"])) == (HOSTS, 2, 1)


def test_one_group_is_found_without_building_the_others(fleet: Fleet) -> None:
    detail = fleet.get("group", group=name_of(30))
    assert fleet.built == 1
    assert (detail["group"]["calibration"], detail["peers"]) == ("pooled", HOSTS - 1)
    assert fleet.get("group", group=name_of(31))["group"]["calibration"] == "own"
    answer = fleet.get("groups", limit=1, group=name_of(31))
    assert answer["selected"]["group"] == name_of(31)
    assert fleet.get("groups", limit=1, group="nothing")["selected"] is None
    refusal = fleet.client.get("/api/v1/group").json()["detail"]
    assert refusal.startswith('group is required — available groups: promad{instance="host-0000')
    assert refusal.endswith("and 295 more, see GET /api/v1/groups")


def test_a_fleet_without_groups_is_not_a_daemon_that_starts(fleet: Fleet) -> None:
    fleet.show({}, hosts=0)
    assert fleet.get("groups", search="a")["total"] == 0
    answer = fleet.client.get("/api/v1/group")
    assert (answer.status_code, answer.json()["detail"]) == (
        503,
        "no group is monitored yet — wait until a query returns series",
    )


@pytest.mark.parametrize(
    ("params", "refusal"),
    [
        ({"sort": "age"}, "sort is \"age\" — it should be 'worst', 'name' or 'score'"),
        ({"since": "yesterday"}, 'since is "yesterday" — '),
        ({"offset": -1}, 'offset is "-1" — '),
    ],
)
def test_a_parameter_that_makes_no_sense_is_named(
    fleet: Fleet, params: dict[str, Any], refusal: str
) -> None:
    answer = fleet.client.get("/api/v1/groups", params=params)
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith(refusal)


def test_changes_do_not_come_in_pages(fleet: Fleet) -> None:
    answer = fleet.client.get("/api/v1/groups", params={"since": "00000000.1", "limit": 5})
    assert answer.status_code == 422
    assert answer.json()["detail"] == "since returns all changes — omit limit and offset"


# What changed


def test_only_groups_that_changed_are_returned_since_a_token(fleet: Fleet) -> None:
    fleet.show({17: State.ANOMALOUS, 5: State.BLIND})
    before = fleet.get("groups", limit=1)
    assert before["delta"] is False
    same = fleet.get("groups", since=before["token"])
    assert (same["delta"], same["groups"], same["gone"]) == (True, [], [])
    fleet.show({17: State.ANOMALOUS, 6: State.BLIND})
    after = fleet.get("groups", since=before["token"])
    changed = {each["group"]: each["state"] for each in after["groups"]}
    assert changed == {name_of(5): "ok", name_of(6): "blind"}
    assert (after["total"], after["counts"]["blind"]) == (HOSTS, 1)
    assert fleet.get("groups", since=after["token"])["groups"] == []
    assert len(fleet.get("groups", since=before["token"])["groups"]) == 2


def test_groups_that_left_or_match_no_more_are_gone(fleet: Fleet) -> None:
    fleet.show({5: State.BLIND})
    token = fleet.get("groups")["token"]
    fleet.show({}, hosts=HOSTS - 1)
    answer = fleet.get("groups", state="blind", since=token)
    assert (answer["groups"], set(answer["gone"])) == ([], {name_of(HOSTS - 1), name_of(5)})
    fleet.show({}, hosts=HOSTS)
    again = fleet.get("groups", since=token)
    assert {each["group"] for each in again["groups"]} == {name_of(HOSTS - 1), name_of(5)}
    assert again["gone"] == []


def test_an_unknown_token_yields_the_whole_list(fleet: Fleet) -> None:
    answer = fleet.get("groups", since="0123abcd.7")
    assert (answer["delta"], len(answer["groups"])) == (False, HOSTS)
    epoch = answer["token"].partition(".")[0]
    assert fleet.get("groups", since=f"{epoch}.99")["delta"] is False


# Peers


def test_a_group_is_compared_with_the_other_groups(fleet: Fleet) -> None:
    answer = fleet.get("peers", group=name_of(17), limit=2)
    assert (answer["group"], answer["at"], answer["peers"]) == (name_of(17), NOW, HOSTS - 1)
    first, second = answer["features"]
    assert (first["name"], first["contribution"], first["value"]) == ("cpu", 1.0, 50.0)
    columns = fleet.snapshot.columns
    others = np.delete(columns.features[:, 0, 2], 17)
    others = others[~np.isnan(others)]
    quartiles = [first[key] for key in ("lower_quartile", "median", "upper_quartile")]
    assert quartiles == pytest.approx(np.percentile(others, [25, 50, 75]))
    assert first["peers"] == len(others) == HOSTS - 1 - len(BLIND)
    assert first["share_below"] == pytest.approx((others < 50).mean())
    assert second["contribution"] == 0
    assert answer["score"]["value"] > 2 > answer["score"]["median"]


def test_a_blind_group_has_no_value_and_a_lonely_one_no_peers(fleet: Fleet) -> None:
    blind = fleet.get("peers", group=name_of(5))
    assert (blind["score"]["value"], blind["score"]["share_below"]) == (None, None)
    assert blind["score"]["median"] is not None
    fleet.show({}, hosts=1)
    alone = fleet.get("peers")
    assert (alone["peers"], alone["score"]["peers"], alone["score"]["median"]) == (0, 0, None)


# Incidents


def test_events_name_their_incident_and_their_labels(fleet: Fleet) -> None:
    (incident,) = log_incidents(fleet.served)
    events = fleet.get("events", open="true")["events"]
    assert {event["incident"] for event in events} == {incident}
    assert events[0]["labels"]["rack"] in {"r0", "r7"}
    assert fleet.get(f"events/{events[0]['id']}")["incident"] == incident
    assert {each["incident"] for each in fleet.get("events", open="false")["events"]} == {None}


def test_members_of_a_large_incident_come_a_page_at_a_time(tmp_path: Path) -> None:
    served = create_running_fleet(tmp_path, groups=600, anomalous=range(500))
    fleet = Fleet(served)
    ((incident, groups),) = log_incidents(served).items()
    first = fleet.get(f"incidents/{incident}")
    assert (groups, first["incident"]["groups"], len(first["members"])) == (500, 500, 100)
    members = [
        member["group"]
        for offset in range(0, 600, 200)
        for member in fleet.get(f"incidents/{incident}", limit=200, offset=offset)["members"]
    ]
    assert len(members) == len(set(members)) == 500
    close_logs([served])

"""`web.peers`: the answers of all shards as one, and what is shown of a shard that is silent."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promad.config import PeerSettings, WebSettings
from promad.prometheus.transport import Reply
from promad.shards import SilentError
from promad.web.limits import RequestQueue
from promad.web.schemas import IncidentAnswer, IncidentPage
from promad.web.shard_merging import merge_incidents
from tests.support.served import NOW
from tests.support.served_shards import ShardedFleet, name_url

ODD, BLIND = (3, 7, 12, 20, 33, 41, 58), (5, 6, 30)
HOSTS = 60
FIRST, SECOND, THIRD = map(name_url, range(3))
REFUSED = "connection failed (Connection refused)"


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[ShardedFleet]:
    fleet = ShardedFleet(tmp_path, groups=HOSTS, anomalous=ODD, blind=BLIND)
    yield fleet
    fleet.close()


@pytest.fixture
def replicas(tmp_path: Path) -> Iterator[ShardedFleet]:
    fleet = ShardedFleet(tmp_path, groups=HOSTS, replicas=2, anomalous=ODD, blind=BLIND)
    yield fleet
    fleet.close()


def list_names(answer: Any) -> list[str]:
    return [each["group"] for each in answer["groups"]]


def list_silent(answer: Any) -> list[int]:
    return [each["shard"] for each in answer["shards"] if not each["responds"]]


# The merged list


@pytest.mark.parametrize("sort", ["worst", "score", "name"])
@pytest.mark.parametrize("asked", range(3))
def test_the_order_is_that_of_one_daemon_with_all_groups(
    fleet: ShardedFleet, sort: str, asked: int
) -> None:
    whole = fleet.get_whole("groups", sort=sort)
    merged = fleet.get(asked, "shards/groups", sort=sort)
    assert list_names(merged) == list_names(whole)
    assert list_silent(merged) == []
    without = [{**each, "shard": None} for each in merged["groups"]]
    assert without == [{**each, "shard": None} for each in whole["groups"]]


@pytest.mark.parametrize(
    "query",
    [{}, {"limit": 4}, {"search": "host-000"}, {"state": "blind"}, {"search": "cpu", "limit": 1}],
)
def test_counts_are_sums_and_a_page_is_that_of_one_daemon(
    fleet: ShardedFleet, query: dict[str, Any]
) -> None:
    whole, merged = fleet.get_whole("groups", **query), fleet.get(1, "shards/groups", **query)
    assert list_names(merged) == list_names(whole)[:100]
    for key in ("total", "matching", "states", "counts", "detectors", "version", "selected"):
        assert merged[key] == whole[key], key


def test_each_group_has_its_shard(fleet: ShardedFleet) -> None:
    for row in fleet.get(2, "shards/groups")["groups"]:
        assert row["shard"] == fleet.find_shard(row["group"])


def test_a_group_that_is_named_is_selected_wherever_it_is(fleet: ShardedFleet) -> None:
    for name in list_names(fleet.get_whole("groups", limit=5)):
        chosen = fleet.get(0, "shards/groups", limit=1, group=name)["selected"]
        assert (chosen["group"], chosen["shard"]) == (name, fleet.find_shard(name))
    assert fleet.get(0, "shards/groups", group="nothing")["selected"] is None


def test_the_list_of_one_daemon_names_its_shard_and_whether_there_is_a_merged_one(
    fleet: ShardedFleet,
) -> None:
    own = fleet.get(1, "groups", limit=1)
    assert (own["shard"], own["shard_count"], own["merges"]) == (1, 3, True)
    fleet.settings[SECOND] = WebSettings()
    assert fleet.get(1, "groups", limit=1)["merges"] is False
    whole = fleet.get_whole("groups", limit=1)
    assert (whole["shard"], whole["shard_count"], whole["merges"]) == (None, None, False)


# No circles, and no request without a reason


def test_a_daemon_that_is_asked_by_another_asks_nobody(fleet: ShardedFleet) -> None:
    fleet.get(0, "shards/groups")
    first = fleet.network.take_asked()
    groups = "api/v1/groups"  # the overview of each, and then the lists of the others
    assert sorted(first) == sorted([(url, groups) for url in (FIRST, *[SECOND, THIRD] * 2)])
    fleet.get(0, "shards/groups")
    assert sorted(fleet.network.take_asked()) == [(SECOND, groups), (THIRD, groups)]


def test_without_someone_who_looks_nobody_is_asked(fleet: ShardedFleet) -> None:
    fleet.get(0, "groups")
    fleet.get(0, "incidents")
    assert fleet.clients[FIRST].get("/metrics").status_code == 200
    assert fleet.network.take_asked() == []


def test_which_shard_a_daemon_has_is_asked_again_after_a_while(fleet: ShardedFleet) -> None:
    fleet.get(0, "shards/groups")
    swapped = {SECOND: fleet.network.answers[THIRD], THIRD: fleet.network.answers[SECOND]}
    fleet.network.answers |= swapped
    fleet.time.pass_by(31)
    merged = fleet.get(0, "shards/groups")
    assert [each["url"] for each in merged["shards"]] == [FIRST, THIRD, SECOND]
    assert list_names(merged) == list_names(fleet.get_whole("groups"))


# A shard that does not respond


def test_groups_of_a_silent_shard_are_absent_and_said_to_be(fleet: ShardedFleet) -> None:
    whole = fleet.get(0, "shards/groups")
    fleet.time.pass_by(10)
    fleet.network.silence(SECOND)
    merged = fleet.get(0, "shards/groups")
    assert list_silent(merged) == [1]
    assert merged["shards"][1] == {
        "shard": 1,
        "own": False,
        "url": SECOND,
        "responds": False,
        "since": NOW + 10,
        "error": REFUSED,
    }
    left = [each["group"] for each in whole["groups"] if each["shard"] != 1]
    assert list_names(merged) == left
    assert (merged["total"], sum(merged["states"].values())) == (len(left), len(left))


def test_a_shard_that_has_never_responded_is_not_known_by_its_url(fleet: ShardedFleet) -> None:
    fleet.network.silence(THIRD)
    merged = fleet.get(0, "shards/groups")
    assert list_silent(merged) == [2]
    silent = merged["shards"][2]
    assert (silent["url"], silent["since"]) == (None, NOW)
    assert silent["error"] == f"{THIRD}: {REFUSED}"
    fleet.settings[FIRST] = WebSettings(peers=(FIRST, SECOND))
    error = fleet.get(0, "shards/groups")["shards"][2]["error"]
    assert error == "no daemon in web.peers has this shard"


def test_a_silent_shard_is_asked_less_and_less_often_until_it_responds(
    fleet: ShardedFleet,
) -> None:
    fleet.get(0, "shards/groups")
    fleet.network.silence(SECOND)
    fleet.get(0, "shards/groups")
    fleet.network.take_asked()
    tries = []
    for second in range(1, 121):
        fleet.time.pass_by(1)
        assert list_silent(fleet.get(0, "shards/groups")) == [1]
        tries += [second for url, _ in fleet.network.take_asked() if url == SECOND]
    assert tries == [5, 15, 35, 65, 95]
    fleet.network.restore(SECOND)
    fleet.time.pass_by(6)
    assert list_silent(fleet.get(0, "shards/groups")) == []


def test_one_group_is_not_the_only_one_while_a_shard_is_silent(tmp_path: Path) -> None:
    fleet = ShardedFleet(tmp_path, groups=1, shards=2)
    owner = 0 if fleet.get(0, "groups")["total"] else 1
    assert fleet.get(owner, "shards/groups")["selected"]["shard"] == owner
    fleet.network.silence(name_url(1 - owner))
    assert fleet.get(owner, "shards/groups")["selected"] is None
    fleet.close()


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (200, "<html>", "unusable answer (the body: Invalid JSON"),
        (200, '{"version": "9"}', "unusable answer (token: Field required) — check that it is"),
        (401, '{"detail": "a password is required"}', "HTTP 401 (a password is required)"),
        (502, "<html>Bad gateway", "HTTP 502 (Bad Gateway)"),
    ],
)
def test_an_answer_that_is_not_of_promad_is_an_error_of_its_shard(
    fleet: ShardedFleet, status: int, body: str, error: str
) -> None:
    reason = {502: "Bad Gateway"}.get(status, "")
    fleet.network.answers[THIRD] = lambda target: Reply(status, reason, body.encode())
    merged = fleet.get(0, "shards/groups")
    assert list_silent(merged) == [2]
    assert merged["shards"][2]["error"].startswith(f"{THIRD}: {error}")


def test_a_newer_version_is_merged_as_far_as_its_answer_parses(fleet: ShardedFleet) -> None:
    answer = fleet.network.answers[SECOND]

    def answer_newer(target: str) -> Reply:
        body = json.loads(answer(target).body)
        groups = [{**each, "colour": "red"} for each in body["groups"]]
        new = {**body, "groups": groups, "version": "9.0", "moon": "full"}
        return Reply(200, "OK", json.dumps(new).encode())

    fleet.network.answers[SECOND] = answer_newer
    assert list_names(fleet.get(0, "shards/groups")) == list_names(fleet.get_whole("groups"))
    assert [each["version"] for each in fleet.get(0, "shards")["shards"]][1] == "9.0"


def test_a_list_that_does_not_parse_is_an_error_of_its_shard(fleet: ShardedFleet) -> None:
    answer = fleet.network.answers[SECOND]

    def answer_oddly(target: str) -> Reply:
        body = json.loads(answer(target).body)
        groups = [{**each, "state": "sleepy"} for each in body["groups"]]
        return Reply(200, "OK", json.dumps({**body, "groups": groups}).encode())

    fleet.get(0, "shards/groups")
    fleet.network.answers[SECOND] = answer_oddly
    merged = fleet.get(0, "shards/groups")
    assert list_silent(merged) == [1]
    assert merged["shards"][1]["error"].startswith("unusable answer (groups.0.state: ")


def test_a_shard_that_starts_is_not_one_without_groups(fleet: ShardedFleet) -> None:
    del fleet.running[SECOND]
    merged = fleet.get(0, "shards/groups")
    assert merged["shards"][1]["error"] == f"{SECOND}: no detector is running yet"
    assert fleet.ask(1, "shards/groups").status_code == 503


def test_a_daemon_of_another_number_of_shards_is_not_merged(tmp_path: Path) -> None:
    fleet = ShardedFleet(tmp_path, groups=HOSTS, shards=2)
    (tmp_path / "other").mkdir()
    other = ShardedFleet(tmp_path / "other", groups=HOSTS, shards=3)
    fleet.network.answers[SECOND] = other.network.answers[SECOND]
    error = fleet.get(0, "shards/groups")["shards"][1]["error"]
    assert error == (
        f"{SECOND}: has shard 1/3, this daemon has 0/2 — start all daemons with the same number of "
        "shards"
    )
    fleet.network.answers[SECOND] = lambda target: Reply(
        200, "OK", fleet.whole.get(f"/{target}").content
    )
    fleet.time.pass_by(60)
    error = fleet.get(0, "shards/groups")["shards"][1]["error"]
    assert error == f"{SECOND}: has no shard — start it with --shard"
    fleet.close()
    other.close()


# Replicas


def test_of_replicas_the_first_that_responds_is_used(replicas: ShardedFleet) -> None:
    whole = list_names(replicas.get_whole("groups"))
    merged = replicas.get(0, "shards/groups")
    assert [each["url"] for each in merged["shards"]] == [FIRST, SECOND, THIRD]
    assert list_names(merged) == whole
    replicas.network.silence(SECOND)
    merged = replicas.get(0, "shards/groups")
    assert [each["url"] for each in merged["shards"]] == [FIRST, f"{name_url(1, 'b')}", THIRD]
    assert (list_names(merged), list_silent(merged)) == (whole, [])
    replicas.network.silence(name_url(1, "b"))
    assert list_silent(replicas.get(0, "shards/groups")) == [1]


def test_all_shards_are_listed_with_their_daemons(replicas: ShardedFleet) -> None:
    replicas.get(0, "shards")
    replicas.network.silence(SECOND, THIRD, name_url(2, "b"))
    answer = replicas.get(0, "shards")
    groups = {each["shard"]: each["total"] for each in answer["shards"]}
    assert groups[2] is None
    assert [each["responds"] for each in answer["shards"]] == [True, True, False]
    assert groups[0] == replicas.get(0, "groups")["total"]
    for number in (0, 1):
        states = replicas.get(number, "groups")["states"]
        assert answer["shards"][number]["states"] == states
    daemons = {each["url"]: each for each in answer["daemons"]}
    assert list(daemons) == list(replicas.urls)
    assert [url for url, each in daemons.items() if each["own"]] == [FIRST]
    assert (daemons[SECOND]["responds"], daemons[SECOND]["error"]) == (False, REFUSED)
    assert (daemons[SECOND]["shard"], daemons[name_url(0, "b")]["shard"]) == (1, 0)


# Incidents


def list_incidents(answer: Any) -> list[tuple[float, str]]:
    return [(each["start"], each["id"]) for each in answer["incidents"]]


def test_incidents_are_listed_with_their_shard_newest_first(fleet: ShardedFleet) -> None:
    merged = fleet.get(0, "shards/incidents")
    assert list_incidents(merged) == sorted(list_incidents(merged), reverse=True)
    own = [
        (number, each["id"])
        for number in range(3)
        for each in fleet.get(number, "incidents")["incidents"]
    ]
    found = [(each["shard"], each["id"]) for each in merged["incidents"]]
    assert sorted(found) == sorted(own)
    assert len(found) > 1
    assert sum(each["groups"] for each in merged["incidents"]) == len(ODD)
    fleet.network.silence(THIRD)
    merged = fleet.get(0, "shards/incidents", open=True)
    assert list_silent(merged) == [2]
    assert {each["shard"] for each in merged["incidents"]} <= {0, 1}


def test_pages_of_incidents_have_each_part_once(fleet: ShardedFleet) -> None:
    whole = fleet.get(0, "shards/incidents")
    assert whole["next"] is None
    found, cursor = [], None
    for _ in range(20):
        page = fleet.get(0, "shards/incidents", limit=1, **({"cursor": cursor} if cursor else {}))
        found += page["incidents"]
        cursor = page["next"]
        if cursor is None:
            break
    assert found == whole["incidents"]


# Requests about one group


def forwarded(fleet: ShardedFleet) -> Iterator[tuple[str, dict[str, Any]]]:
    group = next(each["group"] for each in fleet.get(1, "groups", limit=1)["groups"])
    yield "group", {"group": group}
    yield "peers", {"group": group, "limit": 2}
    yield "history", {"group": group, "start": NOW - 100, "features": "cpu"}
    yield "explain", {"group": group}
    yield "events", {"group": group, "open": True}
    yield "markers", {"group": group}
    (incident, *_) = fleet.get(1, "incidents")["incidents"]
    yield f"incidents/{incident['id']}", {"limit": 2}


def test_a_request_is_answered_by_its_shard(fleet: ShardedFleet) -> None:
    for path, params in forwarded(fleet):
        plain = fleet.get(1, path, **params)
        fleet.get(0, "shards/groups")
        fleet.network.take_asked()
        assert fleet.get(0, f"shards/1/{path}", **params) == plain
        assert fleet.network.take_asked() == [(SECOND, f"api/v1/{path}")]
        assert fleet.get(1, f"shards/1/{path}", **params) == plain
        asked = {each for each in fleet.network.take_asked() if each != (SECOND, "api/v1/groups")}
        assert f"api/v1/{path}" not in {target for _, target in asked}


def test_a_refusal_of_the_other_side_has_its_status_and_its_words(fleet: ShardedFleet) -> None:
    for path, params, status in (
        ("group", {"group": "nothing"}, 404),
        ("group", {}, 400),
        ("incidents/000000000000", {}, 404),
    ):
        plain, passed = fleet.ask(2, path, **params), fleet.ask(0, f"shards/2/{path}", **params)
        assert (passed.status_code, passed.json()) == (status, plain.json())
    assert fleet.ask(0, "shards/2/peers", limit=0).status_code == 400
    assert list_silent(fleet.get(0, "shards/groups")) == []


@pytest.mark.parametrize(("timed_out", "status"), [(False, 502), (True, 504)])
def test_a_shard_that_does_not_respond_is_named_with_its_url(
    fleet: ShardedFleet, timed_out: bool, status: int
) -> None:
    fleet.get(0, "shards/groups")
    fleet.network.silence(SECOND, timed_out=timed_out)
    for _ in range(2):
        refusal = fleet.ask(0, "shards/1/group", group="any")
        words = "no response within 3 s" if timed_out else REFUSED
        assert (refusal.status_code, refusal.json()["detail"]) == (
            status,
            f"shard 1 ({SECOND}): {words}",
        )


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(401, "", b'{"detail": "a password"}'), "HTTP 401 (a password)"),
        (Reply(200, "OK", b"<html>"), "unusable answer (the body: Invalid JSON"),
        (Reply(304, "Not Modified", b""), "HTTP 304 (Not Modified)"),
        (Reply(500, "Oh", b"<html>"), "HTTP 500 (Oh)"),
    ],
)
def test_what_is_no_answer_of_promad_is_a_bad_gateway(
    fleet: ShardedFleet, reply: Reply, words: str
) -> None:
    fleet.get(0, "shards/groups")
    fleet.network.answers[SECOND] = lambda target: reply
    refusal = fleet.ask(0, "shards/1/group", group="any")
    assert refusal.status_code == 502
    assert refusal.json()["detail"].startswith(f"shard 1 ({SECOND}): {words}")


@pytest.mark.parametrize(
    "path",
    [
        "shards/3/group",
        "shards/-1/group",
        "shards/1/config",
        "shards/1/shards",
        "shards/1/groups",
        "shards/1/incidents/..%2F..%2Fconfig",
    ],
)
def test_only_known_requests_are_sent_to_known_shards(fleet: ShardedFleet, path: str) -> None:
    fleet.get(0, "shards/groups")
    fleet.network.take_asked()
    assert fleet.ask(0, path).status_code == 404
    assert {target for _, target in fleet.network.take_asked()} <= {
        "api/v1/incidents/..%2F..%2Fconfig"
    }


# The configuration


def test_a_reload_asks_the_daemons_of_the_new_configuration(fleet: ShardedFleet) -> None:
    fleet.get(0, "shards/groups")
    fleet.network.take_asked()
    fleet.settings[FIRST] = WebSettings(
        peers=(FIRST, SECOND), peers_http_config=PeerSettings(timeout="2s")
    )
    merged = fleet.get(0, "shards/groups")
    asked = fleet.network.take_asked()
    assert [url for url, target in asked if target == "closed"] == [FIRST, SECOND, THIRD]
    assert (list_silent(merged), THIRD not in {url for url, target in asked[3:]}) == ([2], True)
    fleet.settings[FIRST] = WebSettings()
    refusal = fleet.ask(0, "shards/groups")
    assert refusal.status_code == 404
    assert refusal.json()["detail"].startswith("web.peers is not set")


def test_a_daemon_with_all_groups_has_no_shards(fleet: ShardedFleet) -> None:
    refusal = fleet.whole.get("/api/v1/shards")
    assert refusal.status_code == 404
    assert refusal.json()["detail"].startswith("this daemon has all groups")


def test_requests_are_counted_by_url_and_result(fleet: ShardedFleet) -> None:
    assert b"promad_web_peer_requests_total{" not in fleet.clients[FIRST].get("/metrics").content
    fleet.network.silence(THIRD)
    fleet.get(0, "shards/groups")
    text = fleet.clients[FIRST].get("/metrics").text
    for url, result, count in (
        (FIRST, "success", 1),
        (SECOND, "success", 2),
        (SECOND, "failure", 0),
        (THIRD, "failure", 1),
    ):
        series = f'promad_web_peer_requests_total{{result="{result}",url="{url}"}} {count}.0'
        assert series in text, text


def test_requests_that_come_while_a_silent_shard_is_tried_share_how_that_ends(
    fleet: ShardedFleet,
) -> None:
    fleet.get(0, "shards/groups")
    fleet.network.silence(SECOND)
    fleet.get(0, "shards/groups")
    fleet.network.restore(SECOND)
    fleet.time.pass_by(6)
    begun, goes_on = threading.Event(), threading.Event()
    answer = fleet.network.answers[SECOND]

    def answer_late(target: str) -> Reply:
        begun.set()
        goes_on.wait(30)
        return answer(target)

    fleet.network.answers[SECOND] = answer_late
    with ThreadPoolExecutor() as threads:
        first = threads.submit(fleet.get, 0, "shards/groups")
        assert begun.wait(30)
        second = threads.submit(fleet.get, 0, "shards/incidents")
        goes_on.set()
        assert (list_silent(first.result()), list_silent(second.result())) == ([], [])


def test_only_some_requests_wait_for_other_shards_and_the_others_are_answered(
    fleet: ShardedFleet,
) -> None:
    fleet.get(0, "shards/groups")
    fleet.apps[FIRST].state.shard_queue = RequestQueue(1, 0, "shard")
    begun, goes_on = threading.Event(), threading.Event()

    def answer_late(target: str) -> Reply:
        begun.set()
        goes_on.wait(30)
        raise SilentError("gone")

    fleet.network.answers[SECOND] = answer_late
    with ThreadPoolExecutor() as threads:
        first = threads.submit(fleet.get, 0, "shards/groups")
        assert begun.wait(30)
        refusal = fleet.ask(0, "shards/groups")
        assert (refusal.status_code, refusal.json()["detail"]) == (
            503,
            "too many shard requests — retry later",
        )
        assert fleet.get(0, "groups")["total"] > 0
        goes_on.set()
        assert list_silent(first.result()) == [1]


# Pages of incidents


def make_page(parts: list[tuple[float, str]], limit: int, below: Any = None) -> IncidentPage:
    """The page of one shard that has these incidents, below a place."""
    left = sorted((part for part in parts if below is None or part < below), reverse=True)
    rows = [IncidentAnswer.model_construct(start=start, id=id_) for start, id_ in left[:limit]]
    return IncidentPage.model_construct(incidents=rows, next="more" if left[limit:] else None)


@given(
    st.lists(
        st.sets(st.tuples(st.integers(0, 6).map(float), st.sampled_from(["aa", "bb"]))),
        min_size=1,
        max_size=4,
    ),
    st.integers(1, 5),
)
def test_pages_have_each_part_of_each_shard_once_and_in_order(
    shards: list[set[tuple[float, str]]], limit: int
) -> None:
    found, below = [], None
    while True:
        pages = {
            number: make_page(sorted(parts), limit, below) for number, parts in enumerate(shards)
        }
        merged, cursor = merge_incidents(pages, limit)
        found += [(each.start, each.id, each.shard) for each in merged]
        assert len(merged) <= limit + len(shards) - 1
        if cursor is None:
            break
        start, _, id_ = cursor.rpartition("-")
        below = float(start), id_
    whole = [(*part, number) for number, parts in enumerate(shards) for part in parts]
    assert found == sorted(whole, key=lambda each: (each[0], each[1], -each[2]), reverse=True)

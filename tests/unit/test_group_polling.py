"""A poll of groups keeps each group apart: what happens to one concerns no other."""

from __future__ import annotations

import numpy as np
import pytest

from promad.config import PrometheusSettings
from promad.config.settings import RelabelConfig
from promad.data.groups import Grouping
from promad.data.relabeling import RelabelRule
from promad.prometheus import PrometheusClient
from promad.prometheus.groups.freshness import build_stale_query
from promad.prometheus.groups.membership import fill_holes
from promad.prometheus.groups.options import PollOptions
from promad.prometheus.groups.polling import GroupPoller
from promad.prometheus.groups.rows import GroupRows
from tests.support.prometheus_stub import Say, curves, stub_server

STEP = 30.0
AT = 900_000.0
CPU, LOAD = "delta(cpu[1m])", "delta(load[1m])"


def ramp(at):
    return at / 7


class Changing:
    """Answers that a test swaps while the server runs."""

    def __init__(self, **known):
        self.ask(**known)

    def ask(self, **known):
        names = {"cpu": CPU, "load": LOAD, "up": "up"}
        self.say = curves({names.get(name, name): series for name, series in known.items()})

    def __call__(self, asked):
        return self.say(asked)


def hosts(*names, curve=ramp):
    return [({"instance": name, "job": "node"}, curve) for name in names]


def since(at, curve=ramp):
    return lambda time: curve(time) if time >= at else None


def until(at, curve=ramp):
    return lambda time: curve(time) if time <= at else None


def poller_of(stub, queries=("cpu", "load"), rules=(), by=("instance",), **options):
    expressions = {"cpu": CPU, "load": LOAD, "up": "up"}
    given = {
        "queries": {alias: expressions[alias] for alias in queries},
        "grouping": Grouping(by, [RelabelRule.of(RelabelConfig(**rule)) for rule in rules]),
        "step": STEP,
        "samples": 6,
        "stale_after": 120.0,
        "max_groups": 100,
        "forget_after": 300.0,
    }
    client = PrometheusClient(stub.url, PrometheusSettings(timeout="2s"), retries=0)
    return GroupPoller(client, PollOptions(**{**given, **options}))


def names_of(poll):
    return [dict(labels).get("instance") or dict(labels)["pod"] for labels in poll.frame.groups]


def row(poll, name):
    return poll.frame.values[names_of(poll).index(name)]


def test_one_query_answers_for_all_groups():
    answers = Changing(cpu=hosts("a", "b"), load=hosts("b", "a", curve=lambda at: -at))
    with stub_server(answers) as stub:
        poller = poller_of(stub)
        poll = poller.poll(AT + 10)
        assert names_of(poll) == ["a", "b"]
        for name in "ab":
            np.testing.assert_array_equal(row(poll, name)[:, 0], poll.frame.times / 7)
            np.testing.assert_array_equal(row(poll, name)[:, 1], -poll.frame.times)
        again = poller.poll(AT + STEP)
    assert [asked.points for asked in stub.asked] == [6, 6, 3, 3]
    assert np.isnan(again.corrected_from).all()
    np.testing.assert_array_equal(row(again, "b")[:, 1], -again.frame.times)


def test_a_new_group_is_admitted_on_its_second_sample():
    answers = Changing(cpu=hosts("a"))
    with stub_server(answers) as stub:
        poller = poller_of(stub, ["cpu"])
        poller.poll(AT)
        answers.ask(cpu=hosts("a") + hosts("b", curve=since(AT + STEP)))
        assert names_of(poller.poll(AT + STEP)) == ["a"]
        assert names_of(poller.poll(AT + 2 * STEP)) == ["a", "b"]


def test_a_group_that_was_seen_once_and_is_gone_leaves_nothing():
    answers = Changing(cpu=hosts("a") + hosts("b", curve=lambda at: 1.0 if at == AT else None))
    with stub_server(answers) as stub:
        poller = poller_of(stub, ["cpu"], forget_after=60.0)
        for tick in range(12):
            assert names_of(poller.poll(AT + tick * STEP)) == ["a"]
        assert poller._rows.groups == [(("instance", "a"),)]


def test_groups_beyond_max_groups_are_refused_and_those_admitted_stay():
    answers = Changing(cpu=hosts("m", "n"))
    with stub_server(answers) as stub:
        poller = poller_of(stub, ["cpu"], max_groups=2)
        poller.poll(AT)
        answers.ask(cpu=hosts("a", "m", "n", "z"))
        poll = poller.poll(AT + STEP)
        assert sorted(names_of(poll)) == ["m", "n"]
        assert poll.refused == ((("instance", "a"),), (("instance", "z"),))
        answers.ask(cpu=hosts("a", "z") + hosts("m", curve=until(AT + STEP)) + hosts("n"))
        for tick in range(2, 14):
            poll = poller.poll(AT + tick * STEP)
        assert sorted(names_of(poll)) == ["a", "n"]
        assert poll.refused == ((("instance", "z"),),)


def test_groups_from_before_a_restart_are_admitted_first():
    with stub_server(Changing(cpu=hosts("a", "m", "n", "z"))) as stub:
        poller = poller_of(stub, ["cpu"], max_groups=2)
        poller.prefer([(("instance", "z"),), (("instance", "gone"),)])
        poll = poller.poll(AT)
    assert sorted(names_of(poll)) == ["a", "z"]
    assert poll.refused == ((("instance", "m"),), (("instance", "n"),))


def test_many_more_groups_than_max_groups_do_not_blind_those_admitted():
    answers = Changing(cpu=hosts("a"))
    with stub_server(answers) as stub:
        poller = poller_of(stub, ["cpu"], max_groups=1)
        poller.poll(AT)
        answers.ask(cpu=hosts("a", *(f"h{number}" for number in range(1500))))
        poll = poller.poll(AT + STEP)
    assert (names_of(poll), len(poll.refused), poll.failures) == (["a"], 1500, {})


def test_a_refused_group_that_is_gone_is_no_longer_counted():
    answers = Changing(cpu=hosts("a") + hosts("b", curve=until(AT + STEP)))
    with stub_server(answers) as stub:
        poller = poller_of(stub, ["cpu"], max_groups=1)
        refused = [poller.poll(AT + tick * STEP).refused for tick in range(16)]
    assert refused[0] == ((("instance", "b"),),)
    assert refused[-1] == ()


def test_a_group_without_samples_is_forgotten_after_a_while_and_can_return():
    back = AT + 20 * STEP
    gone = hosts("b", curve=lambda at: ramp(at) if at <= AT or at >= back else None)
    with stub_server(Changing(cpu=hosts("a", "c") + gone)) as stub:
        poller = poller_of(stub, ["cpu"])
        seen = [sorted(names_of(poller.poll(AT + tick * STEP))) for tick in range(24)]
    assert seen[10] == ["a", "b", "c"]  # 300 s after its last sample
    assert seen[11] == seen[20] == ["a", "c"]
    assert seen[21] == ["a", "b", "c"]


def test_the_others_keep_their_samples_when_a_group_goes():
    names = [f"h{number}" for number in range(9)]
    answers = Changing(
        cpu=[({"instance": name}, lambda at, n=i: at + n) for i, name in enumerate(names)]
    )
    with stub_server(answers) as stub:
        poller = poller_of(stub, ["cpu"], forget_after=60.0)
        poller.poll(AT)
        answers.ask(
            cpu=[
                ({"instance": name}, lambda at, n=i: at + n)
                for i, name in enumerate(names)
                if i % 3
            ]
        )
        for tick in range(1, 5):
            poll = poller.poll(AT + tick * STEP)
    assert sorted(names_of(poll)) == sorted(name for i, name in enumerate(names) if i % 3)
    for name in names_of(poll):
        np.testing.assert_array_equal(row(poll, name)[:, 0], poll.frame.times + names.index(name))


def test_two_series_of_one_group_make_it_blind_and_no_other():
    double = [({"instance": "b", "disk": disk}, ramp) for disk in ("sda", "sdb")]
    answers = Changing(cpu=hosts("a") + double, load=hosts("a", "b"))
    with stub_server(answers) as stub:
        poll = poller_of(stub).poll(AT)
    assert np.isnan(row(poll, "b")).all()
    assert not np.isnan(row(poll, "a")).any()
    assert {names_of(poll)[group]: alias for group, alias in poll.ambiguous.items()} == {"b": "cpu"}
    assert poll.failures == {}


def test_a_pod_that_is_restarted_stays_its_workload():
    rule = {"source_labels": ["pod"], "regex": "(.+)-[^-]+", "target_label": "pod"}
    before = [({"pod": "web-x1"}, until(AT)), ({"pod": "db-q"}, ramp)]
    answers = Changing(cpu=before)
    with stub_server(answers) as stub:
        poller = poller_of(stub, ["cpu"], rules=[rule], by=("pod",))
        assert sorted(names_of(poller.poll(AT))) == ["db", "web"]
        answers.ask(cpu=[({"pod": "web-y2"}, since(AT + STEP)), *before])
        poll = poller.poll(AT + STEP)
    assert sorted(names_of(poll)) == ["db", "web"]
    np.testing.assert_array_equal(row(poll, "web")[:, 0], poll.frame.times / 7)


def test_late_samples_correct_their_group_alone():
    answers = Changing(cpu=hosts("a") + hosts("b", curve=lambda at: ramp(min(at, AT - STEP))))
    with stub_server(answers) as stub:
        poller = poller_of(stub, ["cpu"])
        poller.poll(AT)
        answers.ask(cpu=hosts("a", "b"))
        poll = poller.poll(AT + STEP)
    found = dict(zip(names_of(poll), poll.corrected_from.tolist(), strict=True))
    assert np.isnan(found["a"])
    assert found["b"] == AT
    np.testing.assert_array_equal(row(poll, "b")[:, 0], poll.frame.times / 7)


def test_rounding_is_no_correction():
    answers = Changing(cpu=hosts("a"))
    with stub_server(answers) as stub:
        poller = poller_of(stub, ["cpu"])
        before = row(poller.poll(AT), "a")[1:, 0].copy()
        answers.ask(cpu=hosts("a", curve=lambda at: ramp(at) * (1 + 1e-14)))
        poll = poller.poll(AT + STEP)
    assert np.isnan(poll.corrected_from).all()
    np.testing.assert_array_equal(row(poll, "a")[:-1, 0], before)


def test_a_failing_query_leaves_the_others_and_is_completed_later():
    answers = Changing(cpu=hosts("a"), load=hosts("a"))
    fine = answers.say
    with stub_server(answers) as stub:
        poller = poller_of(stub)
        poller.poll(AT)
        answers.say = lambda asked: Say(422) if "load" in asked.form["query"] else fine(asked)
        for tick in (1, 2, 3):
            poll = poller.poll(AT + tick * STEP)
            assert list(poll.failures) == ["load"]
            assert np.isnan(row(poll, "a")[:, 1]).tolist() == [False] * (6 - tick) + [True] * tick
        answers.say = fine
        poll = poller.poll(AT + 4 * STEP)
    np.testing.assert_array_equal(row(poll, "a")[:, 1], poll.frame.times / 7)
    assert poll.failures == {}


def test_an_outage_leaves_the_groups_and_what_was_known():
    answers = Changing(cpu=hosts("a", "b"), load=hosts("a", "b"))
    fine = answers.say
    with stub_server(answers) as stub:
        poller = poller_of(stub)
        poller.poll(AT)
        answers.say = lambda _: Say(503)
        poll = poller.poll(AT + STEP)
        assert sorted(poll.failures) == ["cpu", "load"]
        assert names_of(poll) == ["a", "b"]
        assert len(stub.asked) == 3  # the other query is not asked
        answers.say = fine
        poll = poller.poll(AT + 2 * STEP)
    np.testing.assert_array_equal(row(poll, "b")[:, 0], poll.frame.times / 7)
    assert poll.corrected_from.tolist() == [AT + STEP] * 2


def test_everything_is_asked_anew_when_time_went_back():
    with stub_server(Changing(cpu=hosts("a"))) as stub:
        poller = poller_of(stub, ["cpu"])
        poller.poll(AT + 3600)
        poll = poller.poll(AT)
        np.testing.assert_array_equal(row(poll, "a")[:, 0], poll.frame.times / 7)
        assert poller._members.seen_at.max() <= AT


def test_membership_does_not_change_while_time_stands_still():
    answers = Changing(cpu=hosts("a"))
    with stub_server(answers) as stub:
        poller = poller_of(stub, ["cpu"])
        poller.poll(AT)
        answers.ask(cpu=hosts("a", "b"))
        assert names_of(poller.poll(AT + 1)) == ["a"]
        assert names_of(poller.poll(AT + STEP)) == ["a", "b"]


STALE = "count by (instance) (up unless on (instance) last_over_time(up[120001ms]))"


def test_values_that_rest_on_old_samples_are_missing_in_their_group_alone():
    known = {
        "up": hosts("a", "b"),
        STALE: [({"instance": "b"}, lambda at: 1.0)],
    }
    with stub_server(curves(known)) as stub:
        poll = poller_of(stub, ["up"]).poll(AT)
    assert not np.isnan(row(poll, "a")).any()
    assert names_of(poll) == ["a"] or np.isnan(row(poll, "b")[-1, 0])


def test_the_age_of_samples_is_asked_in_one_query_while_all_are_fresh():
    queries = {"one": "up", "two": "load1"}
    both = (
        "count by (instance) (load1 unless on (instance) last_over_time(load1[120001ms]) "
        "or up unless on (instance) last_over_time(up[120001ms]))"
    )
    with stub_server(curves({"up": hosts("a"), "load1": hosts("a"), both: []})) as stub:
        poll = poll_once(stub, queries)
    assert stub.exprs == ["up", "load1", both]
    assert not np.isnan(poll.frame.values).any()


def test_the_age_of_samples_is_asked_behind_an_offset_too():
    query = build_stale_query({"x": 'up{job=" offset "} offset 5m'}, "pod", 60.0)
    assert query == (
        'count by (pod) (up{job=" offset "} offset 5m unless on (pod) '
        'last_over_time(up{job=" offset "}[60001ms] offset 5m))'
    )


def poll_once(stub, queries):
    client = PrometheusClient(stub.url, PrometheusSettings(timeout="2s"), retries=0)
    grouping = Grouping(("instance",))
    return GroupPoller(client, PollOptions(queries, grouping, STEP, 6, 120.0, 100, 300.0)).poll(AT)


def test_a_server_that_refuses_the_question_of_age_is_not_asked_again():
    fine = curves({"up": hosts("a")})
    refuse = Say(400, '{"status":"error","errorType":"bad_data","error":"no"}')
    with stub_server(lambda a: refuse if "unless" in a.form["query"] else fine(a)) as stub:
        poller = poller_of(stub, ["up"])
        poll = poller.poll(AT)
        assert not np.isnan(poll.frame.values).any()
        asked = len(stub.asked)
        poller.poll(AT + STEP)
        assert len(stub.asked) == asked + 1


def test_an_age_that_is_refused_later_is_a_failure():
    fine = curves({"up": hosts("a"), STALE: []})
    answers = Changing()
    answers.say = fine
    refuse = Say(422, '{"status":"error","errorType":"execution","error":"no"}')
    with stub_server(answers) as stub:
        poller = poller_of(stub, ["up"])
        poller.poll(AT)
        answers.say = lambda a: refuse if "unless" in a.form["query"] else fine(a)
        poll = poller.poll(AT + STEP)
        assert list(poll.failures) == ["up"]
        assert np.isnan(poll.frame.values[0, -1, 0])
        answers.say = fine
        assert poller.poll(AT + 2 * STEP).failures == {}


def test_the_last_ones_fill_the_holes():
    assert fill_holes(np.array([], np.int64)).tolist() == []
    assert fill_holes(np.array([1, 2, 5])).tolist() == [5, 1, 2]
    assert fill_holes(np.array([0, 1, 2])).tolist() == [0, 1, 2]


def test_rows_are_found_again_over_any_change_of_groups():
    rows = GroupRows(Grouping(("i",)))
    names = [b'{"i":"%d","x":"1"}' % number for number in range(6)]
    assert rows.find(names, "q").tolist() == [0, 1, 2, 3, 4, 5]
    rows.keep(np.array([0, 5, 2]))
    assert rows.find([names[5], names[2], names[0]], "q").tolist() == [1, 2, 0]
    assert rows.find(names, "q").tolist() == [0, 3, 2, 4, 5, 1]
    assert [dict(labels)["i"] for labels in rows.groups] == ["0", "5", "2", "1", "3", "4"]


def test_the_numbers_of_groups_that_are_gone_are_forgotten():
    rows = GroupRows(Grouping(("i",)))
    for wave in range(5):
        names = [b'{"i":"%d"}' % (wave * 1000 + number) for number in range(1000)]
        found = rows.find(names, "q")
        rows.keep(found[:10])
    assert len(rows._numbered) < 3000
    assert rows.find(names[:10], "q").tolist() == list(range(10))


def test_labels_that_are_no_labels_are_refused():
    with pytest.raises(ValueError, match="format"):
        GroupRows(Grouping(("i",))).find([b"[1]"], "q")

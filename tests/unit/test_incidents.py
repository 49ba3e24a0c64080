"""Incidents: which events are one, what they have in common, and that nothing is counted twice."""

import json
import random
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promad.events.incident_book import IncidentBook, IncidentRules, Watched, survey_groups
from promad.events.incidents import Member
from tests.support.incidents import (
    FOUND_AFTER,
    OVER_AFTER,
    RULES,
    STEP,
    enter,
    find_incidents,
    make_event,
    report,
)

HOUR = 3600.0


def incidents_of(events, rules=RULES, watched=None):
    """The incidents in whole events, oldest first."""
    found = find_incidents(enter(IncidentBook(rules), report(events), watched))
    return sorted(found.values(), key=lambda incident: (incident.start, incident.scope))


def hosts(count, every=0.0, first=0.0, lasting=600.0, **labels):
    return [
        make_event(first + every * n, first + every * n + lasting, instance=f"h{n}", **labels)
        for n in range(count)
    ]


# Which events are one incident


def test_forty_groups_within_a_minute_are_one_incident():
    (incident,) = incidents_of(hosts(40, every=1.5))
    assert (incident.groups, incident.start, incident.end) == (40, 0.0, 658.5)


def test_a_chain_of_onsets_is_one_incident_however_long_it_is():
    (incident,) = incidents_of(hosts(20, every=110.0, lasting=HOUR))
    assert incident.newest_onset == 19 * 110.0


def test_an_hour_apart_there_are_two():
    first, second = incidents_of([*hosts(3), *hosts(3, first=HOUR)])
    assert (first.groups, second.groups, second.start) == (3, 3, HOUR)


def test_a_group_that_joins_late_is_an_incident_of_its_own_though_the_first_is_open():
    events = [make_event(0, 2 * HOUR, instance="a"), make_event(HOUR, 2 * HOUR, instance="b")]
    assert [incident.groups for incident in incidents_of(events)] == [1, 1]


def test_of_two_open_incidents_a_newcomer_joins_that_with_the_nearest_onset():
    rules = replace(RULES, join_within=100.0)
    events = [make_event(0, HOUR, instance="a"), make_event(110, HOUR, instance="b")]
    late = make_event(60, HOUR, instance="c")
    first, second = incidents_of([*events, replace(late, flagged_at=300.0)], rules)
    assert (first.groups, second.groups) == (1, 2)


def test_one_group_that_rises_and_falls_is_one_incident():
    period = 600.0 + OVER_AFTER + 60.0
    events = [make_event(period * n, period * n + 600, instance="a") for n in range(12)]
    (incident,) = incidents_of(events)
    assert (incident.groups, incident.first.events, incident.end) == (1, 12, 11 * period + 600)


def test_another_group_continues_an_incident_that_has_just_ended_and_none_much_later():
    over_at = 600.0 + OVER_AFTER
    for after, count in ((90.0, 1), (150.0, 2)):
        events = [*hosts(1), make_event(over_at + after, 2 * HOUR, instance="b")]
        assert len(incidents_of(events)) == count, after


def test_an_incident_that_is_continued_is_open_under_its_id_and_has_begun_once():
    book = IncidentBook(RULES)
    again = make_event(600.0 + OVER_AFTER + 60, instance="b")
    changes = enter(book, report([*hosts(1), again]))
    began = [incident for each in changes for incident in each.began]
    ended = [incident for each in changes for incident in each.ended]
    assert [each.id for each in began] == [each.id for each in ended]
    (incident,) = book.open_incidents
    assert (incident.id, incident.end, incident.open_groups) == (began[0].id, None, 1)
    assert changes[-2].changed[0].id == incident.id


def test_nothing_is_continued_if_not_wanted():
    rules = replace(RULES, reenter_within=0.0)
    events = [*hosts(1), make_event(600.0 + OVER_AFTER + 30, HOUR, instance="h0")]
    assert len(incidents_of(events, rules)) == 2


def test_a_group_that_returns_to_an_incident_which_others_keep_open_lets_no_stranger_in():
    events = [
        make_event(0, 4 * HOUR, instance="a"),
        make_event(0, HOUR, instance="b"),
        make_event(HOUR + OVER_AFTER + 60, 2 * HOUR, instance="b"),
        make_event(HOUR + OVER_AFTER + 90, 2 * HOUR, instance="c"),
    ]
    first, second = incidents_of(events)
    assert {member.group: member.events for member in first.members} == {
        'd{instance="a"}': 1,
        'd{instance="b"}': 2,
    }
    assert second.first.group == 'd{instance="c"}'


SIMILAR = replace(RULES, join_similar_within=900.0)


def test_a_group_in_which_the_same_features_deviate_has_longer_to_join():
    first = make_event(0, HOUR, features={"cpu": 0.7, "load": 0.3}, instance="a")
    for features, after, count in (
        ({"load": 0.4, "cpu": 0.6}, 600.0, 1),
        ({"disk": 0.6, "cpu": 0.4}, 600.0, 2),
        ({"load": 0.4, "cpu": 0.6}, 960.0, 2),
    ):
        late = make_event(after, HOUR, features=features, instance="b")
        assert len(incidents_of([first, late], SIMILAR)) == count, (features, after)


def test_the_end_of_a_fault_continues_its_incident():
    over_at = 600.0 + OVER_AFTER
    events = [*hosts(3), *hosts(3, first=over_at + 600)]
    (incident,) = incidents_of(events, SIMILAR)
    assert [member.events for member in incident.members] == [2, 2, 2]
    assert len(incidents_of([*hosts(3), *hosts(3, first=over_at + 960)], SIMILAR)) == 2


def test_groups_that_join_late_for_their_features_let_no_stranger_in():
    late = make_event(600, HOUR, features={"cpu": 1.0}, instance="b")
    stranger = make_event(690, HOUR, features={"disk": 1.0}, instance="c")
    of_cpu, of_disk = incidents_of([*hosts(1, lasting=HOUR), late, stranger], SIMILAR)
    assert (of_cpu.groups, of_disk.groups) == (2, 1)


def test_a_group_in_which_the_same_features_deviate_again_continues_its_incident():
    rules = replace(SIMILAR, return_within=2 * HOUR)
    cpu, disk = {"cpu": 1.0}, {"disk": 1.0}
    first = make_event(0, 600, features=cpu, instance="a")
    for instance, features, at, count in (
        ("a", cpu, HOUR, 1),
        ("a", cpu, 3 * HOUR, 2),
        ("a", disk, HOUR, 2),
        ("b", cpu, HOUR, 2),
    ):
        again = make_event(at, at + 600, features=features, instance=instance)
        assert len(incidents_of([first, again], rules)) == count, (instance, features, at)
    others = hosts(3, first=HOUR, features=cpu)
    again = make_event(HOUR, HOUR + 600, features=cpu, instance="a")
    (incident,) = incidents_of([first, again, *others], rules)
    assert incident.groups == 4


def test_a_group_that_comes_back_while_others_keep_the_incident_open_needs_less_in_common():
    rules = replace(SIMILAR, return_within=2 * HOUR)
    first = make_event(0, 600, features={"cpu": 1.0}, instance="a")
    for lasting, cpu, count in ((2 * HOUR, 0.3, 1), (2 * HOUR, 0.1, 2), (600.0, 0.3, 2)):
        other = make_event(0, lasting, features={"cpu": 1.0}, instance="b")
        features = {"cpu": cpu, "disk": 1 - cpu}
        again = make_event(HOUR, HOUR + 600, features=features, instance="a")
        assert len(incidents_of([first, other, again], rules)) == count, (lasting, cpu)


def test_a_stranger_to_several_groups_in_which_the_same_features_deviate_joins_only_at_the_start():
    cpu, disk = {"cpu": 1.0}, {"disk": 1.0}
    same = hosts(3, every=100.0, lasting=HOUR, features=cpu)
    early, late = (make_event(at, HOUR, features=disk, instance="x") for at in (100.0, 250.0))
    assert len(incidents_of([*same, early], SIMILAR)) == 1
    assert [each.groups for each in incidents_of([*same, late], SIMILAR)] == [3, 1]
    assert len(incidents_of([*same, late], RULES)) == 1
    mixed = [
        make_event(100.0 * number, HOUR, features={name: 1.0}, instance=f"h{number}")
        for number, name in enumerate(("cpu", "net", "mem"))
    ]
    assert len(incidents_of([*mixed, late], SIMILAR)) == 1


def test_of_two_incidents_an_event_joins_that_with_the_same_features_though_it_is_older():
    cpu, disk = {"cpu": 1.0}, {"disk": 1.0}
    events = [
        make_event(0, HOUR, features=cpu, instance="a"),
        make_event(300, HOUR, features=disk, instance="b"),
        make_event(330, HOUR, features=cpu, instance="c"),
    ]
    of_cpu, of_disk = incidents_of(events, SIMILAR)
    assert [member.labels[0][1] for member in of_cpu.members] == ["a", "c"]
    assert of_disk.groups == 1


def test_scopes_are_kept_apart():
    rules = replace(RULES, scope=("zone",))
    found = incidents_of([*hosts(4, zone="a"), *hosts(2, every=9, zone="b"), *hosts(1)], rules)
    assert {each.scope: each.groups for each in found} == {
        (("zone", "a"),): 4,
        (("zone", "b"),): 2,
        (): 1,
    }
    assert len({each.id for each in found}) == 3


def test_an_event_that_was_found_late_because_its_group_was_blind_joins_by_its_onset():
    late = replace(make_event(20.0, 2 * HOUR, instance="z"), flagged_at=1200.0)
    (incident,) = incidents_of([*hosts(3), late])
    assert incident.groups == 4


# What an incident knows


def test_the_first_group_is_that_with_the_earliest_onset_then_the_larger_peak():
    events = [
        make_event(30, 900, ratio=9.0, instance="a"),
        make_event(0, 900, ratio=2.0, instance="b"),
        make_event(0, 900, ratio=5.0, instance="c"),
    ]
    (incident,) = incidents_of(events)
    assert [member.group[-3] for member in incident.members] == ["c", "b", "a"]
    assert incident.first.group == 'd{instance="c"}'
    assert (incident.peak.group, incident.peak.peak_ratio) == ('d{instance="a"}', 18.0)


def test_spread_features_and_labels_in_common():
    kinds = [("a", "x"), ("b", "x"), ("c", "x"), ("d", "y"), ("e", "y")]
    groups = [(("instance", name), ("rack", rack), ("team", "t")) for name, rack in kinds]
    watched = survey_groups(groups, RULES)
    events = [
        make_event(0, 900, 4.0, {"cpu": 0.75, "load": 0.25}, instance="a", rack="x", team="t"),
        make_event(30, 900, 1.0, {"cpu": 0.25, "disk": 0.75}, instance="b", rack="x", team="t"),
    ]
    (incident,) = incidents_of(events, watched=watched)
    assert (incident.spread, incident.feature_share) == (2 / 5, 3 / 4)
    assert incident.common_labels == (("rack", "x"),)
    assert [tuple(each) for each in incident.leading_features] == [
        ("cpu", pytest.approx(0.65), 2),
        ("load", pytest.approx(0.2), 1),
        ("disk", pytest.approx(0.15), 1),
    ]


def test_in_common_is_only_what_all_share_and_one_group_has_nothing_in_common():
    watched = {(): Watched(9)}
    (one,) = incidents_of([make_event(0, 900, instance="a", rack="x")], watched=watched)
    assert one.common_labels == ()
    (two,) = incidents_of(
        [make_event(0, 900, instance=name, rack=name) for name in "ab"], watched=watched
    )
    assert two.common_labels == ()


def test_the_share_of_groups_is_that_when_the_newest_joined_and_never_more_than_all():
    book = IncidentBook(RULES)
    book.update(30, began=[make_event(0, instance="a")], watched={(): Watched(10)})
    book.update(60, began=[make_event(30, instance="b")], watched={(): Watched(4)})
    book.update(90, grew=[make_event(0, ratio=8.0, instance="a")], watched={(): Watched(2)})
    (incident,) = book.open_incidents
    assert (incident.spread, incident.peak.peak_ratio) == (0.5, 8.0)
    book.update(120, began=[make_event(60, instance="c")])
    assert book.open_incidents[0].spread == 1.0


def test_an_incident_grows_and_shrinks_and_ends_with_its_last_event():
    book = IncidentBook(RULES)
    changes = enter(
        book, report([make_event(0, 600, instance="a"), make_event(60, 900, instance="b")])
    )
    kinds = [tuple(len(part) for part in each) for each in changes]
    assert kinds == [(1, 0, 0), (0, 1, 0), (0, 1, 0), (0, 1, 0), (0, 1, 0), (0, 0, 1)]
    assert [each.incidents[0].open_groups for each in changes] == [1, 1, 2, 2, 1, 0]
    assert changes[-1].ended[0].end == 900.0
    assert book.open_incidents == ()


# Groups that vanish, repetitions, and what is unknown


def test_a_group_that_vanished_leaves_and_its_incident_ends_with_it():
    book = IncidentBook(RULES)
    book.update(30, began=[make_event(0, instance="a"), make_event(0, instance="b")])
    assert book.drop(300, 'd{instance="a"}').changed[0].open_groups == 1
    assert book.drop(300, 'd{instance="a"}') == book.drop(300, "nobody")
    assert book.open_groups == {'d{instance="b"}'}
    (ended,) = book.drop(600, 'd{instance="b"}').ended
    assert ended.end == 30.0


def test_an_event_that_is_reported_again_or_only_later_is_there_once():
    book, event = IncidentBook(RULES), make_event(0, instance="a")
    book.update(60, grew=[event])
    book.update(90, began=[event])
    (ended,) = book.update(300, ended=[replace(event, end=60.0)]).ended
    assert (ended.first.events, ended.end) == (1, 60.0)
    assert book.update(330, ended=[replace(event, end=60.0)]).ended == ()


def test_an_event_that_begins_and_ends_at_once_is_an_incident_that_did():
    changes = IncidentBook(RULES).update(900, ended=[make_event(0, 60.0, instance="a")])
    assert changes.began == changes.ended
    assert changes.incidents[0].end == 60.0


def test_a_new_event_of_a_group_ends_one_whose_end_nobody_reported():
    book = IncidentBook(RULES)
    book.update(30, began=[make_event(0, instance="a")])
    book.update(7230, began=[make_event(7200, instance="a")])
    (incident,) = book.open_incidents
    assert incident.first.events == 2
    assert book.open_groups == {'d{instance="a"}'}


def test_incidents_that_nothing_can_continue_are_forgotten():
    book = IncidentBook(RULES)
    enter(book, report(hosts(5)))
    assert book.to_json()["incidents"]
    book.update(10 * HOUR)
    assert book.to_json() == {"incidents": []}


@pytest.mark.parametrize(
    "content", [{}, {"incidents": [{}]}, {"incidents": 3}, {"incidents": ["a"]}, []]
)
def test_a_saved_state_that_is_unreadable_is_refused_and_changes_nothing(content):
    book = IncidentBook(RULES)
    book.update(30, began=[make_event(0, instance="a")])
    before = book.to_json()
    with pytest.raises((KeyError, TypeError, ValueError)):
        book.resume(content)
    assert book.to_json() == before


# Properties

RUNS = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 10)), min_size=1, max_size=4)
FLEETS = st.lists(RUNS, min_size=1, max_size=6)
RULE_SETS = st.builds(
    IncidentRules,
    detector=st.just("d"),
    features=st.just(4),
    join_within=st.sampled_from([0.0, 60.0, 120.0]),
    reenter_within=st.sampled_from([0.0, 60.0, 240.0]),
    scope=st.sampled_from([(), ("zone",)]),
    join_similar_within=st.sampled_from([0.0, 300.0]),
    return_within=st.sampled_from([0.0, 1200.0]),
)


def events_of(fleet):
    """Events of each group, from the samples between them (after one is over) and in them."""
    events = []
    for number, runs in enumerate(fleet):
        at = 0.0
        for quiet, loud in runs:
            start = at + STEP * quiet
            at = start + STEP * loud + OVER_AFTER
            labels = {"instance": f"h{number}", "zone": "ab"[number % 2]}
            events.append(
                make_event(start, start + STEP * loud, float(1 + (quiet + loud) % 3), **labels)
            )
    return events


@settings(max_examples=40)
@given(FLEETS, RULE_SETS)
def test_each_event_is_in_exactly_one_incident(fleet, rules):
    events, found = events_of(fleet), {}
    samples = report(events, growing=False)
    for changes in enter(IncidentBook(rules), samples):
        for incident in changes.incidents:
            for member in incident.members:
                assert found.setdefault(member.event, incident.id) == incident.id
    assert set(found) == {event.id for event in events}
    last = incidents_of(events, rules)
    assert sum(member.events for incident in last for member in incident.members) == len(events)
    assert all(incident.end is not None for incident in last)


@settings(max_examples=40)
@given(FLEETS, RULE_SETS, st.randoms(use_true_random=False))
def test_the_order_within_a_sample_makes_no_difference(fleet, rules, order):
    events = events_of(fleet)
    shuffled = [
        replace(
            each,
            **{
                part: tuple(order.sample(getattr(each, part), len(getattr(each, part))))
                for part in ("began", "grew", "ended")
            },
        )
        for each in report(events)
    ]
    assert enter(IncidentBook(rules), shuffled) == enter(IncidentBook(rules), report(events))


@settings(max_examples=40)
@given(FLEETS, RULE_SETS)
def test_a_replay_that_enters_changes_alone_finds_what_a_daemon_with_every_tick_finds(fleet, rules):
    samples = {each.at: each for each in report(events_of(fleet))}
    live, replay, of_daemon = IncidentBook(rules), IncidentBook(rules), []
    for tick in range(int(max(samples) / STEP) + 1):
        if tick * STEP in samples:
            of_daemon += enter(live, [samples[tick * STEP]])
        else:
            live.update(tick * STEP)
    assert of_daemon == enter(replay, samples.values())


@settings(max_examples=40)
@given(FLEETS, RULE_SETS)
def test_after_a_restart_at_any_sample_the_incidents_are_the_same(fleet, rules):
    samples = report(events_of(fleet))
    uninterrupted, restarted, changes = IncidentBook(rules), IncidentBook(rules), []
    for sample in samples:
        saved = json.dumps(restarted.to_json())
        restarted = IncidentBook(rules)
        restarted.resume(json.loads(saved))
        changes += enter(restarted, [sample])
    assert changes == enter(uninterrupted, samples)
    assert restarted.open_groups == uninterrupted.open_groups


@settings(max_examples=40)
@given(FLEETS, RULE_SETS)
def test_a_new_incident_is_never_begun_where_an_onset_belongs_to_one_that_is_open(fleet, rules):
    """The rule itself, from the start and end of all incidents."""
    found = incidents_of(events_of(fleet), rules)
    for later in found:
        for earlier in found:
            if earlier.scope == later.scope and earlier.start < later.start:
                gap = later.start - min(earlier.newest_onset, later.start)
                assert gap > rules.join_within or earlier.newest_onset > later.start


# Scale


def test_five_hundred_of_ten_thousand_groups_at_one_sample(capsys):
    names = [f"f{number}" for number in range(38)]
    labels = [(("instance", f"h{n}"), ("zone", "ab"[n % 2])) for n in range(10_000)]
    watched = survey_groups(labels, SIMILAR)
    events = [
        make_event(
            float(n % 60), None, 2.0 + n, dict.fromkeys(names[:10], 0.1), instance=f"h{n}", zone="a"
        )
        for n in range(500)
    ]
    random.Random(1).shuffle(events)
    book = IncidentBook(SIMILAR)
    began = time.process_time()
    changes = book.update(60 + FOUND_AFTER, began=events, watched=watched)
    leading = changes.began[0].leading_features
    taken = time.process_time() - began
    saving = time.process_time()
    json.dumps(book.to_json())
    saved = time.process_time() - saving
    with capsys.disabled():
        print(f"\n500 events joined in {1000 * taken:.1f} ms, saved in {1000 * saved:.1f} ms")  # noqa: T201
    assert (changes.began[0].groups, changes.began[0].spread) == (500, 0.05)
    assert changes.began[0].common_labels == (("zone", "a"),)
    assert len(leading) == 10


def test_work_is_done_for_members_that_change_alone():
    book = IncidentBook(RULES)
    book.update(60, began=hosts_open(50))
    before = {member.group: member for member in book.open_incidents[0].members}
    book.update(90, grew=[make_event(0, ratio=9.0, instance="h7")])
    after = {member.group: member for member in book.open_incidents[0].members}
    changed = [group for group, member in after.items() if member is not before[group]]
    assert changed == ['d{instance="h7"}']
    assert isinstance(after[changed[0]], Member)


def hosts_open(count):
    return [make_event(0, instance=f"h{number}") for number in range(count)]

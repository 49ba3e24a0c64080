"""A fleet at work: what each tick publishes, saves and continues."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import numpy as np
import pytest

from promad.detection.judgements import BLIND
from promad.errors import PrometheusError
from promad.events.verdict import STATES, State
from promad.scoring.calibration import CalibrationTable, join_calibrations, pool_calibration
from tests.support.detectors import detector_of
from tests.support.fleet_world import STEP, FleetWorld, label
from tests.support.simulated import NAMES, START


def world_of(directory, hosts=3, samples=80, **detector):
    return FleetWorld(directory, detector_of(threshold=3.0, share=0.6, **detector), hosts, samples)


def at(sample):
    return START + sample * STEP


def test_groups_warm_up_and_become_ok(tmp_path):
    world = world_of(tmp_path)
    assert world.loop.snapshot.groups == ()
    world.tick()
    assert set(world.states().values()) == {"warming"}
    world.run(30)
    assert set(world.states().values()) == {"ok"}
    assert world.loop.answered


def test_a_fault_on_one_group_is_its_event_and_an_incident(tmp_path):
    world = world_of(tmp_path)
    world.jump(1, 40, 8)
    world.run(45)
    assert world.states() == {"host-0": "ok", "host-1": "anomalous", "host-2": "ok"}
    (status,) = [each for each in world.loop.snapshot.groups if each.group == label(1)]
    assert status.event.group == world.name(1)
    assert status.event.top_features[0].name == NAMES[0]
    world.run(80)
    ((_, group, start, end, reason),) = world.list_events()
    assert (group, start, reason) == (world.name(1), at(40), "quiet")
    assert end >= at(47)
    assert [(start, len_) for _, start, _, len_ in world.list_incidents()] == [(at(40), 1)]
    assert world.list_incidents()[0][2] is not None


def test_a_fault_on_many_groups_at_once_is_one_incident(tmp_path):
    world = world_of(tmp_path, hosts=5)
    for host in range(4):
        world.jump(host, 40 + host % 2, 8)
    world.run(80)
    assert len(world.list_events()) == 4
    assert [groups for *_, groups in world.list_incidents()] == [4]
    assert dict(world.loop.snapshot.incidents.begun) == {(): 1}


def test_columns_say_the_same_as_the_status_of_each_group(tmp_path):
    world = world_of(tmp_path)
    world.jump(1, 40, 8)
    world.values[2, 44, 1] = np.nan
    world.values[0, 38:45] = np.nan
    world.run(45)
    snapshot = world.loop.snapshot
    columns = snapshot.columns
    assert set(world.states().values()) == {"ok", "anomalous", "blind"}
    for row, status in enumerate(snapshot.groups):
        verdict = status.verdict
        assert STATES[columns.state[row]] == verdict.state
        assert columns.threshold[row] == verdict.threshold
        assert columns.samples_in_window[row] == status.samples_in_window
        assert columns.events_begun[row] == status.events_begun
        for name in ("score", "mse", "known_share"):
            number = getattr(columns, name)[row]
            assert (None if np.isnan(number) else pytest.approx(number)) == getattr(verdict, name)
        since = columns.anomalous_since[row]
        assert np.isnan(since) == (status.event is None)
        if verdict.score is None:
            assert np.isnan(columns.features[row]).all()


@pytest.mark.parametrize("stopped", [39, 44, 51])
def test_a_restart_at_any_moment_continues_the_same_events_and_incidents(tmp_path, stopped):
    def spoil(world):
        world.jump(0, 40, 9)
        world.jump(1, 41, 5)
        world.jump(2, 60, 4)

    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole, cut = world_of(tmp_path / "whole"), world_of(tmp_path / "cut")
    spoil(whole)
    spoil(cut)
    whole.run(80)
    cut.run(stopped)
    cut.loop.retire()
    cut.events.close()
    cut.open()
    cut.sample += 2  # two samples are missed, and judged late
    cut.run(80)
    assert cut.list_events() == whole.list_events()
    assert cut.list_incidents() == whole.list_incidents()


def test_a_kill_loses_no_event(tmp_path):
    """The newest saved state is some samples old."""
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole, cut = world_of(tmp_path / "whole"), world_of(tmp_path / "cut")
    for world in (whole, cut):
        world.jump(0, 40, 9)
        world.jump(1, 44, 9)
    whole.run(80)
    cut.run(46)
    cut.events.close()
    cut.open()
    cut.run(80)
    assert cut.list_events() == whole.list_events()
    assert cut.list_incidents() == whole.list_incidents()


def test_an_event_continues_over_a_reload_with_another_bundle(tmp_path):
    world = world_of(tmp_path)
    world.jump(0, 40, 8)
    world.run(45)
    before, ((id_, *_),) = world.loop, world.list_events()
    before.retire()
    after = world.open("another bundle")
    after.continue_from(before)
    world.run(80)
    ((again, _, start, _, reason),) = world.list_events()
    assert (again, start, reason) == (id_, at(40), "quiet")
    assert len(world.list_incidents()) == 1
    assert dict(world.loop.snapshot.incidents.begun) == {(): 1}
    assert world.history.read(world.name(0), -np.inf, np.inf).times[0] < at(45)


def test_events_end_over_a_reload_with_another_step(tmp_path):
    world = world_of(tmp_path)
    world.jump(0, 40, 30)
    world.run(45)
    before, preparation = world.loop, replace(world.detector.preparation, step=2 * STEP)
    before.retire()
    after = world.open("another bundle", replace(world.detector, preparation=preparation))
    after.continue_from(before)
    world.detector = before.live.detector
    world.tick()
    assert world.list_events()[0][3:] == (at(44), "bundle")
    assert world.list_incidents()[0][2] is not None


def test_after_a_restart_with_another_bundle_open_events_end(tmp_path):
    world = world_of(tmp_path)
    world.jump(0, 40, 30)
    world.run(45)
    world.loop.retire()
    world.open("another bundle")
    world.run(46)
    assert world.list_events()[0][3:] == (at(44), "bundle")
    assert world.list_incidents()[0][2] is not None


def test_the_open_event_of_a_group_that_vanishes_ends_with_that_reason(tmp_path):
    world = world_of(tmp_path)
    world.jump(1, 40, 40)
    world.present[1] = (0, 46)
    world.run(60)
    assert sorted(world.states()) == ["host-0", "host-2"]
    ((_, group, start, end, reason),) = world.list_events()
    assert (group, start, end, reason) == (world.name(1), at(40), at(45), "vanished")
    assert world.list_incidents()[0][2] is not None
    assert world.loop.snapshot.incidents.open == ()


def test_a_new_group_is_scored_once_its_window_is_full(tmp_path):
    world = world_of(tmp_path)
    world.present[2] = (30, 80)
    world.run(31)
    assert world.states()["host-2"] == "warming"
    world.run(31 + world.detector.length)
    assert set(world.states().values()) == {"ok"}
    assert len(world.loop.snapshot.columns.labels) == 3


def knows_hosts_at_two_levels():
    """A detector that was trained on host 0 and, at ten times its level, host 1."""
    detector = detector_of(threshold=3.0, share=0.6)
    own = pool_calibration(detector.preparation, detector.scoring)
    tenfold = replace(own, center=10 * own.center, scale=10 * own.scale)
    table = CalibrationTable((label(0), label(1)), join_calibrations(own, tenfold), 1.0)
    return replace(detector, table=table)


@pytest.mark.parametrize("stopped", [30, 50, 60])
def test_a_new_group_is_judged_by_the_one_that_it_resembles(tmp_path, stopped):
    world = FleetWorld(tmp_path, knows_hosts_at_two_levels())
    world.values[1:] *= 10
    world.present[2] = (20, 80)
    world.jump(2, 65, 5)
    world.run(stopped)
    world.loop.retire()
    world.events.close()
    world.open()
    world.run(60 + 1)
    assert set(world.states().values()) == {"ok"}
    world.run(80)
    ((_, group, start, *_),) = world.list_events()
    assert (group, start) == (world.name(2), at(65))


def test_failing_queries_make_every_group_blind_and_no_group_goes(tmp_path):
    world = world_of(tmp_path)
    world.jump(0, 40, 8)
    error = PrometheusError("no answer", "timeout")
    for sample in (42, 43):
        world.failures[sample] = dict.fromkeys(NAMES, error)
    world.run(44)
    assert set(world.states().values()) == {"blind"}
    snapshot = world.loop.snapshot
    assert dict(snapshot.failed_queries).keys() == set(NAMES)
    assert snapshot.groups[0].verdict.why == f"query {NAMES[0]} and 2 more failed: timeout"
    assert np.isnan(snapshot.columns.score).all()
    world.run(80)
    assert set(world.states().values()) == {"ok"}
    assert [each[2:3] for each in world.list_events()] == [(at(40),)]


def test_a_group_with_two_series_is_blind_and_says_why(tmp_path):
    world = world_of(tmp_path)
    world.ambiguous[40] = {1: "cpu"}
    world.run(41)
    assert world.states() == {"host-0": "ok", "host-1": "blind", "host-2": "ok"}
    blind = world.loop.snapshot.groups[1].verdict
    assert blind.why == "several series of this group for query cpu"


def test_without_a_tick_for_too_long_everything_is_blind(tmp_path):
    world = world_of(tmp_path)
    world.jump(1, 40, 8)
    world.run(45)
    world.clock.at += 4 * STEP
    snapshot = world.loop.snapshot
    assert {str(each.verdict.state) for each in snapshot.groups} == {"blind"}
    assert (snapshot.columns.state == BLIND).all()
    assert np.isnan(snapshot.columns.score).all()
    assert snapshot.groups[1].verdict.why == "no tick has ended for 2m"
    assert snapshot.groups[1].event is not None


def test_an_overdue_snapshot_reads_only_what_is_published(tmp_path):
    """Another thread may be in the middle of a change of groups."""
    world = world_of(tmp_path)
    world.run(45)
    world.clock.at += 10 * STEP
    world.loop._live = None
    assert len(world.loop.snapshot.groups) == 3


def test_a_tick_that_fails_makes_all_blind_and_the_next_one_recovers(tmp_path):
    world = world_of(tmp_path)
    world.run(40)
    poll, world.poll = world.poll, lambda at: 1 / 0
    world.tick()
    assert {each.verdict.state for each in world.loop.snapshot.groups} == {State.BLIND}
    world.poll = poll
    world.tick()
    assert set(world.states().values()) == {"ok"}


def test_a_retired_loop_publishes_and_saves_nothing_more(tmp_path):
    world = world_of(tmp_path)
    world.run(40)
    world.loop.retire()
    saved, snapshot = (tmp_path / "detection_state.npz").read_bytes(), world.loop.snapshot
    world.tick()
    assert world.loop.snapshot is snapshot
    assert (tmp_path / "detection_state.npz").read_bytes() == saved


def test_an_event_log_that_cannot_be_written_is_counted_and_ends_nothing(tmp_path):
    world = world_of(tmp_path)
    world.jump(0, 40, 6)
    world.run(40)
    world.events.close()
    world.run(60)
    assert set(world.states().values()) == {"ok"}


def test_many_events_at_once_are_written_with_bounded_work(tmp_path):
    hosts = 70  # more than have details, and than peaks are written at once
    world = world_of(tmp_path, hosts=hosts, samples=68)
    for host in range(hosts):
        world.jump(host, 40, 8)
    world.run(68)
    events = world.list_events()
    assert len(events) == hosts
    assert {reason for *_, reason in events} == {"quiet"}
    peaks = [each.event.peak_ratio for each in world.events.find(limit=1000)]
    state = world.loop.live.state.events
    highest = state.peak.score / state.peak.limit
    np.testing.assert_allclose(sorted(peaks), sorted(highest))
    assert len(world.history._details) <= 64


def test_each_sample_of_a_mass_incident_is_written_with_work_in_proportion_to_its_groups(tmp_path):
    def count_rows(hosts):
        (folder := tmp_path / str(hosts)).mkdir()
        world = world_of(folder, hosts=hosts)
        for host in range(hosts):
            world.jump(host, 35, 8)
        rows, before = [], 0
        while world.sample < 60:
            world.tick()
            total = world.events._connection.total_changes
            rows.append(total - before)
            before = total
        return np.array(rows)

    few, many = count_rows(12), count_rows(48)
    assert many.max() <= 4 * 48 + 2  # an event, its member, both their ids; then the incident
    assert 0 < many.sum() <= 4.5 * few.sum()


def test_history_has_every_sample_and_details_of_what_is_anomalous(tmp_path):
    world = world_of(tmp_path)
    world.jump(1, 40, 8)
    world.run(45)
    calm = world.history.read(world.name(0), at(10), at(44))
    assert calm.times.tolist() == [at(sample) for sample in range(10, 45)]
    assert not np.isnan(calm.score[-1])
    detailed = world.history.of(world.name(1)).between(at(42), at(44))
    assert not np.isnan(detailed.observed).any()
    assert world.history.of("no such group").between().times.size == 0


def test_details_that_somebody_asked_for_are_kept_up_to_date(tmp_path):
    world = world_of(tmp_path)
    world.run(40)
    group = world.history.of(world.name(0))
    group.between()
    assert world.filled == [world.name(0)]
    world.run(45)
    found = group.between(at(40), at(44))
    assert found.times.size == 5
    assert not np.isnan(found.observed).any()
    assert world.filled == [world.name(0)]


def test_details_that_could_not_be_read_are_read_again_later(tmp_path):
    world = world_of(tmp_path)
    world.run(40)
    world.history._fill = lambda name, labels, history: bool(world.filled.append(name))
    group = world.history.of(world.name(0))
    group.between()
    group.between()
    assert world.filled == [world.name(0)] * 2


def test_history_follows_time_that_goes_back_and_late_judgements(tmp_path):
    world = world_of(tmp_path)
    history = world.history
    history.regroup(["a"], [label(0)])

    def add(sample, score):
        history.add(at(sample), np.ones(1, np.uint8), np.array([score]), np.ones(1))

    for sample in range(100):
        add(sample, 1.0)
    for sample in (97, 98, 99, 100):
        add(sample, 2.0)
    found = history.read("a", -np.inf, np.inf)
    assert found.times.tolist() == [at(sample) for sample in range(41, 101)]
    assert found.score[-5:].tolist() == [1.0, 2.0, 2.0, 2.0, 2.0]
    add(50, 3.0)
    assert history.read("a", -np.inf, np.inf).times[-1] == at(50)


def test_history_may_be_read_while_groups_change(tmp_path):
    world = world_of(tmp_path, hosts=6, samples=60)
    problems, done = [], threading.Event()

    def read():
        while not done.is_set():
            try:
                for host in range(6):
                    world.history.of(world.name(host)).between()
                json.dumps([str(each.verdict.state) for each in world.loop.snapshot.groups])
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
                problems.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    for host in range(6):
        world.present[host] = (host * 5, 60 - host * 4)
    world.run(60)
    done.set()
    thread.join()
    assert problems == []

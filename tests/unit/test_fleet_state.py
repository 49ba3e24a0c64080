"""Groups that come and go change nothing for those that stay."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promad.data.frame import MetricFrame
from promad.data.rows import move_rows, plan_move
from promad.detection.live import LiveDetector
from promad.detection.state import begin_hysteresis, begin_state, choose_rule
from promad.detection.state_file import StateFile
from promad.detection.step import rewarm, run, step
from promad.scoring.scoring import Scoring
from promad.thresholds import THRESHOLDS, ThresholdSettings
from promad.thresholds.controller import FleetBudget, put_to_work
from tests.support.detectors import detector_of, host_samples
from tests.support.simulated import LENGTH, NAMES, START

STEP = 30.0
SAMPLES = 45
HOSTS = 4
HOW = ThresholdSettings(
    step=3600.0,
    false_alarms_per_week=5.0,
    enter_after=2,
    leave_after=3,
    leave_below=0.3,
    hold_seconds=600.0,
)
"""A step of an hour, so that the controller judges within a test's samples."""
METHODS = ("fixed", "pot", "spot", "dspot", "dynamic", "ending soon", "spot, ending soon")


def make_values(seed):
    """(hosts, samples, features), with gaps, and jumps that begin events."""
    chance = np.random.default_rng(seed)
    values = np.stack([host_samples(SAMPLES, seed=host) for host in range(HOSTS)])
    for host in range(HOSTS):
        for _ in range(chance.integers(0, 4)):
            start, length = chance.integers(0, SAMPLES), chance.integers(1, 9)
            values[host, start : start + length, chance.integers(0, 3)] = np.nan
        for _ in range(chance.integers(1, 5)):
            start = chance.integers(LENGTH, SAMPLES)
            values[host, start : start + 4, 0] *= 4
    return values


def make_detector(method):
    method, _, soon = method.partition(", ")
    how = "ending soon" if "ending soon" in (method, soon) else "smoothed"
    if method in {"fixed", "ending soon"}:
        return detector_of(share=0.6, threshold=0.9, how=how)
    calibration = np.random.default_rng(0).chisquare(4, 400) / 20
    threshold = THRESHOLDS[method](calibration, replace(HOW, step=30.0, level=0.8))
    return replace(detector_of(share=0.6, how=how), threshold=threshold)


def label(host):
    return (("instance", f"host-{host}"),)


def begin(detector, hosts, per):
    labels = tuple(map(label, hosts))
    how = choose_rule(detector, HOW)
    limits = put_to_work(
        detector.threshold, how, adapt=True, groups=len(hosts), fleet=FleetBudget(per, 0.5)
    )
    hysteresis = begin_hysteresis(how, len(hosts))
    state = begin_state(detector, limits, "d", labels, hysteresis)
    return LiveDetector(detector, detector.calibrate(labels), state)


def sample_of(values, hosts, sample):
    return MetricFrame(
        START + sample * STEP,
        STEP,
        NAMES,
        tuple(map(label, hosts)),
        values[list(hosts), sample : sample + 1],
    )


def describe(live, judgements, row):
    """What a sample brought for a group: numbers, and what must be the same to the letter."""
    ended = judgements.ended.get(row)
    current = live.state.events.open_event(row)
    numbers = [judgements.score[row], judgements.limit[row], judgements.mse[row]]
    return (
        np.r_[numbers, judgements.features[row].reshape(-1)],
        (
            int(judgements.state[row]),
            bool(judgements.began[row]),
            int(live.state.events.begun[row]),
            None if ended is None else (ended.id, ended.start, ended.end, ended.peak_at),
            None if current is None else (current.id, current.flagged_at, current.peak_at),
        ),
    )


def assert_same(found, expected):
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-9, atol=1e-8)
    assert found[1] == expected[1]


def run_with_churn(detector, values, schedule, per):
    """(host, sample) → what it brought; groups of the fleet change as the schedule has it."""
    live, hosts, found = begin(detector, (), per), (), {}
    for sample in range(SAMPLES):
        if sample in schedule:
            hosts, before = schedule[sample], live.state
            live = begin(detector, hosts, per)
            live.state.adopt(before)
        if hosts:
            part = sample_of(values, hosts, sample)
            judgements = step(detector, live.calibration, live.state, part)
            for row, host in enumerate(hosts):
                found[host, sample] = describe(live, judgements, row)
    return found


def run_alone(detector, values, host, first, last):
    live, found = begin(detector, (host,), "group"), {}
    for sample in range(first, last):
        part = sample_of(values, (host,), sample)
        judgements = step(detector, live.calibration, live.state, part)
        found[host, sample] = describe(live, judgements, 0)
    return found


SCHEDULES = st.dictionaries(
    st.integers(1, SAMPLES - 1),
    st.permutations(range(HOSTS)).flatmap(
        lambda hosts: st.integers(0, HOSTS).map(lambda count: tuple(hosts[:count]))
    ),
    max_size=6,
)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=2)
@given(seed=st.integers(0, 1000), schedule=SCHEDULES)
def test_a_group_continues_as_if_it_were_alone_whatever_others_do(method, seed, schedule):
    detector, values = make_detector(method), make_values(seed)
    schedule = {0: tuple(range(HOSTS)), **schedule}
    found = run_with_churn(detector, values, schedule, "group")
    for host in (0, 1):
        changes = [*sorted(schedule), SAMPLES]
        present = [host in schedule[at] for at in changes[:-1]]
        first = None
        for at, until, here in zip(changes, changes[1:], present, strict=False):
            if not here:
                first = None
                continue
            first = at if first is None else first
            if until == SAMPLES or host not in schedule[until]:
                for key, expected in run_alone(detector, values, host, first, until).items():
                    assert_same(found[key], expected)


@pytest.mark.parametrize("method", ["fixed", "pot", "dspot"])
@settings(max_examples=2)
@given(
    seed=st.integers(0, 1000),
    orders=st.dictionaries(
        st.integers(1, SAMPLES - 1), st.permutations(range(HOSTS)).map(tuple), max_size=6
    ),
)
def test_a_shared_budget_continues_over_a_change_of_groups(method, seed, orders):
    detector, values = make_detector(method), make_values(seed)
    values[HOSTS - 1] = np.nan  # comes and goes without a score
    everyone = tuple(range(HOSTS))
    without = {
        at: tuple(host for host in order if host != HOSTS - 1) if at % 2 else order
        for at, order in orders.items()
    }
    expected = run_with_churn(detector, values, {0: everyone}, "detector")
    found = run_with_churn(detector, values, {0: everyone, **without}, "detector")
    for key, one in found.items():
        assert_same(one, expected[key])


def list_ids(judged, live):
    return [
        (each.at, row, event.id, event.start, event.end)
        for each in judged
        for row, event in each.ended.items()
    ] + [
        (live.state.names[row], live.state.events.event(row).id)
        for row in np.flatnonzero(live.state.events.hysteresis.open).tolist()
    ]


@pytest.mark.parametrize("per", ["group", "detector"])
@pytest.mark.parametrize("method", METHODS)
def test_a_saved_state_continues_as_if_nothing_were_between(tmp_path, method, per):
    detector, values, hosts = make_detector(method), make_values(3), tuple(range(HOSTS))
    frame = MetricFrame(START, STEP, NAMES, tuple(map(label, hosts)), values)
    whole = begin(detector, hosts, per)
    expected = list(run(detector, whole.calibration, whole.state, frame))
    for stopped in (5, 20, 33):
        before = begin(detector, hosts, per)
        list(run(detector, before.calibration, before.state, frame.slice(0, stopped)))
        StateFile(tmp_path, "b").save(before.state, {"some": [1]}, 0.0)
        saved = StateFile(tmp_path, "b").read()
        assert saved.groups == frame.groups
        after = begin(detector, hosts, per)
        saved.restore(after.state)
        after.state.seen_until = before.state.seen_until
        rewarm(detector, after.calibration, after.state, frame, np.arange(HOSTS))
        judged = list(run(detector, after.calibration, after.state, frame.slice(stopped, SAMPLES)))
        for one, twin in zip(judged, expected[stopped:], strict=True):
            np.testing.assert_allclose(one.score, twin.score, rtol=1e-3, atol=1e-3)
            np.testing.assert_allclose(one.limit, twin.limit, rtol=1e-3)
        np.testing.assert_array_equal(after.state.events.begun, whole.state.events.begun)
        for row in np.flatnonzero(before.state.events.hysteresis.open).tolist():
            assert after.state.events.event(row).start <= frame.end
        assert saved.shared == {"some": [1]}
        assert list_ids(judged, after) == list_ids(expected[stopped:], whole)


def test_a_file_of_an_earlier_version_is_continued(tmp_path):
    detector, values, hosts = make_detector("ending soon"), make_values(3), (0, 1)
    frame = MetricFrame(START, STEP, NAMES, tuple(map(label, hosts)), values[:2])
    live = begin(detector, hosts, "group")
    list(run(detector, live.calibration, live.state, frame))
    file = StateFile(tmp_path, "b")
    file.save(live.state, {}, 0.0)
    saved, after = file.read(), begin(detector, hosts, "group")
    added = {"restarted_at", "events.height", "onsets.at", "onsets.level", "onsets.shift"}
    kept = {path: array for path, array in saved.arrays.items() if path not in added}
    assert len(kept) == len(saved.arrays) - len(added)
    replace(saved, arrays=kept).restore(after.state)
    np.testing.assert_array_equal(after.state.scored_until, live.state.scored_until)
    assert np.isnan(after.state.restarted_at).all()


def test_a_bundle_of_an_earlier_version_ends_events_by_the_score():
    detector = detector_of(how="ending soon")
    content = detector.scoring.to_json()
    assert choose_rule(detector, HOW).leave_below == 0.3
    for key in ("recent_samples", "typical_score"):
        del content[key]
    old = replace(detector, scoring=Scoring.from_json(content))
    rule = choose_rule(old, HOW)
    assert (rule.leave_below, rule.hold_seconds, rule.typical) == (None, 0.0, 0.0)


def test_the_peak_of_an_open_event_is_saved_with_its_features(tmp_path):
    detector, hosts = make_detector("fixed"), (0,)
    values = make_values(3)
    values[0] = host_samples(SAMPLES, seed=0)
    values[0, 35:, 0] *= 4
    frame = MetricFrame(START, STEP, NAMES, (label(0),), values[:1])
    live = begin(detector, hosts, "group")
    list(run(detector, live.calibration, live.state, frame))
    assert live.state.events.hysteresis.open[0]
    StateFile(tmp_path, "b").save(live.state, {}, 0.0)
    saved, after = StateFile(tmp_path, "b").read(), begin(detector, hosts, "group")
    saved.restore(after.state)
    assert after.state.events.event(0) == live.state.events.event(0)
    assert after.state.events.event(0).top_features


@pytest.mark.parametrize(
    "spoil", ["cut", "noise", "empty", "other bundle", "none", "fifo", "directory", "device"]
)
def test_what_cannot_be_read_starts_fresh(tmp_path, spoil):
    live = begin(make_detector("spot"), (0, 1), "detector")
    file = StateFile(tmp_path, "b")
    file.save(live.state, {}, 0.0)
    path = tmp_path / "detection_state.npz"
    content = path.read_bytes()
    if spoil in ("none", "fifo", "directory", "device"):
        path.unlink()
    if spoil == "fifo":
        os.mkfifo(path)
    elif spoil == "directory":
        path.mkdir()
    elif spoil == "device":
        path.symlink_to("/dev/zero")
    elif spoil not in ("none", "other bundle"):
        path.write_bytes(
            {"cut": content[: len(content) // 2], "noise": b"x" * 99, "empty": b""}[spoil]
        )
    reader = StateFile(tmp_path, "c" if spoil == "other bundle" else "b")
    assert reader.read() is None
    assert reader.other_bundle == (spoil == "other bundle")
    assert reader.read_groups() == (live.state.labels if spoil == "other bundle" else ())


def test_a_state_of_another_form_is_refused_and_changes_only_the_copy(tmp_path):
    live = begin(make_detector("spot"), (0, 1), "detector")
    StateFile(tmp_path, "b").save(live.state, {}, 0.0)
    saved = StateFile(tmp_path, "b").read()
    with pytest.raises((KeyError, ValueError)):
        saved.restore(begin(make_detector("spot"), (0, 1, 2), "detector").state)
    with pytest.raises((KeyError, ValueError)):
        saved.restore(begin(make_detector("dynamic"), (0, 1), "detector").state)


def test_a_large_state_is_saved_less_often(tmp_path):
    file = StateFile(tmp_path, "b")
    assert file.is_due(0.0)
    file.save(begin(make_detector("fixed"), (0, 1), "detector").state, {}, 0.0)
    assert (file.is_due(59.0), file.is_due(60.0), file.is_due(-1.0)) == (False, True, True)
    many = begin(make_detector("fixed"), tuple(range(30_000)), "detector")
    file.save(many.state, {}, 0.0)
    assert (file.is_due(100.0), file.is_due(300.0)) == (False, True)


def test_rows_are_moved_by_their_keys():
    move = plan_move(["a", "b", "c"], ["c", "x", "a"])
    numbers, names = np.zeros(3), ["", "", ""]
    move_rows(move, (np.array([1.0, 2.0, 3.0]), numbers), (["A", "B", "C"], names))
    assert (numbers.tolist(), names) == ([3.0, 0.0, 1.0], ["C", "", "A"])
    assert plan_move([], ["a"]).source.shape == (0,)

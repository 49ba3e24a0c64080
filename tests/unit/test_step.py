"""A step over many groups yields for each what a slow twin yields for it alone."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promad.data.frame import MetricFrame
from promad.data.moving_average import TOLERANCE as SMOOTHING_TOLERANCE
from promad.detection.live import LiveDetector
from promad.detection.state import begin_hysteresis, begin_state, choose_rule
from promad.detection.step import catch_up, run, step
from promad.events.verdict import Verdict
from promad.models.fusion import Fusion
from promad.scoring import streaming
from promad.thresholds import THRESHOLDS, Threshold, ThresholdSettings
from promad.thresholds.controller import put_to_work
from tests.support import naive_threshold_states
from tests.support.detectors import LastAgain, detector_of, host_samples
from tests.support.naive_step import NaiveDetection, Tracker
from tests.support.simulated import LENGTH, NAMES, START
from tests.support.stub_model import MeanOfWindow

STEP = 30.0
SAMPLES = 60
TOLERANCE = 1e-9
"""Batch and stream agree to this share, for linear arithmetic in double precision."""

LARGEST_ERROR = 20.0
"""What the tolerance of a moving average that was begun again is a share of."""

ENDING_SOON = ("ending soon", "of two models, ending soon")
"""Ways of scoring with a short average, by which events end."""

HOW = ThresholdSettings(
    step=3600.0, false_alarms_per_week=20.0, enter_after=2, leave_after=3, leave_below=0.5
)
"""A step of an hour, so that the controller judges within a test's samples."""


def sort_labels(groups):
    return tuple((("instance", f"host-{group}"),) for group in range(groups))


def frame_of(values):
    """(groups, samples, features) as a frame."""
    return MetricFrame(START, STEP, NAMES, sort_labels(len(values)), values)


def gappy_values(groups, seed):
    """A host each, with gaps of its own, missing features, and now and then a jump."""
    chance = np.random.default_rng(seed)
    values = np.stack([host_samples(SAMPLES, seed=group) for group in range(groups)])
    for group in range(groups):
        for _ in range(chance.integers(0, 6)):
            start, length = chance.integers(0, SAMPLES), chance.integers(1, 9)
            columns = chance.permutation(len(NAMES))[: chance.integers(1, len(NAMES) + 1)]
            values[group, start : start + length, columns] = np.nan
        for _ in range(chance.integers(0, 3)):
            start = chance.integers(LENGTH, SAMPLES)
            values[group, start : start + 6, 0] *= 4
    return values


def live_of(detector, groups, adapt=True):
    how = choose_rule(detector, HOW)
    limits = put_to_work(detector.threshold, how, adapt=adapt, groups=groups)
    hysteresis = begin_hysteresis(how, groups)
    state = begin_state(detector, limits, "d", sort_labels(groups), hysteresis)
    return LiveDetector(detector, detector.calibrate(sort_labels(groups)), state)


def run_naively(detector, values, adapt=True):
    """Each sample's verdict and the event that ended with it, for one group's (samples, ...)."""
    threshold = detector.threshold
    limits = (
        naive_threshold_states.control(threshold, HOW)
        if adapt
        else naive_threshold_states.begin(threshold)
    )
    below = None if detector.scoring.recent_samples is None else HOW.leave_below
    tracker = Tracker("g", HOW.enter_after, HOW.leave_after, below)
    twin = NaiveDetection(detector, limits, tracker)
    return [twin.step(START + row * STEP, sample) for row, sample in enumerate(values)]


def assert_alike(found: Verdict, expected: Verdict, tolerance: float = TOLERANCE) -> None:
    """Equal in words, close in numbers."""
    for name in ("at", "state", "missing", "why", "plain"):
        assert getattr(found, name) == getattr(expected, name), name
    for name in ("threshold", "score", "mse"):
        assert_close(getattr(found, name), getattr(expected, name), tolerance)
    assert [view.name for view in found.features] == [view.name for view in expected.features]
    for view, twin in zip(found.features, expected.features, strict=True):
        assert view.since == twin.since
        for name in ("error", "contribution", "observed", "expected", "elevation"):
            assert_close(getattr(view, name), getattr(twin, name), tolerance)
        assert (view.largest is None) == (twin.largest is None), view.name
        for number, own in zip(view.largest or (), twin.largest or (), strict=True):
            assert_close(number, own, tolerance)


def assert_close(found, expected, tolerance):
    if expected is None or math.isnan(expected):
        assert found is expected or math.isnan(found)
    else:
        assert found == pytest.approx(expected, rel=tolerance, abs=tolerance * LARGEST_ERROR)


def assert_event_alike(found, expected, tolerance=TOLERANCE):
    if expected is None:
        assert found is None
        return
    assert (found.start, found.flagged_at, found.end) == (
        expected.start,
        expected.flagged_at,
        expected.end,
    )
    assert_alike(found.peak, expected.peak, tolerance)


@pytest.mark.parametrize("groups", [1, 3, 50])
@pytest.mark.parametrize(
    "how", ["mse", "smoothed", "of the largest", "of two models", *ENDING_SOON]
)
def test_each_group_is_judged_as_in_a_run_of_its_own(groups, how):
    detector = detector_of(how=how, share=0.6, threshold=0.9)
    values = gappy_values(groups, seed=groups)
    live = live_of(detector, groups)
    stepped = [
        step(live.detector, live.calibration, live.state, part)
        for part in frame_of(values).split(1)
    ]
    events = 0
    for group in range(0, groups, max(1, groups // 6)):
        for judgements, (verdict, ended) in zip(
            stepped, run_naively(detector, values[group]), strict=True
        ):
            assert_alike(judgements.verdict(group), verdict)
            assert_event_alike(judgements.ended.get(group), ended)
            events += ended is not None
    assert events or groups == 1


@pytest.mark.parametrize("name", ["pot", "spot", "dspot", "dynamic"])
@pytest.mark.parametrize("how", ["smoothed", "ending soon"])
def test_thresholds_that_move_move_for_each_group_by_itself(name, how):
    calibration = np.random.default_rng(0).chisquare(4, 400) / 20
    threshold = THRESHOLDS[name](calibration, replace(HOW, step=30.0, level=0.8))
    detector = replace(detector_of(share=0.6, how=how), threshold=threshold)
    values = gappy_values(3, seed=11)
    live = live_of(detector, 3)
    judged = list(run(live.detector, live.calibration, live.state, frame_of(values)))
    for group in range(3):
        for judgements, (verdict, ended) in zip(
            judged, run_naively(detector, values[group]), strict=True
        ):
            assert_alike(judgements.verdict(group), verdict)
            assert_event_alike(judgements.ended.get(group), ended)


@settings(max_examples=20)
@given(
    st.integers(0, 10_000),
    st.lists(st.integers(1, 17), min_size=1, max_size=8),
    st.sampled_from(["smoothed", *ENDING_SOON]),
)
def test_how_samples_are_cut_into_pieces_changes_nothing(seed, sizes, how):
    values, detector = gappy_values(3, seed), detector_of(share=0.6, how=how)
    whole_live, cut_live = live_of(detector, 3), live_of(detector, 3)
    whole = list(whole_live_run(whole_live, values))
    pieces, first = [], 0
    while first < SAMPLES:
        size = sizes[len(pieces) % len(sizes)]
        part = frame_of(values).slice(first, min(first + size, SAMPLES))
        pieces.extend(run(cut_live.detector, cut_live.calibration, cut_live.state, part))
        first += size
    for one, other in zip(whole, pieces, strict=True):
        for group in range(3):
            assert_alike(one.verdict(group), other.verdict(group))
            assert_event_alike(one.ended.get(group), other.ended.get(group))


def whole_live_run(live, values):
    return run(live.detector, live.calibration, live.state, frame_of(values))


def test_long_frames_are_scored_in_pieces_with_the_same_outcome(monkeypatch):
    values = gappy_values(2, 5)
    whole = list(whole_live_run(live_of(detector_of(share=0.6), 2), values))
    monkeypatch.setattr("promad.detection.step.SAMPLES_AT_ONCE", 7)
    pieces = list(whole_live_run(live_of(detector_of(share=0.6), 2), values))
    for one, other in zip(whole, pieces, strict=True):
        assert_alike(one.verdict(1), other.verdict(1))
    assert streaming.SAMPLES_AT_ONCE > 7


@settings(max_examples=20)
@given(
    st.integers(0, 10_000), st.integers(1, SAMPLES - 1), st.sampled_from(["smoothed", *ENDING_SOON])
)
def test_a_restart_changes_nothing_from_then_on(seed, stopped, how):
    """State saved as JSON, the window read again from the frame: as after a real restart."""
    values = gappy_values(3, seed)
    detector = detector_of(share=0.6, how=how)
    whole = list(whole_live_run(live_of(detector, 3), values))
    before = live_of(detector, 3)
    list(run(detector, before.calibration, before.state, frame_of(values).slice(0, stopped)))
    after = live_of(detector, 3)
    for group in range(3):
        saved = json.loads(json.dumps(before.state.to_json(group)))
        if saved["scored_until"] is None:
            return
        after.state.resume(group, saved)
        after.state.limits.resume(group, json.loads(json.dumps(before.state.limits.to_json(group))))
    resumed = list(catch_up(detector, after.calibration, after.state, frame_of(values)))
    for one, other in zip(whole[-len(resumed) :], resumed, strict=True):
        for group in range(3):
            if not other.fresh[group] and not np.isnan(other.score[group]):
                continue  # judged before the restart: shown, and not counted again
            assert_alike(other.verdict(group), one.verdict(group), SMOOTHING_TOLERANCE)
            assert_event_alike(other.ended.get(group), one.ended.get(group), SMOOTHING_TOLERANCE)


def test_an_event_ends_soon_and_what_is_over_does_not_begin_another():
    values = np.stack([host_samples(SAMPLES, seed=0)])
    values[0, 20:24, 0] *= 4
    ends, counts = [], []
    for how in ({"span": 16}, {"span": 16, "recent_samples": 2}):
        detector = detector_of(share=0.6, threshold=3.0)
        detector = replace(detector, scoring=replace(detector.scoring, **how))
        judged = list(whole_live_run(live_of(detector, 1), values))
        ends.append(min(at for at, each in enumerate(judged) if each.ended))
        counts.append(sum(bool(each.began[0]) for each in judged))
    assert ends[1] < ends[0]
    assert counts == [1, 1]


def test_a_group_that_is_resumed_catches_up_beside_one_that_is_new():
    detector, values = detector_of(share=0.6), gappy_values(2, 4)
    before = live_of(detector, 2)
    list(run(detector, before.calibration, before.state, frame_of(values).slice(0, 40)))
    after = live_of(detector, 2)
    after.state.resume(0, before.state.to_json(0))
    found = list(catch_up(detector, after.calibration, after.state, frame_of(values)))
    assert found[0].at == before.state.scored_until[0] + STEP
    assert sum(bool(each.fresh[1]) for each in found) <= 1
    whole = list(whole_live_run(live_of(detector, 2), values))[-len(found) :]
    for one, other in zip(whole, found, strict=True):
        assert_alike(other.verdict(0), one.verdict(0), SMOOTHING_TOLERANCE)


def test_a_correction_is_judged_with_the_corrected_window():
    detector = detector_of(share=0.6)
    values = np.stack([host_samples(SAMPLES, seed=0)])
    late = values.copy()
    late[0, 40:44, 1] = np.nan
    live = live_of(detector, 1)
    list(run(detector, live.calibration, live.state, frame_of(late).slice(0, 44)))
    corrected_from = START + 40 * STEP
    found = list(
        catch_up(
            detector, live.calibration, live.state, frame_of(values).slice(0, 45), corrected_from
        )
    )
    expected = run_naively(detector, values[0, :45])
    verdict = found[-1].verdict(0)
    assert_alike(verdict, replace(expected[-1][0], state=verdict.state), SMOOTHING_TOLERANCE)
    assert found[-1].fresh[0]
    assert not found[0].fresh.any() or np.isnan(found[0].score[0])


def test_no_window_spans_samples_that_were_never_polled():
    detector = detector_of(share=0.6)
    values = np.stack([host_samples(SAMPLES, seed=0), 9 * host_samples(SAMPLES, seed=1)])
    live, later = live_of(detector, 2), frame_of(values)
    before = replace(later, start=START - 900 * STEP, values=values / 9)
    list(catch_up(detector, live.calibration, live.state, before))
    found = list(catch_up(detector, live.calibration, live.state, later))
    assert [each.at for each in found] == later.times[detector.samples_needed - 1 :].tolist()
    alone = list(whole_live_run(live_of(detector, 2), values))[-len(found) :]
    for one, other in zip(alone, found, strict=True):
        np.testing.assert_allclose(other.score, one.score, rtol=SMOOTHING_TOLERANCE)


def test_a_group_that_lacks_everything_does_not_touch_another():
    values = gappy_values(2, 3)
    alone = list(whole_live_run(live_of(detector_of(share=0.6), 1), values[:1]))
    values[1] = np.nan
    both = list(whole_live_run(live_of(detector_of(share=0.6), 2), values))
    for one, other in zip(alone, both, strict=True):
        assert_alike(other.verdict(0), one.verdict(0))
        assert other.verdict(1).score is None


def test_scores_rest_on_the_past_alone():
    values = gappy_values(3, 8)
    changed = values.copy()
    changed[:, 40:] = 1e6
    first, second = (
        list(whole_live_run(live_of(detector_of(share=0.6), 3), each)) for each in (values, changed)
    )
    for one, other in zip(first[:40], second[:40], strict=True):
        np.testing.assert_array_equal(one.score, other.score)


def test_a_fusion_counts_members_side_by_side():
    detector = detector_of(how="of two models")
    assert isinstance(detector.model, Fusion)
    assert {type(each) for each in detector.model.members.values()} == {MeanOfWindow, LastAgain}


def test_a_fixed_threshold_is_not_controlled():
    threshold = Threshold("fixed", 2.0, None, "given")
    assert put_to_work(threshold, HOW, adapt=True).adaptations.tolist() == [0]

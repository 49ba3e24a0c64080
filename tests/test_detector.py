"""A score rests on the past alone, and is the same whether its sample came alone or with others."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated import LENGTH, NAMES, frame_of, host_values
from stub_model import MeanOfWindow

from promad.detector import Detector
from promad.preparation import REACH, Preparation
from promad.scaling import Scaler
from promad.thresholds import Threshold
from promad.verdict import State

STRATEGIES = ("ffill_then_bfill", "mean", "median", "drop_rows", "none")
STEP = 30.0
SAMPLES = 70


def detector_of(strategy="ffill_then_bfill", limit=3, length=LENGTH, threshold=1.0):
    values = host_values(SAMPLES)
    scaler = Scaler("StandardScaler", values.mean(axis=0), values.std(axis=0))
    preparation = Preparation(
        NAMES, STEP, strategy, limit, values.mean(axis=0), scaler, ("hour_of_day",), "Europe/Berlin"
    )
    limit_ = Threshold("fixed", threshold, None, "a test")
    return Detector(preparation, MeanOfWindow(len(NAMES)), limit_, length)


@st.composite
def gappy(draw):
    """The host's values with stretches of any feature missing."""
    values = host_values(SAMPLES)
    gaps = st.tuples(st.integers(0, SAMPLES), st.integers(1, 9), st.integers(0, len(NAMES) - 1))
    for start, length, column in draw(st.lists(gaps, max_size=8)):
        values[start : start + length, column] = np.nan
    return values


def streamed(detector, values, seen):
    """The newest score after each sample, by time, from frames of up to `seen` samples."""
    scores = {}
    for end in range(1, len(values) + 1):
        frame = frame_of(values).slice(max(0, end - seen), end)
        newest = detector.score(frame, since=frame.end - STEP)
        assert len(newest.times) <= 1
        if len(newest.times):
            scores[float(newest.times[0])] = newest
    return scores


def rows_of(scores):
    """Every score of a batch by its time."""
    return {
        float(time): (score, errors, expected)
        for time, score, errors, expected in zip(
            scores.times, scores.score, scores.errors, scores.expected, strict=True
        )
    }


@given(gappy(), st.sampled_from(STRATEGIES), st.integers(0, LENGTH - 1), st.integers(0, 9))
def test_a_sample_at_a_time_gives_exactly_the_scores_of_the_batch(values, strategy, limit, more):
    """Wherever the batch has one: a gap that will turn out long still looks short at first."""
    detector = detector_of(strategy, limit)
    alone = streamed(detector, values, detector.samples_needed + more)
    for time, (score, errors, expected) in rows_of(detector.score(frame_of(values))).items():
        assert alone[time].score.item() == score
        np.testing.assert_array_equal(alone[time].errors[0], errors)
        np.testing.assert_array_equal(alone[time].expected[0], expected)


def test_the_real_model_gives_the_same_scores_a_sample_at_a_time(worked):
    detector, values = worked.detector(), worked.values[90:130]
    alone = streamed(detector, values, detector.samples_needed)
    batch = detector.score(frame_of(values))
    assert len(batch.times) == 40 - LENGTH + 1
    for time, score in zip(batch.times.tolist(), batch.score, strict=True):
        assert alone[time].score.item() == pytest.approx(score, rel=1e-4)


@given(gappy(), st.sampled_from(STRATEGIES), st.integers(LENGTH, SAMPLES), st.floats(-1e6, 1e6))
def test_what_comes_later_changes_no_score(values, strategy, now, other):
    detector, changed = detector_of(strategy), values.copy()
    changed[now:] = np.where(np.isnan(changed[now:]), np.nan, other)
    before, after = (rows_of(detector.score(frame_of(data))) for data in (values, changed))
    moment = frame_of(values).times[now - 1]
    earlier = [time for time in before if time <= moment]
    assert earlier == [time for time in after if time <= moment]
    for time in earlier:
        assert before[time][0] == after[time][0]


@given(gappy(), st.sampled_from(STRATEGIES))
def test_no_window_is_scored_that_holds_a_long_gap(values, strategy):
    detector = detector_of(strategy)
    usable = detector.preparation.fill(frame_of(values)).usable
    ends = [end for end in range(LENGTH, SAMPLES + 1) if usable[end - LENGTH : end].all()]
    times = frame_of(values).times
    assert detector.score(frame_of(values)).times.tolist() == [times[end - 1] for end in ends]


def test_only_scores_after_a_moment_are_computed_if_asked_so():
    frame = frame_of(host_values(SAMPLES))
    everything = detector_of().score(frame)
    newest = detector_of().score(frame, since=frame.end - 3 * STEP)
    np.testing.assert_array_equal(newest.times, everything.times[-3:])
    np.testing.assert_array_equal(newest.errors, everything.errors[-3:])
    np.testing.assert_array_equal(newest.observed, everything.observed[-3:])


def test_too_few_samples_have_no_score():
    scores = detector_of().score(frame_of(host_values(LENGTH - 1)))
    assert (len(scores.times), scores.errors.shape) == (0, (0, len(NAMES)))
    assert detector_of().judge(scores) == []


def test_observed_and_expected_are_in_the_features_own_units():
    values = host_values(SAMPLES)
    scores = detector_of().score(frame_of(values))
    np.testing.assert_array_equal(scores.observed, values[LENGTH - 1 :])
    means = [values[end - LENGTH : end].mean(axis=0) for end in range(LENGTH, SAMPLES + 1)]
    np.testing.assert_allclose(scores.expected, means, rtol=1e-5)


def test_a_sample_that_was_filled_in_is_not_passed_off_as_observed():
    values = host_values(SAMPLES)
    values[-1, 0] = np.nan
    newest = detector_of().score(frame_of(values)).observed[-1]
    assert np.isnan(newest[0])
    assert newest[1:].tolist() == values[-1, 1:].tolist()


def test_the_score_is_the_mean_error_and_the_calendar_is_no_part_of_it():
    scores = detector_of().score(frame_of(host_values(SAMPLES)))
    assert scores.errors.shape[1] == len(NAMES)
    np.testing.assert_allclose(scores.score, scores.errors.mean(axis=1))


@cache
def verdicts(threshold):
    detector = detector_of(threshold=threshold)
    return detector.judge(detector.score(frame_of(host_values(SAMPLES))))


def test_attribution_sums_to_one_over_the_features():
    for verdict in verdicts(1.0):
        assert tuple(view.name for view in verdict.features) == NAMES
        assert sum(view.contribution for view in verdict.features) == pytest.approx(1)
        assert all(view.contribution >= 0 for view in verdict.features)
        errors = [view.error for view in verdict.features]
        assert verdict.score_mse == pytest.approx(np.mean(errors))
        assert verdict.top_features[0].error == max(errors)


def test_without_any_error_nothing_is_to_blame():
    detector = detector_of()
    verdict = detector.judge(detector.score(frame_of(np.ones((LENGTH, 3)))))[0]
    assert verdict.score_mse == pytest.approx(0)
    assert [view.contribution for view in verdict.features] == [0, 0, 0]


def test_a_score_above_the_threshold_is_anomalous_and_one_at_it_is_not():
    scores = sorted(verdict.score_mse for verdict in verdicts(1.0))
    middle = scores[len(scores) // 2]
    for verdict in verdicts(middle):
        assert (verdict.state is State.ANOMALOUS) == (verdict.score_mse > middle)
        assert verdict.threshold_mse == middle
        assert (verdict.score_ratio > 1) == (verdict.state is State.ANOMALOUS)


def test_a_constant_that_moves_to_an_absurd_value_is_far_off_but_finite():
    values = host_values(SAMPLES)
    values[-1, 0] = 1e300
    scores = detector_of().score(frame_of(values))
    assert np.isfinite(scores.score).all()
    assert scores.score[:-1].max() < scores.score[-1] < REACH**2
    verdict = detector_of().judge(scores)[-1]
    assert verdict.top_features[0].name == NAMES[0]
    assert verdict.top_features[0].contribution > 0.9

"""A score rests on the past alone, and is the same whether its sample came alone or with others."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promad.data.preparation import REACH
from promad.events.verdict import State
from promad.scoring.streaming import ScoringState, join_scores, score_frame, score_samples
from tests.support import naive_scoring
from tests.support.detectors import (
    SAMPLES,
    SCORINGS,
    SPAN,
    detector_of,
    judge_rows,
    score_rows,
)
from tests.support.simulated import LENGTH, NAMES, frame_of, host_values

STRATEGIES = ("ffill_then_bfill", "mean", "median", "drop_rows", "none")


each_scoring = st.sampled_from(list(SCORINGS))


@st.composite
def gappy(draw):
    """The host's values with stretches of any feature missing."""
    values = host_values(SAMPLES)
    gaps = st.tuples(st.integers(0, SAMPLES), st.integers(1, 9), st.integers(0, len(NAMES) - 1))
    for start, length, column in draw(st.lists(gaps, max_size=8)):
        values[start : start + length, column] = np.nan
    return values


def bytes_by_time(scores):
    """Everything about each score of a batch, as bytes, by its time."""
    return {
        float(time): tuple(
            getattr(scores, name)[row].tobytes()
            for name in ("score", "errors", "window_errors", "observed", "expected")
        )
        for row, time in enumerate(scores.times)
    }


def test_the_real_model_gives_the_same_scores_a_sample_at_a_time(worked):
    detector, frame = worked.detector(), frame_of(worked.values[104:190])
    batch = score_frame(detector, frame)
    state, calibration = ScoringState.begin(detector, 1), detector.calibrate([()])
    alone = join_scores(
        [score_samples(detector, calibration, state, part) for part in frame.split(1)]
    )
    assert (~np.isnan(batch.score)).sum() == frame.samples - LENGTH + 1
    np.testing.assert_allclose(alone.score, batch.score, rtol=1e-4)


@given(
    gappy(),
    st.sampled_from(STRATEGIES),
    st.integers(LENGTH, SAMPLES),
    st.floats(-1e6, 1e6) | st.just(np.nan),
    each_scoring,
)
def test_what_comes_later_changes_no_score(values, strategy, now, other, how):
    detector, changed = detector_of(strategy, how=how), values.copy()
    changed[now:] = other
    before, after = (
        bytes_by_time(score_rows(detector, frame_of(data))) for data in (values, changed)
    )
    moment = frame_of(values).times[now - 1]
    assert {time: row for time, row in before.items() if time <= moment} == {
        time: row for time, row in after.items() if time <= moment
    }


# What is missing


def beyond_filling(detector, values):
    """Bool (samples, features): where a value is missing beyond what is filled."""
    prepared = detector.preparation
    return np.isnan(
        naive_scoring.fill_as_it_comes(
            values, prepared.fill_strategy, prepared.max_fill_steps, prepared.substitutes
        )
    )


@given(gappy(), st.sampled_from(STRATEGIES), st.sampled_from([0.3, 0.6, 1.0]), each_scoring)
def test_a_window_is_scored_by_the_features_that_it_has_whole_if_they_are_enough(
    values, strategy, share, how
):
    detector = detector_of(strategy, share=share, how=how)
    missing = beyond_filling(detector, values)
    enough = (~missing).sum(axis=1) >= share * len(NAMES)
    ends = [end for end in range(LENGTH, SAMPLES + 1) if enough[end - LENGTH : end].all()]
    scores = score_rows(detector, frame_of(values))
    assert scores.times.tolist() == [frame_of(values).times[end - 1] for end in ends]
    for row, end in enumerate(ends):
        not_measured = np.isnan(values[end - 1])
        lacking = missing[end - LENGTH : end].any(axis=0) | is_too_few(~not_measured, share)
        np.testing.assert_array_equal(np.isnan(scores.errors[row]), lacking)
        np.testing.assert_array_equal(np.isnan(scores.window_errors[row]), lacking)
        assert np.isnan(scores.score[row]) == is_too_few(~lacking & ~not_measured, share)


def is_too_few(known, share):
    return known.sum() < share * len(NAMES) or not known.any()


@pytest.mark.parametrize("how", list(SCORINGS))
def test_a_missing_feature_leaves_what_is_known_of_the_others(how):
    values = host_values(SAMPLES)
    whole = score_rows(detector_of(how=how), frame_of(values))
    values[30:40, 1] = np.nan
    lacking = score_rows(detector_of(how=how), frame_of(values))
    np.testing.assert_array_equal(lacking.times, whole.times)
    assert np.isfinite(lacking.score).all()
    if "two models" not in how:  # there a feature counts by its member's whole score
        np.testing.assert_array_equal(lacking.errors[:, [0, 2]], whole.errors[:, [0, 2]])
    np.testing.assert_array_equal(lacking.window_errors[:, [0, 2]], whole.window_errors[:, [0, 2]])


def test_a_verdict_has_no_view_of_a_missing_feature():
    values = host_values(SAMPLES)
    values[-9:, 1] = np.nan
    detector = detector_of()
    verdict = judge_rows(detector, frame_of(values))[-1]
    assert [view.name for view in verdict.features] == [NAMES[0], NAMES[2]]
    assert sum(view.contribution for view in verdict.features) == pytest.approx(1)
    assert verdict.mse == pytest.approx(np.mean([view.error for view in verdict.features]))


def test_where_too_few_features_are_known_there_is_no_verdict():
    values = host_values(SAMPLES)
    values[-9:, 1] = np.nan
    detector = detector_of(share=0.7)
    verdicts = judge_rows(detector, frame_of(values))
    assert verdicts
    assert verdicts[-1].at == frame_of(values).times[-10]  # a filled value is not a known one


def count_in_window(values):
    return int(score_frame(detector_of(), frame_of(values)).in_window[0, -1])


def test_the_samples_that_make_a_window_are_counted_from_the_newest():
    values = host_values(SAMPLES)
    assert count_in_window(values) == LENGTH
    assert count_in_window(values[:5]) == 5
    values[-20:-4] = np.nan
    assert count_in_window(values) == 4
    values[-9:] = np.nan
    assert count_in_window(values) == 0


@pytest.mark.parametrize("how", list(SCORINGS))
def test_too_few_samples_have_no_score(how):
    frame = frame_of(host_values(LENGTH - 1))
    scores = score_frame(detector_of(how=how), frame)
    assert np.isnan(scores.score).all()
    assert np.isnan(scores.errors).all()
    assert judge_rows(detector_of(how=how), frame) == []


# Conditions


def test_conditions_reach_the_model_and_are_neither_scored_nor_attributed():
    detector, seen = detector_of(scored=2), []
    real = detector.model

    class Watching:
        def apply(self, windows):
            seen.append(windows)
            return real.apply(windows)

    values = host_values(SAMPLES)
    scores = score_rows(replace(detector, model=Watching()), frame_of(values))
    assert seen[0].shape[2] == len(NAMES) + 2  # all features and the calendar
    scaled = detector.preparation.scale(frame_of(values)).values[0]
    np.testing.assert_array_equal(seen[0][:, -1, 2], scaled[LENGTH - 1 :, 2].astype(np.float32))
    assert scores.errors.shape[1] == scores.observed.shape[1] == scores.expected.shape[1] == 2
    for verdict in judge_rows(detector, frame_of(values)):
        assert [view.name for view in verdict.features] == list(NAMES[:2])


def test_a_missing_condition_withdraws_no_score():
    values = host_values(SAMPLES)
    values[20:60, 2] = np.nan
    detector = detector_of(scored=2, share=1.0)
    assert np.isfinite(score_rows(detector, frame_of(values)).score).all()


# Units and verdicts


def test_observed_and_expected_are_in_the_features_own_units():
    values = host_values(SAMPLES)
    scores = score_rows(detector_of(), frame_of(values))
    np.testing.assert_array_equal(scores.observed, values[LENGTH - 1 :])
    means = [values[end - LENGTH : end].mean(axis=0) for end in range(LENGTH, SAMPLES + 1)]
    np.testing.assert_allclose(scores.expected, means, rtol=1e-5)


def test_a_sample_that_was_filled_in_is_not_passed_off_as_observed():
    values = host_values(SAMPLES)
    values[-1, 0] = np.nan
    newest = score_rows(detector_of(), frame_of(values)).observed[-1]
    assert np.isnan(newest[0])
    assert newest[1:].tolist() == values[-1, 1:].tolist()


def scaled_windows():
    values = host_values(SAMPLES)
    scaled = ((values - values.mean(axis=0)) / values.std(axis=0)).astype(np.float32)
    ends = range(LENGTH, SAMPLES + 1)
    return np.array([scaled[end - LENGTH : end] for end in ends], np.float64)


def test_the_plain_score_is_the_mean_squared_error_over_window_and_features():
    scores = score_rows(detector_of(how="mse"), frame_of(host_values(SAMPLES)))
    windows = scaled_windows()
    residuals = windows - windows.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(scores.score, np.square(residuals).mean(axis=(1, 2)), rtol=1e-9)


def test_the_normalised_score_is_its_twins_of_the_last_samples_errors():
    detector = detector_of()
    scores = score_rows(detector, frame_of(host_values(SAMPLES)))
    windows = scaled_windows()
    errors = np.square(windows[:, -1] - windows.mean(axis=1)) / detector.scoring.normaliser
    at = np.arange(len(windows))
    smoothed = [
        naive_scoring.recursive_average(errors[: row + 1], at[: row + 1].tolist(), SPAN)
        for row in at
    ]
    np.testing.assert_allclose(scores.errors, smoothed, rtol=1e-9)
    expected = [naive_scoring.score(list(row), 1, None, 0.3) for row in smoothed]
    np.testing.assert_allclose(scores.score, expected, rtol=1e-9)


@cache
def verdicts(threshold, how="smoothed"):
    detector = detector_of(threshold=threshold, how=how)
    return judge_rows(detector, frame_of(host_values(SAMPLES)))


@pytest.mark.parametrize("how", list(SCORINGS))
def test_attribution_sums_to_one_over_the_features(how):
    for verdict in verdicts(1.0, how):
        assert tuple(view.name for view in verdict.features) == NAMES
        assert sum(view.contribution for view in verdict.features) == pytest.approx(1)
        assert all(view.contribution >= 0 for view in verdict.features)
        assert verdict.mse == pytest.approx(np.mean([view.error for view in verdict.features]))


def test_only_features_that_were_above_their_baseline_are_to_blame_if_there_are_any():
    detector = detector_of(threshold=1.0)
    judged = judge_rows(detector, frame_of(host_values(SAMPLES)))
    alone = score_rows(detector, frame_of(host_values(SAMPLES))).sample_errors
    above = np.maximum.accumulate(alone, axis=0) > detector.scoring.baseline
    blamed = [row for row, verdict in enumerate(judged) if verdict.top_features[0].elevation > 1]
    assert blamed
    for row in blamed:
        for view, was_above in zip(judged[row].features, above[row], strict=True):
            assert view.contribution > 0 or view.elevation <= 1
            assert was_above or view.contribution == 0


def test_elevation_is_the_error_over_its_baseline():
    detector = detector_of()
    scores = score_rows(detector, frame_of(host_values(SAMPLES)))
    for row, verdict in enumerate(judge_rows(detector, frame_of(host_values(SAMPLES)))):
        found = [view.elevation for view in verdict.features]
        np.testing.assert_allclose(found, scores.errors[row] / detector.scoring.baseline)


def test_without_any_error_nothing_is_to_blame():
    detector = detector_of()
    verdict = judge_rows(detector, frame_of(np.ones((LENGTH, 3))))[0]
    assert verdict.score == pytest.approx(0)
    assert [view.contribution for view in verdict.features] == [0, 0, 0]


@pytest.mark.parametrize("how", list(SCORINGS))
def test_a_score_above_the_threshold_is_anomalous_and_one_at_it_is_not(how):
    scores = sorted(verdict.score for verdict in verdicts(1.0, how))
    middle = scores[len(scores) // 2]
    states = set()
    for verdict in verdicts(middle, how):
        assert (verdict.state is State.ANOMALOUS) == (verdict.score > middle)
        assert verdict.threshold == middle
        assert (verdict.score_ratio > 1) == (verdict.state is State.ANOMALOUS)
        states.add(verdict.state)
    assert states == {State.OK, State.ANOMALOUS}


def test_only_the_plain_score_has_a_limit_of_the_mean_squared_error():
    for how in SCORINGS:
        for verdict in verdicts(0.5, how):
            assert verdict.threshold_mse == (0.5 if how == "mse" else None)
            if how == "mse":
                assert verdict.mse == pytest.approx(verdict.score)


@pytest.mark.parametrize("how", list(SCORINGS))
def test_a_constant_that_moves_to_an_absurd_value_is_far_off_but_finite(how):
    values = host_values(SAMPLES)
    values[-1, 0] = 1e300
    detector = detector_of(how=how)
    scores = score_rows(detector, frame_of(values))
    assert np.isfinite(scores.score).all()
    assert scores.score[:-1].max() < scores.score[-1] < 4 * REACH**2
    verdict = judge_rows(detector, frame_of(values))[-1]
    assert verdict.top_features[0].name == NAMES[0]
    # Of two models each adds its logarithm, so what others held before counts for more.
    assert verdict.top_features[0].contribution > (0.85 if how == "of two models" else 0.9)

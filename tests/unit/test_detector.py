"""A score rests on the past alone, and is the same whether its sample came alone or with others."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promad.data.preparation import REACH, Preparation
from promad.data.scaling import Scaler
from promad.events.verdict import State
from promad.models import Outcome
from promad.models.fusion import Fusion
from promad.scoring.detector import Detector, mean_known
from promad.scoring.scoring import Scoring
from promad.thresholds import Threshold
from tests.support import naive_scoring
from tests.support.simulated import LENGTH, NAMES, frame_of, host_values
from tests.support.stub_model import MeanOfWindow

STRATEGIES = ("ffill_then_bfill", "mean", "median", "drop_rows", "none")
STEP = 30.0
SAMPLES = 70
SPAN = 3


class LastAgain:
    """A model that expects each sample to be as the one before."""

    def __init__(self, features):
        self.features = features

    def apply(self, windows):
        values = windows[:, :, : self.features].astype(np.float64)
        squares = np.square(values[:, -1] - values[:, -2])
        return Outcome(squares, values[:, -2], squares)


SCORINGS = {
    "mse": {"method": "mse", "span": 1},
    "by the last sample": {"span": 1},
    "smoothed": {},
    "of the largest": {"top_k": 1},
    "of two models": {"members": 2},
}
each_scoring = st.sampled_from(list(SCORINGS))


def scoring_of(scored, share, **keys):
    usual = np.linspace(0.5, 1.5, scored * keys.get("members", 1))
    plain = {
        "method": "normalised",
        "normaliser": usual,
        "baseline": np.linspace(0.1, 0.4, scored),
        "top_k": None,
        "span": SPAN,
        "required_share": share,
    }
    if keys.get("method") == "mse":
        plain["normaliser"] = np.ones(scored)
    return Scoring(**{**plain, **keys})


def detector_of(
    strategy="ffill_then_bfill",
    limit=3,
    length=LENGTH,
    threshold=1.0,
    how="smoothed",
    scored=3,
    share=0.3,
):
    """A detector on the host's features, of which those after the first `scored` are conditions."""
    values = host_values(SAMPLES)
    scaler = Scaler("StandardScaler", values.mean(axis=0), values.std(axis=0))
    preparation = Preparation(
        NAMES,
        scored,
        STEP,
        strategy,
        limit,
        values.mean(axis=0),
        scaler,
        ("hour_of_day",),
        "Europe/Berlin",
    )
    model = MeanOfWindow(scored, length)
    if how == "of two models":
        model = Fusion({"mean": model, "last": LastAgain(scored)})
    limit_ = Threshold("fixed", threshold, None, "a test")
    scoring = scoring_of(scored, share, **SCORINGS[how])
    return Detector(preparation, model, scoring, limit_, length)


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
            scores[float(newest.times[0])] = rows_of(newest)[float(newest.times[0])]
    return scores


def rows_of(scores):
    """Everything about each score of a batch, as bytes, by its time."""
    return {
        float(time): tuple(
            getattr(scores, name)[row].tobytes()
            for name in ("score", "errors", "window_errors", "observed", "expected")
        )
        for row, time in enumerate(scores.times)
    }


@settings(max_examples=40)
@given(gappy(), st.sampled_from(STRATEGIES), st.integers(0, 7), st.integers(0, 9), each_scoring)
def test_a_sample_at_a_time_gives_exactly_the_scores_of_the_batch(
    values, strategy, limit, more, how
):
    detector = detector_of(strategy, limit, how=how)
    alone = streamed(detector, values, detector.samples_needed + more)
    assert alone == rows_of(detector.score(frame_of(values)))


@given(gappy(), each_scoring, st.integers(-3, SAMPLES))
def test_only_scores_after_a_moment_are_computed_if_asked_so(values, how, back):
    detector, frame = detector_of(how=how), frame_of(values)
    since = frame.end - back * STEP
    everything = rows_of(detector.score(frame))
    assert rows_of(detector.score(frame, since)) == {
        time: row for time, row in everything.items() if time > since + STEP / 2
    }


def test_the_real_model_gives_the_same_scores_a_sample_at_a_time(worked):
    detector, values = worked.detector(), worked.values[104:190]
    batch = detector.score(frame_of(values))
    assert len(batch.times) == len(values) - LENGTH + 1
    for end in range(detector.samples_needed, len(values) + 1):
        frame = frame_of(values).slice(end - detector.samples_needed, end)
        alone = detector.score(frame, since=frame.end - STEP)
        assert alone.score.item() == pytest.approx(batch.score[end - LENGTH], rel=1e-4)


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
    before, after = (rows_of(detector.score(frame_of(data))) for data in (values, changed))
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
    scores = detector.score(frame_of(values))
    assert scores.times.tolist() == [frame_of(values).times[end - 1] for end in ends]
    for row, end in enumerate(ends):
        lacking = missing[end - LENGTH : end].any(axis=0)
        np.testing.assert_array_equal(np.isnan(scores.errors[row]), lacking)
        np.testing.assert_array_equal(np.isnan(scores.window_errors[row]), lacking)
        known = len(NAMES) - lacking.sum()
        assert np.isnan(scores.score[row]) == (known < share * len(NAMES) or known == 0)


@pytest.mark.parametrize("how", list(SCORINGS))
def test_a_missing_feature_leaves_what_is_known_of_the_others(how):
    values = host_values(SAMPLES)
    whole = detector_of(how=how).score(frame_of(values))
    values[30:40, 1] = np.nan
    lacking = detector_of(how=how).score(frame_of(values))
    np.testing.assert_array_equal(lacking.times, whole.times)
    assert np.isfinite(lacking.score).all()
    if how != "of two models":  # there a feature counts by its member's whole score
        np.testing.assert_array_equal(lacking.errors[:, [0, 2]], whole.errors[:, [0, 2]])
    np.testing.assert_array_equal(lacking.window_errors[:, [0, 2]], whole.window_errors[:, [0, 2]])


def test_a_verdict_has_no_view_of_a_missing_feature():
    values = host_values(SAMPLES)
    values[-9:, 1] = np.nan
    detector = detector_of()
    verdict = detector.judge(detector.score(frame_of(values)))[-1]
    assert [view.name for view in verdict.features] == [NAMES[0], NAMES[2]]
    assert sum(view.contribution for view in verdict.features) == pytest.approx(1)
    assert verdict.mse == pytest.approx(np.mean([view.error for view in verdict.features]))


def test_where_too_few_features_are_known_there_is_no_verdict():
    values = host_values(SAMPLES)
    values[-9:, 1] = np.nan
    detector = detector_of(share=0.7)
    scores = detector.score(frame_of(values))
    verdicts = detector.judge(scores)
    assert verdicts
    assert verdicts[-1].at == frame_of(values).times[-7]  # the first three samples are filled


def test_the_samples_that_make_a_window_are_counted_from_the_newest():
    values = host_values(SAMPLES)
    assert detector_of().complete_samples(frame_of(values)) == LENGTH
    assert detector_of().complete_samples(frame_of(values[:5])) == 5
    values[-20:-4] = np.nan
    assert detector_of().complete_samples(frame_of(values)) == 4
    values[-9:] = np.nan
    assert detector_of().complete_samples(frame_of(values)) == 0


def test_too_few_samples_have_no_score():
    for how in SCORINGS:
        scores = detector_of(how=how).score(frame_of(host_values(LENGTH - 1)))
        assert (len(scores.times), scores.errors.shape) == (0, (0, len(NAMES)))
        assert detector_of(how=how).judge(scores) == []


def test_the_mean_of_what_is_known():
    errors = np.array([[1.0, 3.0], [1.0, np.nan], [np.nan, np.nan]])
    assert mean_known(errors).tolist() == [2.0, 1.0, 0.0]


# Conditions


def test_conditions_reach_the_model_and_are_neither_scored_nor_attributed():
    detector, seen = detector_of(scored=2), []
    real = detector.model

    class Watching:
        def apply(self, windows):
            seen.append(windows)
            return real.apply(windows)

    values = host_values(SAMPLES)
    scores = replace(detector, model=Watching()).score(frame_of(values))
    assert seen[0].shape[2] == len(NAMES) + 2  # all features and the calendar
    scaled = detector.preparation.scale(frame_of(values)).values[0]
    np.testing.assert_array_equal(seen[0][:, -1, 2], scaled[LENGTH - 1 :, 2].astype(np.float32))
    assert scores.errors.shape[1] == scores.observed.shape[1] == scores.expected.shape[1] == 2
    for verdict in detector.judge(scores):
        assert [view.name for view in verdict.features] == list(NAMES[:2])


def test_a_missing_condition_withdraws_no_score():
    values = host_values(SAMPLES)
    values[20:60, 2] = np.nan
    detector = detector_of(scored=2, share=1.0)
    assert np.isfinite(detector.score(frame_of(values)).score).all()


# Units and verdicts


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


def scaled_windows():
    values = host_values(SAMPLES)
    scaled = ((values - values.mean(axis=0)) / values.std(axis=0)).astype(np.float32)
    ends = range(LENGTH, SAMPLES + 1)
    return np.array([scaled[end - LENGTH : end] for end in ends], np.float64)


def test_the_plain_score_is_the_mean_squared_error_over_window_and_features():
    scores = detector_of(how="mse").score(frame_of(host_values(SAMPLES)))
    windows = scaled_windows()
    residuals = windows - windows.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(scores.score, np.square(residuals).mean(axis=(1, 2)), rtol=1e-9)


def test_the_normalised_score_is_its_twins_of_the_last_samples_errors():
    detector = detector_of()
    scores = detector.score(frame_of(host_values(SAMPLES)))
    windows = scaled_windows()
    errors = np.square(windows[:, -1] - windows.mean(axis=1)) / detector.scoring.normaliser
    at = np.arange(len(windows))
    smoothed = naive_scoring.moving_average(errors, at, SPAN, detector.scoring.memory)
    np.testing.assert_allclose(scores.errors, smoothed, rtol=1e-9)
    expected = [naive_scoring.score(list(row), 1, None, 0.3) for row in smoothed]
    np.testing.assert_allclose(scores.score, expected, rtol=1e-9)


@cache
def verdicts(threshold, how="smoothed"):
    detector = detector_of(threshold=threshold, how=how)
    return detector.judge(detector.score(frame_of(host_values(SAMPLES))))


@pytest.mark.parametrize("how", list(SCORINGS))
def test_attribution_sums_to_one_over_the_features(how):
    for verdict in verdicts(1.0, how):
        assert tuple(view.name for view in verdict.features) == NAMES
        assert sum(view.contribution for view in verdict.features) == pytest.approx(1)
        assert all(view.contribution >= 0 for view in verdict.features)
        assert verdict.mse == pytest.approx(np.mean([view.error for view in verdict.features]))


def test_only_features_above_their_baseline_are_to_blame_if_there_are_any():
    blamed = [verdict for verdict in verdicts(1.0) if verdict.top_features[0].elevation > 1]
    assert blamed
    for verdict in blamed:
        for view in verdict.features:
            assert (view.contribution > 0) == (view.elevation > 1)


def test_elevation_is_the_error_over_its_baseline():
    detector = detector_of()
    scores = detector.score(frame_of(host_values(SAMPLES)))
    for row, verdict in enumerate(detector.judge(scores)):
        found = [view.elevation for view in verdict.features]
        np.testing.assert_allclose(found, scores.errors[row] / detector.scoring.baseline)


def test_without_any_error_nothing_is_to_blame():
    detector = detector_of()
    verdict = detector.judge(detector.score(frame_of(np.ones((LENGTH, 3)))))[0]
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


def test_each_score_is_held_to_its_own_limit():
    detector = detector_of()
    scores = detector.score(frame_of(host_values(SAMPLES)))
    limits = np.where(np.arange(len(scores.score)) % 2, 0.5, 2.0) * scores.score
    found = detector.judge(scores, limits)
    assert [verdict.threshold for verdict in found] == limits.tolist()
    expected = [State.ANOMALOUS if odd else State.OK for odd in np.arange(len(limits)) % 2]
    assert [verdict.state for verdict in found] == expected


@pytest.mark.parametrize("how", list(SCORINGS))
def test_a_constant_that_moves_to_an_absurd_value_is_far_off_but_finite(how):
    values = host_values(SAMPLES)
    values[-1, 0] = 1e300
    detector = detector_of(how=how)
    scores = detector.score(frame_of(values))
    assert np.isfinite(scores.score).all()
    assert scores.score[:-1].max() < scores.score[-1] < 4 * REACH**2
    verdict = detector.judge(scores)[-1]
    assert verdict.top_features[0].name == NAMES[0]
    assert verdict.top_features[0].contribution > 0.9

"""Dynamic thresholding finds what its twin finds, and as a stream judges each score at once."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.sequences import MovingGate, ignored, sequences, smooth
from promad.thresholds import THRESHOLDS, DynamicSettings, Threshold, ThresholdSettings
from promad.thresholds.epsilon import Gate, epsilon_of
from tests.support import naive_thresholds as naive

HOW = DynamicSettings(history=120, batch=10, error_buffer=6)


def errors_of(samples, seed, spikes=6):
    """Smoothed errors with a few excursions up, and one down."""
    chance = np.random.default_rng(seed)
    raw = np.abs(chance.normal(1, 0.1, samples))
    for start in chance.integers(0, samples, spikes):
        raw[start : start + chance.integers(1, 8)] += chance.uniform(0, 6)
    low = chance.integers(0, samples)
    raw[low : low + 4] = 0.01
    return smooth(raw, 3)


def settings_of(**more):
    return ThresholdSettings(
        step=30.0, enter_after=2, leave_after=5, dynamic=DynamicSettings(**{**vars(HOW), **more})
    )


@given(st.integers(0, 10**6), st.integers(3, 200), st.integers(1, 12))
def test_epsilon_is_that_of_its_twin(seed, samples, error_buffer):
    errors = errors_of(samples, seed)
    found = epsilon_of(errors, errors.mean(), errors.std(), error_buffer)
    assert found == pytest.approx(naive.epsilon(errors, error_buffer))


@pytest.mark.parametrize("level", [0.0, 0.1, 3.0])
def test_a_constant_window_has_no_error_above_epsilon(level):
    errors = np.full(50, level)
    assert not (errors > epsilon_of(errors, errors.mean(), errors.std(), 5)).any()


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 330), st.sampled_from([0, 20]), st.booleans())
def test_sequences_are_those_of_the_twin(seed, samples, ignore, strict):
    errors = errors_of(samples, seed)
    gate = Gate(0.5, 2.0, 0.05) if strict else Gate(0.0, 0.0)
    found = sequences(
        errors, gate, history=120, batch=10, error_buffer=6, minimum_drop=0.13, ignore=ignore
    )
    expected = naive.sequences(errors, lambda *_: gate, 120, 10, 6, 0.13, ignore)
    assert list(zip(found.starts, found.ends, strict=True)) == [bounds[:2] for bounds in expected]
    np.testing.assert_allclose(found.scores, [bounds[2] for bounds in expected])


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 330))
def test_a_moving_gate_measures_the_target_of_each_window(seed, samples):
    errors = errors_of(samples, seed)
    target = np.cumsum(np.random.default_rng(seed).normal(0, 2, samples))
    found = sequences(errors, MovingGate(target), history=120, batch=10, error_buffer=6)

    def published(start, end):
        high, low = np.percentile(target[start:end], [95, 5])
        return Gate(np.std(target[start:end]), high - low, 0.05)

    expected = naive.sequences(errors, published, 120, 10, 6, 0.13, 0)
    assert list(zip(found.starts, found.ends, strict=True)) == [bounds[:2] for bounds in expected]


def test_a_target_that_jumped_long_ago_hides_no_error():
    target = np.concatenate([np.zeros(100), np.full(300, 1000.0)])
    errors, how = spiked(400, 380), {"history": 120, "error_buffer": 6}
    assert len(sequences(errors, MovingGate(target), **how).starts) == 1
    assert len(sequences(errors, Gate.of(target), **how).starts) == 0


def test_no_errors_hold_no_sequence():
    assert len(sequences(np.empty(0), MovingGate(np.empty(0))).starts) == 0


def test_the_twins_do_not_agree_on_nothing():
    found = [len(sequences(errors_of(330, seed), Gate(0.0, 0.0), history=120, batch=10,
                           error_buffer=6).starts) for seed in range(10)]  # fmt: skip
    assert sum(count > 0 for count in found) >= 5


def spiked(samples, at, low=False):
    errors = 1 + 0.05 * np.sin(np.arange(float(samples)))
    errors[at : at + 3] = 0.1 if low else 5.0
    return errors


@pytest.mark.parametrize("low", [False, True])
def test_an_excursion_either_way_is_a_sequence_with_its_buffer(low):
    found = sequences(spiked(260, 200, low), Gate(0.0, 0.0), history=120, batch=70, error_buffer=6)
    assert (found.starts.tolist(), found.ends.tolist()) == ([194], [209])


def test_errors_the_published_form_passes_over_are_judged_on_request():
    """Of 259 errors the first window judges 120, and the second and last one the newest 70."""
    errors = spiked(120 + 70 + 69, 125)
    how = {"history": 120, "batch": 70, "error_buffer": 2}
    assert len(sequences(errors, Gate(0.0, 0.0), **how).starts) == 0
    assert len(sequences(errors, Gate(0.0, 0.0), **how, complete=True).starts) == 1


def test_errors_small_beside_the_target_are_no_anomalies():
    errors = spiked(260, 200)
    how = {"history": 120, "error_buffer": 6}
    assert len(sequences(errors, Gate(1.0, 1.0), **how).starts) == 1
    assert len(sequences(errors, Gate(100.0, 200.0), **how).starts) == 0
    assert len(sequences(errors, Gate(1.0, 1.0, least=5.0), **how).starts) == 0


def test_the_paper_passes_over_less_of_a_short_series():
    assert [ignored(samples, 250) for samples in (100, 1800, 2500)] == [0, 250, 500]


@given(st.lists(st.floats(0, 10), max_size=30), st.integers(1, 20))
def test_smoothing_weights_errors_as_its_twin_does(errors, span):
    np.testing.assert_allclose(smooth(np.array(errors), span), naive.smoothed(errors, span))


def test_the_first_errors_may_be_replaced_while_smoothing_settles():
    plain = smooth(np.arange(10.0), 3)
    settled = smooth(np.arange(10.0), 3, settling=2)
    assert settled[:2].tolist() == [plain[:4].mean()] * 2
    np.testing.assert_array_equal(settled[2:], plain[2:])


def test_a_stream_flags_an_excursion_at_its_first_sample_and_not_its_buffer():
    threshold = THRESHOLDS["dynamic"](spiked(300, 400), settings_of())
    scores = spiked(60, 30)
    anomalous = np.flatnonzero(scores > threshold.limit(scores))
    assert anomalous.tolist() == [30, 31, 32]


def test_a_stream_flags_a_score_that_is_too_low_by_a_limit_below_it():
    threshold = THRESHOLDS["dynamic"](spiked(300, 400), settings_of())
    scores = spiked(60, 30, low=True)
    limits = threshold.limit(scores)
    assert np.flatnonzero(scores > limits).tolist() == [30, 31, 32]
    assert (limits > 0).all()


def test_a_second_excursion_of_the_same_height_is_found_as_well():
    """The highest of what is normal leaves out what was anomalous before."""
    threshold = THRESHOLDS["dynamic"](spiked(300, 400), settings_of())
    scores = np.maximum(spiked(80, 30), spiked(80, 60))
    assert set(range(60, 63)) <= set(np.flatnonzero(scores > threshold.limit(scores)))


def test_a_score_little_higher_than_normal_ones_is_pruned():
    calibration = spiked(130, 400)
    calibration[40] = 1.95
    scores = spiked(20, 10)
    scores[10:13] = 2.0
    limits = THRESHOLDS["dynamic"](calibration, settings_of()).limit(scores)
    assert not (scores > limits).any()
    keen = THRESHOLDS["dynamic"](calibration, settings_of(minimum_drop=0.01)).limit(scores)
    assert (scores > keen).any()


def test_an_infinite_score_is_anomalous_and_forgotten():
    state = THRESHOLDS["dynamic"](spiked(300, 400), settings_of()).begin()
    before = state.to_json(0)
    assert state.follow(np.array([np.inf])) < np.inf
    assert state.to_json(0) == before


@given(st.integers(0, 1000))
def test_batch_limits_tell_the_samples_of_sequences(seed):
    calibration, scores = errors_of(150, seed), errors_of(130, seed + 1)
    threshold = THRESHOLDS["dynamic"](calibration, settings_of(mode="batch"))
    joined = np.concatenate([calibration[-120:], scores])
    found = sequences(joined, Gate.of(calibration), history=120, batch=10, error_buffer=6,
                      ignore=120, complete=True)  # fmt: skip
    inside = np.zeros(len(joined), bool)
    for start, end in zip(found.starts, found.ends, strict=True):
        inside[start:end] = True
    alarms = scores > threshold.limit(scores)
    assert set(np.flatnonzero(inside[120:])) <= set(np.flatnonzero(alarms))
    alone = alarms & ~inside[120:]
    assert not (alone[1:] & alone[:-1]).any()


def test_a_stored_stream_needs_all_its_parts():
    threshold = THRESHOLDS["dynamic"](spiked(300, 400), settings_of())
    content = json.loads(json.dumps(threshold.to_json()))
    for key in content["parameters"]:
        broken = {k: v for k, v in content["parameters"].items() if k != key}
        with pytest.raises(KeyError):
            Threshold.from_json({**content, "parameters": broken})

"""The scaler is scikit-learn's, as plain numbers; a feature that never moved survives it."""

import json

import joblib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import preprocessing

from promad.data.preparation import REACH
from promad.data.scaling import CONSTANT_UNIT, PARETO, WIDEST_BULK, Scaler, fit_scaler

SKLEARN = ("MinMaxScaler", "StandardScaler", "RobustScaler")
KINDS = (PARETO, *SKLEARN)
NAMES = ["a", "b", "c"]

numbers = st.floats(-1e9, 1e9) | st.sampled_from([0.0, 1.0])
samples = arrays(np.float64, st.tuples(st.integers(2, 30), st.just(3)), elements=numbers)
kinds = st.sampled_from(KINDS)


def ordinary(seed=0, rows=2000):
    """Features of very different sizes: (rows, 3)."""
    return np.random.default_rng(seed).normal([5.0, -3e6, 0.0], [2.0, 1e4, 1e-7], (rows, 3))


def size_of(scaler, values):
    """How large the numbers are that each scaled value is the difference of."""
    return 1.0 + (np.abs(values) + np.abs(scaler.center)) / scaler.scale


@pytest.mark.parametrize("kind", SKLEARN)
def test_ordinary_features_are_scaled_as_scikit_learn_does(kind):
    values = ordinary()
    scaler, _ = fit_scaler(kind, values, NAMES)
    expected = getattr(preprocessing, kind)().fit_transform(values)
    np.testing.assert_allclose(scaler.transform(values), expected, rtol=1e-9, atol=1e-9)


def test_a_pareto_unit_is_the_root_of_standard_deviation_times_range():
    values = ordinary()
    scaler, _ = fit_scaler(PARETO, values, NAMES)
    unit = np.sqrt(values.std(axis=0) * (values.max(axis=0) - values.min(axis=0)))
    np.testing.assert_allclose(scaler.scale, unit, rtol=1e-12)
    np.testing.assert_allclose(scaler.center, values.mean(axis=0), rtol=1e-12)


@given(arrays(np.float64, (30, 1), elements=st.floats(-1e3, 1e3)), st.floats(0.1, 1e3))
def test_a_pareto_unit_lies_between_deviation_and_range_and_turns_with_the_features_unit(
    values, factor
):
    if np.ptp(values) < 1e-3:
        return
    scaler, _ = fit_scaler(PARETO, values, ["x"])
    assert values.std() <= scaler.scale.item() <= np.ptp(values)
    other, _ = fit_scaler(PARETO, values * factor, ["x"])
    assert other.scale.item() == pytest.approx(scaler.scale.item() * factor, rel=1e-6)


def test_a_pareto_scaled_feature_stays_well_within_reach_of_what_it_was_trained_on():
    chance = np.random.default_rng(4)
    values = chance.random(5000)
    values[chance.random(5000) < 0.001] = 1e6  # so rarely that no percentile knows of it
    scaler, _ = fit_scaler(PARETO, values[:, np.newaxis], ["errors"])
    assert 1 < np.abs(scaler.transform(values[:, np.newaxis])).max() < REACH


@given(samples, samples, kinds)
def test_the_estimator_does_exactly_what_the_plain_numbers_do(training, later, kind):
    scaler, estimator = fit_scaler(kind, training, NAMES)
    other = estimator.transform(pd.DataFrame(later, columns=NAMES))
    difference = np.abs(scaler.transform(later) - other)
    assert (difference <= 1e-12 * size_of(scaler, later)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_so_does_the_estimator_that_the_joblib_file_brings_back(kind, tmp_path):
    training = np.column_stack([ordinary()[:, 0], np.full(2000, 7.0), ordinary(1)[:, 1]])
    scaler, estimator = fit_scaler(kind, training, NAMES)
    joblib.dump(estimator, tmp_path / "scaler.joblib")
    loaded = joblib.load(tmp_path / "scaler.joblib")
    later = pd.DataFrame(ordinary(2), columns=NAMES)
    assert loaded.feature_names_in_.tolist() == NAMES
    np.testing.assert_allclose(
        loaded.transform(later), scaler.transform(later.to_numpy()), rtol=1e-12, atol=1e-12
    )


@given(samples, kinds)
def test_nothing_that_was_trained_on_becomes_infinite(training, kind):
    scaler, _ = fit_scaler(kind, training, NAMES)
    assert np.isfinite(scaler.transform(training)).all()
    assert (scaler.scale > 0).all()


@given(samples, kinds)
def test_json_brings_back_every_bit(training, kind):
    scaler, _ = fit_scaler(kind, training, NAMES)
    again = Scaler.from_json(json.loads(json.dumps(scaler.to_json())))
    assert again.kind == kind
    assert again.center.tobytes() == scaler.center.tobytes()
    assert again.scale.tobytes() == scaler.scale.tobytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("level", [0.0, 1.0, -40.0, 1e9])
def test_a_feature_that_never_moved_is_nothing_until_it_moves(kind, level):
    scaler, _ = fit_scaler(kind, np.full((50, 1), level), ["up"])
    unit = CONSTANT_UNIT * max(abs(level), 1.0)
    assert scaler.transform(np.array([[level]])).item() == 0
    assert scaler.transform(np.array([[level + unit]])).item() == pytest.approx(1)


@pytest.mark.parametrize("kind", KINDS)
def test_rounding_alone_is_no_movement(kind):
    wobbling = np.array([0.1 + 0.2, 0.3] * 50)[:, np.newaxis]
    scaler, _ = fit_scaler(kind, wobbling, ["x"])
    assert np.abs(scaler.transform(wobbling)).max() < 1e-9


@pytest.mark.parametrize("kind", KINDS)
def test_a_movement_too_small_for_any_model_is_none(kind):
    scaler, _ = fit_scaler(kind, np.array([[1e-308], [0.0], [3e-308]]), ["x"])
    assert scaler.scale.item() == CONSTANT_UNIT


def test_robust_scaling_looks_at_the_middle_half_even_if_that_is_one_unit_wide():
    values = np.concatenate([np.linspace(-1, 1, 101), [1e6]])[:, np.newaxis]
    scaler, _ = fit_scaler("RobustScaler", values, ["x"])
    assert scaler.scale.item() == pytest.approx(1.01, abs=0.01)
    exactly = np.array([0.0, 0.0, 1.0, 1.0, 0.5, 50.0, -50.0])[:, np.newaxis]
    spread = np.subtract(*np.percentile(exactly, [75, 25]))
    assert spread == 1.0
    wide, _ = fit_scaler("RobustScaler", np.tile(exactly, (3, 1)), ["x"])
    assert wide.scale.item() == pytest.approx(100 / WIDEST_BULK, rel=0.2)


@pytest.mark.parametrize("stillness", [0.0, 1e-6])
def test_a_feature_that_is_still_but_for_bursts_does_not_explode(stillness):
    chance = np.random.default_rng(4)
    values = stillness * chance.random(5000)
    bursts = chance.random(5000) < 0.02
    values[bursts] = 1000 * chance.random(bursts.sum())
    scaler, _ = fit_scaler("RobustScaler", values[:, np.newaxis], ["errors"])
    scaled = scaler.transform(values[:, np.newaxis])
    assert np.percentile(scaled, 99) <= WIDEST_BULK
    assert scaled.max() < 100
    assert scaled.max() > 1  # and the bursts can still be seen


def test_the_bulk_of_a_feature_stays_within_reach():
    assert WIDEST_BULK <= REACH


def test_missing_stays_missing():
    scaler = Scaler("StandardScaler", np.array([1.0]), np.array([2.0]))
    np.testing.assert_array_equal(scaler.transform(np.array([[np.nan], [5.0]])), [[np.nan], [2.0]])


@pytest.mark.parametrize(
    "broken",
    [
        {"scale": [0.0, 1.0]},
        {"scale": [-1.0, 1.0]},
        {"scale": [1.0]},
        {"scale": [float("nan"), 1.0]},
        {"center": [float("inf"), 0.0]},
    ],
)
def test_a_description_of_no_scaler_is_refused(broken):
    sound = {"kind": "StandardScaler", "center": [0.0, 0.0], "scale": [1.0, 1.0]}
    Scaler.from_json(sound)
    with pytest.raises(ValueError, match="do not describe a scaler"):
        Scaler.from_json({**sound, **broken})

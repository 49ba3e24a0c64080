"""The naive rows: causal, seeded, and unmoved by what is missing or hardly moved in training."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from promad.evaluation.naive import NAIVE, NAIVE_CONTRIBUTIONS
from tests.support import naive

VALUES = st.one_of(st.floats(-100, 100), st.just(np.nan), st.just(0.0))


def each(function):
    return pytest.mark.parametrize("name", sorted(NAIVE))(function)


@each
@given(
    train=arrays(float, st.tuples(st.integers(1, 6), st.just(3)), elements=VALUES),
    test=arrays(float, st.tuples(st.integers(1, 8), st.just(3)), elements=VALUES),
    other=arrays(float, st.tuples(st.integers(1, 4), st.just(3)), elements=VALUES),
)
def test_a_score_does_not_see_the_future(name, train, test, other):
    score = NAIVE[name]
    before = score(train, test, 3)
    after = score(train, np.vstack([test, other]), 3)
    assert before.shape == (len(test),)
    np.testing.assert_allclose(after[: len(test)], before, rtol=1e-12)
    assert np.isfinite(before[~np.isnan(before)]).all()


def test_random_scores_are_those_of_their_seed():
    values = np.zeros((50, 2))
    random = NAIVE["random"]
    np.testing.assert_array_equal(random(values, values, 1), random(values, values, 1))
    assert (random(values, values, 1) != random(values, values, 2)).all()


def test_the_distance_is_in_standard_deviations():
    train = np.array([[0.0, 10.0], [2.0, 30.0]])  # means 1 and 20, deviations 1 and 10
    test = np.array([[4.0, 60.0], [1.0, 20.0], [np.nan, 60.0], [np.nan, np.nan]])
    scores = NAIVE["|z|"](train, test, 0)
    np.testing.assert_allclose(scores, [5, 0, 4 * np.sqrt(2), np.nan])


def test_the_change_is_to_the_sample_before():
    train = np.array([[0.0, 10.0], [2.0, 30.0]])
    test = np.array([[1.0, 20.0], [3.0, 30.0], [3.0, np.nan], [3.0, 30.0]])
    scores = NAIVE["last value"](train, test, 0)
    np.testing.assert_allclose(scores, [np.nan, 5, 0, 0])


@given(test=arrays(float, st.tuples(st.integers(1, 30), st.just(2)), elements=VALUES))
def test_the_smoothed_change_is_an_exponential_mean_of_the_change(test):
    train = np.array([[0.0, 10.0], [2.0, 30.0]])
    changes = NAIVE["last value"](train, test, 0)
    smoothed = NAIVE["last value smoothed"](train, test, 0)
    expected = naive.last_value_smoothed(changes.tolist(), 0.1)
    np.testing.assert_allclose(smoothed, expected, rtol=1e-9, atol=1e-12)


def test_a_feature_that_never_moved_counts_but_does_not_explode():
    train = np.column_stack([np.full(9, 1e9), np.zeros(9)])
    scores = NAIVE["|z|"](train, np.array([[1e9, 0.0], [1.1e9, 0.0], [9e30, 3.0]]), 0)
    np.testing.assert_allclose(scores, [0, 10, np.hypot(50, 3)])


@pytest.mark.parametrize("largest", [5e-324, 1e-308])
def test_a_feature_that_was_all_but_zero_does_not_explode(largest):
    scores = NAIVE["|z|"](np.array([[largest]]), np.array([[0.0], [1.0]]), 0)
    assert (scores[0] <= 50, scores[1]) == (True, 50)


@each
def test_contributions_are_of_features_and_as_causal(name):
    values = np.array([[0.0, 10.0], [2.0, 30.0], [4.0, 60.0], [1.0, np.nan]])
    contributions = NAIVE_CONTRIBUTIONS[name](values[:2], values[2:], 5)
    assert contributions.shape == (2, 2)
    before = NAIVE_CONTRIBUTIONS[name](values[:2], values[2:3], 5)
    np.testing.assert_array_equal(contributions[:1], before)
    assert list(NAIVE_CONTRIBUTIONS) == list(NAIVE)


def test_the_distance_and_the_change_are_the_norm_of_their_contributions():
    train = np.array([[0.0, 10.0], [2.0, 30.0]])
    test = np.array([[4.0, 60.0], [1.0, 25.0]])
    for name, power in (("|z|", 1), ("last value", 2)):
        contributions = NAIVE_CONTRIBUTIONS[name](train, test, 0)
        scores = np.sqrt((contributions**2).sum(axis=1)) ** power
        np.testing.assert_allclose(NAIVE[name](train, test, 0), scores)

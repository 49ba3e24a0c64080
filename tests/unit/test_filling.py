"""Short gaps are filled from the past, long ones are walls that nothing reaches across."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from promad.data.filling import FILLING_STRATEGIES, FillState, fill, fill_as_it_comes
from promad.data.gaps import find_long_gaps, find_runs
from tests.support import naive, naive_scoring

NAN = np.nan
STRATEGIES = ("ffill_then_bfill", "mean", "median", "drop_rows", "none")
SUBSTITUTES = np.array([100.0, 200.0])

limits = st.integers(0, 4)


@st.composite
def gappy(draw, least=0, most=40):
    """Values 0, 1, 2, ... in two columns, of which stretches of any length are missing."""
    samples = draw(st.integers(least, most))
    values = np.arange(2.0 * samples).reshape(-1, 2)
    for column in range(2):
        for start, length in draw(
            st.lists(st.tuples(st.integers(0, most), st.integers(1, 7)), max_size=5)
        ):
            values[start : start + length, column] = NAN
    return values


def fill_one(column, strategy="ffill_then_bfill", limit=2):
    """One column filled, as a list."""
    values = np.array(column, dtype=np.float64)[:, np.newaxis]
    return fill(values, strategy, limit, SUBSTITUTES[:1])


@given(gappy(), st.sampled_from(STRATEGIES), limits)
def test_filling_equals_its_twin(values, strategy, limit):
    before = values.copy()
    done = fill(values, strategy, limit, SUBSTITUTES)
    np.testing.assert_array_equal(done.values, naive.filled(values, strategy, limit, SUBSTITUTES))
    np.testing.assert_array_equal(done.usable, ~np.isnan(done.values).any(axis=1))
    filled = np.isnan(values) & ~np.isnan(done.values)
    np.testing.assert_array_equal(done.filled, filled.sum(axis=0))
    np.testing.assert_array_equal(values, before)


def test_a_short_gap_repeats_the_value_before_it():
    done = fill_one([1, NAN, NAN, 4])
    assert done.values[:, 0].tolist() == [1, 1, 1, 4]
    assert done.filled.tolist() == [2]
    assert done.usable.all()


def test_a_gap_one_sample_longer_is_left_as_it_is():
    done = fill_one([1, NAN, NAN, NAN, 5])
    np.testing.assert_array_equal(done.values[:, 0], [1, NAN, NAN, NAN, 5])
    assert done.usable.tolist() == [True, False, False, False, True]


@pytest.mark.parametrize("strategy", ["mean", "median"])
def test_mean_and_median_fill_with_the_substitute_and_leave_long_gaps(strategy):
    done = fill_one([1, NAN, 3, NAN, NAN, NAN, 7], strategy)
    np.testing.assert_array_equal(done.values[:, 0], [1, 100, 3, NAN, NAN, NAN, 7])


@pytest.mark.parametrize("strategy", ["drop_rows", "none"])
def test_drop_rows_and_none_fill_nothing(strategy):
    done = fill_one([NAN, 2, NAN], strategy)
    np.testing.assert_array_equal(done.values[:, 0], [NAN, 2, NAN])
    assert done.filled.tolist() == [0]
    assert done.usable.tolist() == [False, True, False]


def test_where_a_stretch_begins_with_a_gap_the_value_after_it_is_taken():
    assert fill_one([NAN, NAN, 3, 4]).values[:, 0].tolist() == [3, 3, 3, 4]


def test_filling_never_reaches_back_across_a_long_gap():
    values = np.array([[1, 1], [2, NAN], [3, NAN], [4, NAN], [NAN, 5], [6, 6]])
    done = fill(values, "ffill_then_bfill", 2, SUBSTITUTES)
    assert done.values[4, 0] == 6  # not the 4 from within the other feature's long gap
    assert done.usable.tolist() == [True, False, False, False, True, True]


def test_a_column_that_is_never_there_is_not_made_up_from_nothing():
    assert np.isnan(fill_one([NAN, NAN]).values).all()


def test_only_gaps_beyond_the_limit_are_long():
    missing = np.array([[1, 0, 1, 1, 0, 1, 1, 1]], bool).T
    assert find_long_gaps(missing, 2)[:, 0].tolist() == [False] * 5 + [True] * 3
    assert find_long_gaps(missing, 0)[:, 0].tolist() == missing[:, 0].tolist()


@given(arrays(bool, st.integers(0, 20)))
def test_runs_cover_exactly_what_is_true(mask):
    covered = np.zeros(len(mask), bool)
    ends = [-1]
    for first, last in find_runs(mask):
        assert ends[-1] < first < last  # at least one False between two runs
        covered[first:last] = True
        ends.append(last)
    np.testing.assert_array_equal(covered, mask)


@pytest.mark.parametrize("groups", [1, 3, 50])
@given(data=st.data(), strategy=st.sampled_from(STRATEGIES), limit=limits)
@settings(max_examples=20)
def test_gaps_of_many_groups_are_filled_as_they_come_like_the_twin_does(
    groups, data, strategy, limit
):
    """In calls of any size, each group by itself."""
    chance = np.random.default_rng(data.draw(st.integers(0, 999)))
    values = chance.random((groups, 20, 2))
    values[chance.random(values.shape) < 0.4] = NAN
    substitutes = chance.random((groups, 2))
    state, pieces, first = FillState.begin(groups, 2), [], 0
    while first < 20:
        size = data.draw(st.integers(1, 20))
        part = values[:, first : first + size]
        pieces.append(fill_as_it_comes(part, strategy, limit, substitutes, state))
        first += size
    found = np.concatenate(pieces, axis=1)
    for group in range(groups):
        expected = naive_scoring.fill_as_it_comes(
            values[group], strategy, limit, substitutes[group]
        )
        np.testing.assert_array_equal(found[group], expected)


def test_the_strategies_that_fill_are_among_the_words_of_the_configuration():
    assert set(FILLING_STRATEGIES) < set(STRATEGIES)

"""The moving average: recursive, over the past alone, and close to the truncated form before it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from promad.data.moving_average import TOLERANCE, Averages, average, average_at, skip
from tests.support import naive_scoring

NAN = np.nan
errors_or_gaps = st.floats(0, 1e6) | st.just(NAN)
spans = st.integers(1, 5)


@st.composite
def series(draw):
    """Errors (rows, columns) and the sample number of each row, some samples left out."""
    rows, columns = draw(st.integers(1, 25)), draw(st.integers(1, 3))
    steps = draw(st.lists(st.integers(1, 30) | st.just(1), min_size=rows, max_size=rows))
    values = draw(arrays(np.float64, (rows, columns), elements=errors_or_gaps))
    return values, np.cumsum(steps).astype(np.int64)


@given(series(), spans)
def test_it_is_that_of_its_twin(given_series, span):
    values, at = given_series
    found = average_at(values, at, span)
    for row in range(len(values)):
        expected = naive_scoring.recursive_average(values[: row + 1], at[: row + 1].tolist(), span)
        np.testing.assert_allclose(found[row], expected, rtol=1e-9, atol=1e-12)


@given(series(), spans)
def test_it_is_within_the_tolerance_of_the_truncated_form(given_series, span):
    values, at = given_series
    found = average_at(values, at, span)
    truncated = naive_scoring.moving_average(values, at, span, max(1, 5 * span))
    largest = np.nanmax(values, initial=0.0)
    np.testing.assert_allclose(found, truncated, rtol=0, atol=TOLERANCE * largest + 1e-12)


@given(
    arrays(np.float64, (90, 2, 3), elements=errors_or_gaps),
    spans,
    st.lists(st.integers(1, 80), min_size=1),
)
def test_how_samples_are_cut_into_calls_changes_nothing(values, span, sizes):
    whole, state, pieces, first = Averages.begin(2, 3), Averages.begin(2, 3), [], 0
    for size in [*sizes, 90]:
        pieces.append(average(values[first : first + size], span, state))
        first += size
    np.testing.assert_allclose(
        np.concatenate(pieces), average(values, span, whole), rtol=1e-9, atol=1e-9
    )
    np.testing.assert_allclose(state.total, whole.total, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("groups", [1, 3, 50])
def test_no_group_is_averaged_into_another(groups):
    chance = np.random.default_rng(groups)
    values = chance.exponential(size=(80, groups, 4))
    values[chance.random(values.shape) < 0.2] = NAN
    together = average(values, 7, Averages.begin(groups, 4))
    for group in range(groups):
        alone = average(values[:, group], 7, Averages.begin(4))
        np.testing.assert_allclose(together[:, group], alone, rtol=1e-12)


def test_windows_of_two_groups_one_after_the_other_are_refused():
    """Concatenated, they would be averaged into each other."""
    at = np.array([0, 1, 2, 0, 1, 2])
    with pytest.raises(ValueError, match="average each group by itself"):
        average_at(np.ones((6, 1)), at, 5)


@given(series(), st.integers(2, 5), st.floats(0, 1e9) | st.just(NAN), st.data())
def test_what_comes_later_changes_no_earlier_row(given_series, span, other, data):
    values, at = given_series
    now = data.draw(st.integers(1, len(values)))
    changed = values.copy()
    changed[now:] = other
    before, after = (average_at(each, at, span) for each in (values, changed))
    np.testing.assert_array_equal(before[:now], after[:now])


@given(series(), spans)
def test_missing_stays_missing_and_makes_nothing_else_so(given_series, span):
    values, at = given_series
    np.testing.assert_array_equal(np.isnan(average_at(values, at, span)), np.isnan(values))


@given(series(), spans)
def test_it_changes_nothing_in_what_it_is_given(given_series, span):
    values, at = given_series
    before = values.copy()
    average_at(values, at, span)[:] = -1
    np.testing.assert_array_equal(values, before)


def test_a_span_of_one_smooths_nothing():
    values = np.random.default_rng(0).exponential(size=(20, 3))
    np.testing.assert_array_equal(average_at(values, np.arange(20), 1), values)


def test_of_nothing_comes_nothing():
    assert average_at(np.empty((0, 3)), np.empty(0, np.int64), 5).shape == (0, 3)


def test_a_constant_is_its_own_average_once_half_of_the_weight_is_known():
    found = average_at(np.full((60, 1), 7.0), np.arange(60), 10)[:, 0]
    assert found[0] < 7.0 / 2
    assert (np.diff(found[:4]) > 0).all()
    np.testing.assert_allclose(found[3:], 7.0)


def test_one_sample_does_not_yet_speak_for_many():
    quiet_then_gap = np.array([[1.0], [1.0], [100.0]])
    alone = average_at(quiet_then_gap, np.array([0, 1, 200]), 10)[-1, 0]
    assert alone == pytest.approx(100.0 / (0.5 / (1 - 9 / 11)))


def test_a_sample_is_forgotten_but_for_the_tolerance_after_five_spans():
    values = np.zeros((60, 1))
    values[5] = 1.0
    found = average_at(values, np.arange(60), 10)[:, 0]
    assert (np.diff(found[5:]) < 0).all()
    assert found[55] < TOLERANCE


def test_skipped_samples_count_as_unknown():
    state, other = Averages.begin(1), Averages.begin(1)
    average(np.array([[3.0]]), 4, state)
    skip(4, 5, state)
    average(np.array([[3.0], *[[NAN]] * 5]), 4, other)
    np.testing.assert_allclose(state.total, other.total)
    np.testing.assert_allclose(state.weight, other.weight)


def test_an_infinite_value_spoils_no_earlier_row():
    values = np.array([[1.0], [np.inf], [1.0]])
    found = average_at(values, np.arange(3), 3)
    assert np.isfinite(found).all()
    assert found[1] > 1e10 > found[0]


def test_a_value_without_measure_is_forgotten_like_any_other():
    values = np.ones((200, 1))
    values[20] = 1e200
    found = average(values, 10, Averages.begin(1))
    assert found[25] > 1e6
    assert found[20 + 15 * 10] < 1.5


def test_a_span_of_one_keeps_large_values():
    assert average(np.array([[1e40]]), 1, Averages.begin(1)) == 1e40

"""What an error is made of: shares that sum to 1, of what lies above the baselines if any does."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from promad.scoring.attribution import share_excess, shares

NAN = np.nan
BASELINE = np.array([1.0, 2.0, 3.0])
rows = arrays(np.float64, (4, 3), elements=st.floats(0, 1e9) | st.just(NAN))


def twin(row, baseline):
    """Shares of one row, a list, from the definition."""
    known = [0.0 if np.isnan(error) else error for error in row]
    excess = [max(error - usual, 0.0) for error, usual in zip(known, baseline, strict=True)]
    parts = excess if any(excess) else known
    total = sum(parts)
    return [part / total if total else 0.0 for part in parts]


@given(rows)
def test_shares_of_excess_are_those_of_the_twin(errors):
    expected = [twin(row, BASELINE.tolist()) for row in errors.tolist()]
    np.testing.assert_allclose(share_excess(errors, BASELINE), expected, rtol=1e-12)


@given(rows)
def test_they_sum_to_one_unless_there_is_no_error_at_all(errors):
    total = share_excess(errors, BASELINE).sum(axis=1)
    nothing = np.nan_to_num(errors).sum(axis=1) == 0
    np.testing.assert_allclose(total, np.where(nothing, 0.0, 1.0))


def test_a_feature_within_its_baseline_has_no_part_in_what_others_did():
    found = share_excess(np.array([[1.0, 2.5, 4.5]]), BASELINE)
    np.testing.assert_allclose(found, [[0.0, 0.25, 0.75]])


def test_where_all_are_within_theirs_it_is_the_share_of_the_whole():
    found = share_excess(np.array([[0.5, 1.5, 2.0]]), BASELINE)
    np.testing.assert_allclose(found, [[0.125, 0.375, 0.5]])


def test_a_missing_feature_is_to_blame_for_nothing():
    found = share_excess(np.array([[NAN, 3.0, NAN], [NAN, 1.0, 1.0], [NAN, NAN, NAN]]), BASELINE)
    np.testing.assert_array_equal(found, [[0, 1, 0], [0, 0.5, 0.5], [0, 0, 0]])


def test_plain_shares_are_of_the_whole():
    assert shares(np.array([3.0, 1.0])) == pytest.approx([0.75, 0.25])
    assert shares(np.zeros(2)).tolist() == [0.0, 0.0]

"""Sequences are counted as the Telemanom paper counts them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promad.evaluation.sequences import SequenceCounts, count_sequences
from tests.support import naive

BOUNDS = st.tuples(st.integers(0, 20), st.integers(1, 8)).map(lambda each: (each[0], sum(each)))


def count(predicted, known):
    bounds = [np.array(each, np.int64).reshape(-1, 2).T for each in (predicted, known)]
    return count_sequences(*bounds[0], *bounds[1])


@given(st.lists(BOUNDS, max_size=5), st.lists(BOUNDS, max_size=5))
def test_counts_are_those_of_the_definition(predicted, known):
    assert count(predicted, known) == SequenceCounts(*naive.sequence_counts(predicted, known))


def test_one_prediction_over_two_anomalies_finds_the_first():
    assert count([(0, 10)], [(1, 3), (5, 7)]) == SequenceCounts(found=1, missed=1, false=0)


def test_two_predictions_in_one_anomaly_find_it_once():
    assert count([(1, 2), (3, 4), (8, 9)], [(0, 5)]) == SequenceCounts(1, 0, 1)


def test_the_published_counts_give_the_published_figures():
    counts = SequenceCounts(62, 7, 12) + SequenceCounts(25, 11, 1)
    figures = (counts.precision, counts.recall, counts.f_beta(0.5))
    assert figures == pytest.approx((0.870, 0.829, 0.861), abs=5e-4)


def test_nothing_predicted_or_known_is_no_figure():
    assert math.isnan(count([], [(0, 1)]).precision)
    assert (count([], [(0, 1)]).recall, count([], [(0, 1)]).f_beta(0.5)) == (0, 0)
    assert math.isnan(count([(0, 1)], []).recall)
    assert math.isnan(count([(0, 1)], []).f_beta(0.5))

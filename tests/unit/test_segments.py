"""Segments are maximal runs above the limit, and their parts are what they are made of."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from promad.scoring.segments import MOST_PARTS, Segment, find_parts, find_segments
from tests.support import naive_segments

numbers = st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, np.nan])
small = st.floats(0, 4, width=16)
several = arrays(np.float64, st.integers(0, 30), elements=numbers)


@given(several, st.data())
def test_they_are_what_one_finds_by_going_along(scores, data):
    limits = data.draw(arrays(np.float64, len(scores), elements=st.sampled_from([0.5, 1.0])))
    found = find_segments(scores, limits)
    as_rows = [(each.first, each.last, each.peak_at, each.peak, each.mean) for each in found]
    assert as_rows == [pytest.approx(row) for row in naive_segments.segments(scores, limits)]


@given(several)
def test_every_sample_above_the_limit_is_in_exactly_one(scores):
    limits = np.ones(len(scores))
    found = find_segments(scores, limits)
    covered = [row for each in found for row in range(each.first, each.last + 1)]
    assert covered == np.flatnonzero(scores > limits).tolist()
    assert sum(each.length for each in found) == len(covered)
    for one, next_ in itertools.pairwise(found):
        assert next_.first > one.last + 1


@given(arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=8), elements=small))
def test_the_parts_are_those_of_the_mean_error(errors):
    segment = Segment(0, len(errors) - 1, 0, 1.0, 1.0)
    baseline = np.linspace(0.5, 1.0, errors.shape[1])
    found = find_parts(segment, errors, baseline)
    everything = naive_segments.parts(0, len(errors) - 1, errors, baseline)
    for part in found:
        assert (part.elevation, part.contribution) == pytest.approx(everything[part.column])
    largest = sorted((share for _, share in everything if share > 0), reverse=True)
    assert [part.contribution for part in found] == pytest.approx(largest[:MOST_PARTS])


def test_only_the_segments_own_samples_count():
    errors = np.array([[9.0, 0.0], [0.0, 3.0], [0.0, 5.0], [9.0, 0.0]])
    (part,) = find_parts(Segment(1, 2, 2, 5.0, 4.0), errors, np.array([1.0, 2.0]))
    assert (part.column, part.elevation, part.contribution) == (1, 2.0, 1.0)

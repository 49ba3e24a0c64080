"""Explanations: hits and gains as the papers count them, ties shared, the unknown never a hit."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from promad.evaluation.explanations import Causes, explained_samples, explained_segments
from tests.support import naive

NAN = math.nan


@st.composite
def ranked(draw):
    """Contributions (samples, features), some tied and some unknown, and causes of stretches."""
    samples, features = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    some = st.sampled_from([0.0, 1.0, 2.0, 5.0, NAN])
    contributions = draw(
        st.lists(
            st.lists(some, min_size=features, max_size=features),
            min_size=samples,
            max_size=samples,
        )
    )
    starts, ends, blamed = [], [], []
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, samples - 1))
        chosen = draw(st.sets(st.integers(0, features - 1), min_size=1))
        starts.append(start)
        ends.append(draw(st.integers(start + 1, samples)))
        blamed.append([feature in chosen for feature in range(features)])
    causes = Causes(np.array(starts), np.array(ends), np.array(blamed))
    return np.array(contributions), causes


def expected(rows):
    """The four figures from (contributions, blamed) pairs, by the slow twin."""
    figures = []
    for percent in (100, 150):
        rates, gains = [], []
        for contributions, blamed in rows:
            count = sum(blamed)
            looked_at = round(count * percent / 100)
            hits, gain = naive.hits_and_gain(contributions, blamed, looked_at)
            best = sum(1 / math.log2(place + 2) for place in range(min(count, looked_at)))
            rates.append(hits / count)
            gains.append(gain / best)
        figures.append((sum(rates) / len(rates), sum(gains) / len(gains)))
    return (figures[0][0], figures[1][0], figures[0][1], figures[1][1])


def values(found):
    return (found.hit_rate_at_100, found.hit_rate_at_150, found.ndcg_at_100, found.ndcg_at_150)


@given(ranked())
def test_samples_are_explained_as_the_definition_says(case):
    contributions, causes = case
    rows = [
        (contributions[row].tolist(), blamed.tolist())
        for start, end, blamed in zip(causes.starts, causes.ends, causes.features, strict=True)
        for row in range(start, end)
    ]
    np.testing.assert_allclose(values(explained_samples(contributions, causes)), expected(rows))


@given(ranked())
def test_segments_are_ranked_by_what_is_known_of_them(case):
    contributions, causes = case
    rows = []
    for start, end, blamed in zip(causes.starts, causes.ends, causes.features, strict=True):
        means = []
        for column in contributions[start:end].T.tolist():
            known = [value for value in column if not math.isnan(value)]
            means.append(sum(known) / len(known) if known else NAN)
        rows.append((means, blamed.tolist()))
    np.testing.assert_allclose(values(explained_segments(contributions, causes)), expected(rows))


def one_stretch(*blamed):
    return Causes(np.array([0]), np.array([1]), np.array([blamed], bool))


def test_figures_worked_out_by_hand():
    """Two of four to blame, ranked first and third: one hit of two, both within three places."""
    found = explained_samples(np.array([[9.0, 5.0, 3.0, 1.0]]), one_stretch(1, 0, 1, 0))
    ideal = 1 + 1 / math.log2(3)
    np.testing.assert_allclose(values(found), (0.5, 1.0, 1 / ideal, 1.5 / ideal))


def test_one_and_a_half_places_are_two_and_four_and_a_half_are_four():
    causes = one_stretch(0, 1, 0, 0)
    assert explained_samples(np.array([[4.0, 3, 2, 1]]), causes).hit_rate_at_150 == 1
    causes = one_stretch(1, 1, 0, 0, 1)
    assert explained_samples(np.array([[9.0, 8, 7, 6, 5]]), causes).hit_rate_at_150 == 2 / 3


def test_constant_contributions_are_worth_what_chance_is():
    found = explained_samples(np.ones((1, 4)), one_stretch(1, 0, 0, 0))
    np.testing.assert_allclose((found.hit_rate_at_100, found.hit_rate_at_150), (0.25, 0.5))


def test_a_blind_sample_explains_nothing():
    found = explained_samples(np.full((1, 3), NAN), one_stretch(1, 1, 1))
    assert values(found) == (0, 0, 0, 0)


def test_nothing_to_explain_is_no_figure():
    nothing = Causes(np.empty(0, int), np.empty(0, int), np.empty((0, 3), bool))
    for explain in (explained_samples, explained_segments):
        assert all(math.isnan(value) for value in values(explain(np.ones((4, 3)), nothing)))

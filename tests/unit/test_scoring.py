"""Errors become one score a sample: divided by what is usual, smoothed, aggregated."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from promad.config import ScoringSettings
from promad.scoring.scoring import RECURSIVE, TRUNCATED, Scoring, fit_scoring
from tests.support import naive_scoring

NAN = np.nan
errors_or_gaps = st.floats(0, 1e6) | st.just(NAN)
spans = st.integers(1, 5)


@st.composite
def series(draw, columns=None, elements=errors_or_gaps):
    """Errors (rows, columns) and the sample number of each row, some samples left out."""
    rows = draw(st.integers(1, 25))
    columns = columns or draw(st.integers(1, 3))
    steps = draw(st.lists(st.integers(1, 30) | st.just(1), min_size=rows, max_size=rows))
    values = draw(arrays(np.float64, (rows, columns), elements=elements))
    return values, np.cumsum(steps).astype(np.int64)


def scoring_of(features=3, **keys):
    """A scoring that divides by nothing and does not smooth, but for `keys`."""
    plain = {
        "method": "normalised",
        "normaliser": np.ones(features * keys.get("members", 1)),
        "baseline": np.ones(features),
        "top_k": None,
        "span": 1,
        "required_share": 0.7,
    }
    return Scoring(**{**plain, **keys})


def fitted(errors, members=1, at=None, **settings):
    places = np.arange(len(errors)) if at is None else at
    return fit_scoring(errors, places, members, ScoringSettings(**settings))


def chance(rows=400, features=3, seed=0):
    return np.random.default_rng(seed).exponential(size=(rows, features))


# Aggregating

rows_of_errors = arrays(
    np.float64, st.tuples(st.integers(1, 6), st.just(4)), elements=errors_or_gaps
)


@given(
    rows_of_errors,
    st.sampled_from([1, 2]),
    st.sampled_from([None, 1, 2, 3, 4, 9]),
    st.sampled_from([0.01, 0.5, 0.7, 0.75, 1.0]),
    st.sampled_from([None, 0.5, 5.0]),
)
def test_the_score_is_that_of_its_twin(rows, members, top_k, share, compression):
    keys = {"members": members, "top_k": top_k, "required_share": share}
    scoring = scoring_of(4 // members, compression=compression, **keys)
    expected = [naive_scoring.score(list(row), members, top_k, share, compression) for row in rows]
    np.testing.assert_allclose(scoring.score(rows), expected, rtol=1e-12)


def test_known_features_stand_in_for_missing_ones_while_they_are_enough():
    rows = np.array([[1.0, 2.0, 6.0, 3.0], [1.0, 2.0, 6.0, NAN], [1.0, 2.0, NAN, NAN], [NAN] * 4])
    found = scoring_of(4, required_share=0.75).score(rows)
    np.testing.assert_array_equal(found, [3.0, 3.0, NAN, NAN])


def test_seven_of_ten_are_seven_tenths():
    rows = np.ones((2, 10))
    rows[0, :3] = NAN
    rows[1, :4] = NAN
    np.testing.assert_array_equal(scoring_of(10).score(rows), [1.0, NAN])


def test_the_largest_are_chosen_among_the_known():
    rows = np.array([[9.0, 1.0, NAN, 5.0], [NAN, 1.0, NAN, NAN]])
    found = scoring_of(4, top_k=2, required_share=0.25).score(rows)
    np.testing.assert_array_equal(found, [7.0, 1.0])


def test_many_that_deviate_a_little_outweigh_one_that_deviates_beyond_measure():
    one, many = np.array([1e6, 0.0, 0.0, 0.0]), np.full(4, 100.0)
    plain, compressed = (scoring_of(4, compression=each) for each in (None, 5.0))
    assert plain.score(one) > plain.score(many)
    assert compressed.score(one) < 2 * compressed.score(many)
    little = np.full(4, 0.01)
    np.testing.assert_allclose(compressed.score(little), plain.score(little), rtol=2e-3)


def test_a_description_from_before_compresses_nothing():
    content = scoring_of(compression=5.0).to_json()
    assert Scoring.from_json(content).compression == 5.0
    del content["compression"]
    assert Scoring.from_json(content).compression is None


def test_the_score_of_several_members_is_the_mean_of_their_logarithms():
    row = np.array([[0.0, 2.0, 100.0, 300.0]])
    found = scoring_of(2, members=2).score(row).item()
    assert found == pytest.approx((np.log1p(1.0) + np.log1p(200.0)) / 2)


@given(arrays(np.float64, (3, 6), elements=st.floats(0, 1e6)), st.sampled_from([1, 2, 3]))
def test_what_the_features_add_has_the_score_as_its_mean(rows, members):
    scoring = scoring_of(6 // members, members=members)
    added = scoring.by_feature(rows)
    assert added.shape == (3, 6 // members)
    assert (added >= 0).all()
    np.testing.assert_allclose(added.mean(axis=1), scoring.score(rows), rtol=1e-9, atol=1e-12)


def test_a_feature_that_no_member_knows_adds_nothing_known():
    added = scoring_of(2, members=2).by_feature(np.array([[1.0, NAN, 3.0, NAN]]))
    np.testing.assert_array_equal(np.isnan(added), [[False, True]])


# Fitting


def test_the_plain_error_is_neither_divided_nor_smoothed_nor_chosen_from():
    errors = chance()
    scoring = fitted(errors, method="mse", aggregate="top_k", top_k=1, smoothing_samples=9)
    smoothed = scoring.smooth(errors, np.arange(len(errors)))
    np.testing.assert_array_equal(smoothed, errors)
    np.testing.assert_allclose(scoring.score(smoothed), errors.mean(axis=1))
    assert scoring.memory == 1


def test_each_feature_is_divided_by_what_is_usual_for_it_and_for_all():
    errors = chance() * [1.0, 10.0, 100.0]
    usual = np.quantile(errors, 0.9, axis=0)
    by_feature = fitted(errors, quantile=0.9, normalise_by="feature").normaliser
    np.testing.assert_allclose(by_feature, usual + usual.mean())
    by_model = fitted(errors, quantile=0.9, normalise_by="model").normaliser
    np.testing.assert_allclose(by_model, np.full(3, usual.mean()))


def test_the_members_of_a_fusion_are_each_measured_by_themselves():
    one, other = chance(seed=1), 1e6 * chance(seed=2)
    for normalise_by in ("feature", "model"):
        together = fitted(np.hstack([one, other]), 2, normalise_by=normalise_by).normaliser
        alone = [fitted(each, normalise_by=normalise_by).normaliser for each in (one, other)]
        np.testing.assert_array_equal(together, np.concatenate(alone))


@pytest.mark.parametrize("normalise_by", ["feature", "model"])
@pytest.mark.parametrize("stillness", [0.0, 1e-30, 1e-12, 1e-6])
def test_a_feature_that_hardly_moved_in_training_never_decides_alone(normalise_by, stillness):
    errors = chance(features=4)
    errors[:, 0] *= stillness
    scoring = fitted(errors, normalise_by=normalise_by, smoothing_samples=1)
    moved = errors[:1].copy()
    moved[0, 0] = 1.0  # as much as the others do all the time
    before, after = (
        scoring.score(each / scoring.normaliser).item() for each in (errors[:1], moved)
    )
    assert after - before < 1.0
    later = scoring.score(errors / scoring.normaliser)
    assert np.isfinite(later).all()


def test_features_that_none_moved_leave_a_finite_score():
    scoring = fitted(np.zeros((50, 3)))
    assert (scoring.normaliser > 0).all()
    assert (scoring.baseline > 0).all()
    score = scoring.score(scoring.smooth(np.ones((5, 3)), np.arange(5)))
    assert np.isfinite(score).all()


@pytest.mark.parametrize("members", [1, 2])
def test_a_feature_stays_below_its_baseline_for_95_percent_of_training(members):
    errors, at = chance(2000, 3 * members), np.arange(2000)
    scoring = fitted(errors, members)
    assert scoring.baseline.shape == (3,)
    added = scoring.by_feature(scoring.smooth(errors, at))
    np.testing.assert_allclose((added <= scoring.baseline).mean(axis=0), 0.95, atol=0.001)


def test_fitting_knows_where_samples_are_missing():
    errors = chance(100)
    together, apart = np.arange(100), 1000 * np.arange(100)
    assert (fitted(errors, at=together).baseline != fitted(errors, at=apart).baseline).all()


# Kept in a file


@given(
    arrays(np.float64, 4, elements=st.floats(1e-300, 1e300)),
    arrays(np.float64, 2, elements=st.floats(1e-300, 1e300)),
    st.none() | st.integers(1, 9),
    st.integers(1, 100),
    st.floats(0.01, 1),
)
def test_json_brings_back_every_bit(normaliser, baseline, top_k, span, share):
    before = Scoring("normalised", normaliser, baseline, top_k, span, share, 2)
    after = Scoring.from_json(json.loads(json.dumps(before.to_json())))
    assert after.to_json() == before.to_json()
    assert after.normaliser.tobytes() == normaliser.tobytes()
    assert after.baseline.tobytes() == baseline.tobytes()


def test_a_description_from_before_says_with_which_moving_average_it_was_fitted():
    content = scoring_of().to_json()
    assert Scoring.from_json(content).smoothing == RECURSIVE
    del content["smoothing"]
    assert Scoring.from_json(content).smoothing == TRUNCATED


ADDED = {"smoothing", "compression", "recent_samples", "typical_score"}
"""What descriptions of earlier versions lack."""


@pytest.mark.parametrize("key", sorted({*scoring_of().to_json()} - ADDED))
def test_a_description_with_something_left_out_is_refused(key):
    content = scoring_of().to_json()
    del content[key]
    with pytest.raises(KeyError, match=key):
        Scoring.from_json(content)


@pytest.mark.parametrize(
    "broken",
    [
        {"normaliser": [1.0, 0.0, 1.0]},
        {"normaliser": [1.0, NAN, 1.0]},
        {"baseline": [1.0, -1.0, 1.0]},
        {"baseline": "high"},
        {"span_samples": "long"},
    ],
)
def test_a_description_of_no_scoring_is_refused(broken):
    with pytest.raises(ValueError, match=r"not above zero|could not convert|invalid literal"):
        Scoring.from_json({**scoring_of().to_json(), **broken})


@pytest.mark.parametrize("compression", [0.0, -1.0, NAN, np.inf])
def test_a_compression_is_above_zero(compression):
    with pytest.raises(ValueError, match="out of range"):
        Scoring.from_json({**scoring_of().to_json(), "compression": compression})


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (ScoringSettings(), 3),
        (ScoringSettings(recent_samples=5), 5),
        (ScoringSettings(method="mse"), None),
        (ScoringSettings(smoothing_samples=3), None),
    ],
)
def test_a_short_average_ends_events_where_scores_are_smoothed(settings, expected):
    """The mean squared error of the preset `original` is not smoothed: the score ends events."""
    errors = np.random.default_rng(0).random((50, 2))
    scoring = fit_scoring(errors, np.arange(50), 1, settings)
    assert scoring.recent_samples == expected
    assert (scoring.typical > 0) == (expected is not None)
    assert Scoring.from_json(scoring.to_json()).recent_samples == expected

"""Injected shifts are where, as long and as large as they say, and fit many features or few."""

import numpy as np
import pytest

from promad.errors import DataError
from promad.evaluation.agreement import segments
from promad.evaluation.bootstrap import bootstrap_means
from promad.evaluation.injected_shifts import (
    BLOCK,
    DURATIONS,
    MOST_FEATURES,
    SIZES,
    inject_shifts,
)


def noise(features=6, samples=5 * BLOCK):
    return np.random.default_rng(1).normal(size=(samples, features)) * [
        10.0**i for i in range(features)
    ]


@pytest.mark.parametrize("seed", range(3))
def test_each_block_has_one_shift_and_the_truth_is_exact(seed):
    values = noise()
    before, spread = values.copy(), values.std(axis=0)
    found = inject_shifts(values, spread, seed)
    np.testing.assert_array_equal(values, before)
    np.testing.assert_array_equal((found.values != values).any(axis=1), found.labels)
    starts, ends = segments(found.labels)
    assert [(each.first, each.last) for each in found.anomalies] == list(
        zip(starts, ends, strict=True)
    )
    assert (starts // BLOCK).tolist() == list(range(5))
    for each in found.anomalies:
        assert each.last - each.first in DURATIONS
        assert 1 <= len(each.features) <= MOST_FEATURES
        sizes = (found.values - values)[each.first, list(each.features)] / spread[
            list(each.features)
        ]
        np.testing.assert_allclose(sizes, each.sizes)
        assert (np.abs(sizes) >= SIZES[0] - 1e-9).all()
    again = inject_shifts(values, spread, seed)
    np.testing.assert_array_equal(again.values, found.values)


def test_features_without_spread_are_left_alone():
    values = noise(2)
    found = inject_shifts(values, np.array([0.0, 1.0]), 0)
    np.testing.assert_array_equal(found.values[:, 0], values[:, 0])


@pytest.mark.parametrize(("samples", "spread"), [(BLOCK - 1, 1.0), (BLOCK, 0.0)])
def test_too_little_data_is_refused(samples, spread):
    with pytest.raises(DataError, match="too few to inject a shift — give at least 200 samples"):
        inject_shifts(noise(1, samples), np.array([spread]), 0)


def test_an_interval_holds_the_mean_and_narrows_with_more_entities():
    few = [{"a": value} for value in (0.0, 1.0)]
    many = [{"a": value, "b": 1.0} for value in (0.0, 1.0) * 20]
    low, high = bootstrap_means(few)["a"]
    narrow_low, narrow_high = bootstrap_means(many)["a"]
    assert low < narrow_low < 0.5 < narrow_high < high
    assert bootstrap_means(many)["b"] == (1.0, 1.0)


def test_a_figure_of_one_entity_has_no_interval():
    assert bootstrap_means([{"a": 1.0}, {"a": float("nan")}]) == {}

"""Injected anomalies are what was asked for, and the truth about them is told exactly."""

import numpy as np
import pytest

from promad.errors import DataError
from promad.evaluation.injection import BLOCK, KINDS, SIZED, TOLERANCE, inject

SAMPLES, LENGTH = 1650, 10
SIZES = (3.0, 6.0)


def moving(features=6, samples=SAMPLES, seed=1):
    """Noisy waves with quite different spreads."""
    chance = np.random.default_rng(seed)
    times = np.arange(samples)[:, np.newaxis]
    waves = np.sin(times / chance.uniform(5, 50, features)) + 0.2 * chance.normal(
        size=(samples, features)
    )
    return waves * 10.0 ** chance.integers(-6, 7, features)


def injected(values, seed=0, **options):
    return inject(values, values.std(axis=0), seed, length=LENGTH, sizes=SIZES, **options)


def each_seed(function):
    return pytest.mark.parametrize("seed", range(5))(function)


@each_seed
def test_the_causes_are_exactly_what_changed_beyond_the_tolerance(seed):
    values = moving()
    found = injected(values, seed)
    changed = np.abs(found.values - values) / values.std(axis=0)
    assert found.causes[changed > TOLERANCE * (1 + 1e-6)].all()
    assert not found.causes[changed < TOLERANCE * (1 - 1e-6)].any()
    np.testing.assert_array_equal(found.labels, [row.any() for row in found.causes])


@each_seed
def test_nothing_changes_outside_the_anomalies(seed):
    values = moving()
    found = injected(values, seed)
    for anomaly in found.anomalies:
        rows, columns = slice(anomaly.first, anomaly.last), list(anomaly.features)
        assert (found.values[rows, columns] != values[rows, columns]).any()
        found.values[rows, columns] = values[rows, columns]
    np.testing.assert_array_equal(found.values, values)


@each_seed
def test_what_was_given_is_left_as_it_was(seed):
    values = moving()
    before = values.copy()
    injected(values, seed)
    np.testing.assert_array_equal(values, before)


@each_seed
def test_sizes_are_in_the_features_own_spread_and_within_what_was_asked_for(seed):
    values = moving()
    found, spread = injected(values, seed), values.std(axis=0)
    for anomaly in found.anomalies:
        columns = list(anomaly.features)
        change = (found.values - values)[anomaly.first : anomaly.last, columns] / spread[columns]
        if anomaly.kind not in SIZED:
            assert set(anomaly.sizes) == {0.0}
            continue
        assert ((np.abs(anomaly.sizes) >= SIZES[0]) & (np.abs(anomaly.sizes) <= SIZES[1])).all()
        np.testing.assert_allclose(change[-1], anomaly.sizes, rtol=1e-6)
        if anomaly.kind == "drift":
            steps = np.diff(change, axis=0, prepend=0.0)
            np.testing.assert_allclose(steps, np.broadcast_to(steps[0], steps.shape), rtol=1e-4)
        else:
            np.testing.assert_allclose(change, np.broadcast_to(change[0], change.shape), rtol=1e-6)


def test_a_stuck_feature_repeats_its_last_value():
    values = moving()
    found = injected(values)
    stuck = [anomaly for anomaly in found.anomalies if anomaly.kind == "flat line"]
    for anomaly in stuck:
        for column in anomaly.features:
            own = found.values[anomaly.first : anomaly.last, column]
            np.testing.assert_allclose(own, values[anomaly.first - 1, column], rtol=1e-6)
    assert len(stuck) == SAMPLES // (BLOCK * LENGTH) // len(KINDS)


def test_a_broken_correlation_shows_values_of_another_time():
    values = moving()
    broken = [each for each in injected(values).anomalies if each.kind == "broken correlation"]
    found = injected(values).values
    for anomaly in broken:
        own = found[anomaly.first : anomaly.last, list(anomaly.features)]
        windows = np.lib.stride_tricks.sliding_window_view(
            values[:, list(anomaly.features)], len(own), axis=0
        ).transpose(0, 2, 1)
        closest = np.abs(windows - own).max(axis=(1, 2)) / np.abs(own).max()
        assert closest.min() < 1e-6
        assert np.argmin(closest) != anomaly.first
    assert broken


def test_every_block_has_one_anomaly_and_every_kind_as_many_as_the_others():
    found = injected(moving(samples=BLOCK * LENGTH * 3 * len(KINDS)))
    kinds = [anomaly.kind for anomaly in found.anomalies]
    assert {kind: kinds.count(kind) for kind in KINDS} == dict.fromkeys(KINDS, 3)
    for block, anomaly in enumerate(found.anomalies):
        rows = slice(block * BLOCK * LENGTH, (block + 1) * BLOCK * LENGTH)
        assert rows.start < anomaly.first < anomaly.last <= rows.stop
        assert set(found.kinds[rows]) == {anomaly.kind}


def test_anomalies_last_as_long_as_asked_for():
    for seed in range(5):
        for anomaly in injected(moving(), seed).anomalies:
            longest, shortest = (3, 1) if anomaly.kind == "spike" else (2 * LENGTH, LENGTH)
            assert shortest <= anomaly.last - anomaly.first <= longest


def test_the_seed_decides_everything():
    values = moving()
    np.testing.assert_array_equal(injected(values, 3).values, injected(values, 3).values)
    assert injected(values, 3).anomalies == injected(values, 3).anomalies
    assert injected(values, 3).anomalies != injected(values, 4).anomalies


def test_a_feature_that_never_moves_is_left_alone():
    values = moving()
    values[:, 2] = 5.0
    for seed in range(5):
        assert not injected(values, seed).causes[:, 2].any()


def test_missing_values_stay_missing_and_are_no_cause():
    values = moving()
    values[::7, :] = np.nan
    for seed in range(5):
        found = inject(values, np.nanstd(values, axis=0), seed, length=LENGTH, sizes=SIZES)
        np.testing.assert_array_equal(np.isnan(found.values[::7]), True)
        assert not found.causes[::7].any()


def test_one_feature_alone_can_have_them_all():
    found = injected(moving(features=1))
    assert {anomaly.features for anomaly in found.anomalies} == {(0,)}
    assert {anomaly.kind for anomaly in found.anomalies} == set(KINDS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones((SAMPLES, 2)), "1650 samples of 0 features that vary"),
        (moving()[: BLOCK * LENGTH - 1], "79 samples of 6 features .* give at least 80 samples"),
    ],
)
def test_where_there_is_no_room_it_is_said(values, message):
    with pytest.raises(DataError, match=message):
        injected(values)

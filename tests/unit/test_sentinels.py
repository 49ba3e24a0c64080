"""Values that are no measurement are named, and ordinary ones are not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promad.data.sentinels import find_sentinels

SAMPLES = 2000


def with_sentinels(values, sentinel, count, seed=0):
    found = np.array(values, np.float64)
    found[np.random.default_rng(seed).permutation(len(found))[:count]] = sentinel
    return found


@pytest.mark.parametrize("sentinel", [2.0**63, -(2.0**63), 2.0**64, 1e18, -3.4e38, 2.0**32 - 1])
@pytest.mark.parametrize("count", [1, 4, 300, SAMPLES // 2])
def test_a_sentinel_is_found_however_often_it_occurs(sentinel, count):
    values = 50 + 20 * np.sin(np.arange(SAMPLES) / 30)
    found = find_sentinels(with_sentinels(values, sentinel, count))
    assert (found.count, found.example) == (count, sentinel)
    assert 30 <= found.low < found.high <= 70


def test_parts_of_a_sentinel_are_found_too():
    """As the average of several series yields them, of which one has a sentinel."""
    values = with_sentinels(np.full(SAMPLES, 0.0), 2.0**63, 3)
    values[[10, 700]] = 2.0**63 / 40
    assert find_sentinels(values).count >= 4


ORDINARY = {
    "bytes per second with a backup": lambda t: np.where(t % 1900 < 4, 5e9, 100.0),
    "bytes per second, idle but for bursts": lambda t: np.where(t % 1900 < 4, 5e9, 0.0),
    "a raw counter of bytes": lambda t: 1e9 * np.maximum(t - 5, 0) ** 1.6,
    "a raw counter after a reset": lambda t: np.where(t < 1500, 9e14 + 1e9 * t, 1e5 * (t - 1499)),
    "unix time in nanoseconds": lambda t: 1.7e18 + 3e10 * t,
    "unix time in milliseconds, 0 when there is none": lambda t: np.where(t % 90, 1.7e12, 0.0),
    "a free space of 8 PB": lambda t: 9e15 + 1e12 * np.sin(t),
    "memory in bytes": lambda t: 2.0**32 + 1e6 * np.sin(t),
    "nothing but zero": lambda t: 0.0 * t,
    "one sample": lambda t: t[:1] + 1e18,
    "nothing": lambda t: t * np.nan,
}


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_values_are_none(name):
    assert find_sentinels(ORDINARY[name](np.arange(SAMPLES, dtype=np.float64))) is None


@settings(max_examples=50)
@given(st.integers(0, 10_000), st.floats(0, 14), st.floats(0.1, 3))
def test_no_spread_of_plausible_values_is_a_sentinel(seed, size, spread):
    values = 10**size * np.random.default_rng(seed).lognormal(0, spread, SAMPLES)
    assert find_sentinels(np.minimum(values, 9e14)) is None

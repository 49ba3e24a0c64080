"""Windows over features that move together."""

import numpy as np

from promad.data.windows import StoredWindows

LENGTH = 8


def windows_of(features=3, conditions=0, count=200, length=LENGTH, seed=0):
    """Windows over features that move together, with conditions on the right."""
    chance = np.random.default_rng(seed)
    samples = count + length - 1
    drivers = chance.normal(size=(samples, 2)).cumsum(axis=0) / 4
    columns = drivers @ chance.normal(size=(2, features + conditions))
    rows = np.sin(columns + 0.1 * chance.normal(size=columns.shape)).astype(np.float32)
    array = np.array([rows[start : start + length] for start in range(count)])
    return StoredWindows(array, 30.0 * np.arange(count))

"""The newest rows are those of the whole series, however they come and wherever they move."""

import numpy as np
import pytest

from promad.data.newest_rows import NewestRows
from promad.data.rows import Move

KEPT, FEATURES = 4, 3


def draw(groups, samples, seed=0):
    """Values and conditions of so many samples."""
    chance = np.random.default_rng(seed)
    return chance.normal(size=(groups, samples, FEATURES)), chance.normal(size=(samples, 2))


@pytest.mark.parametrize("sizes", [[1], [3, 1, 1], [30, 1, 2], [1, 8, 9, 1]])
def test_each_append_returns_what_was_kept_and_what_is_new(sizes):
    values, conditions = draw(2, 60)
    whole = np.concatenate([values, np.broadcast_to(conditions, (2, 60, 2))], axis=2)
    rows, first = NewestRows.begin(2, KEPT, FEATURES + 2), 0
    padded = np.concatenate([np.zeros((2, KEPT, FEATURES + 2)), whole], axis=1)
    while first < 60:
        last = min(first + sizes[first % len(sizes)], 60)
        found = rows.append(values[:, first:last], conditions[first:last].astype(np.float32))
        np.testing.assert_array_equal(found, padded[:, first : last + KEPT].astype(np.float32))
        first = last


def test_a_window_of_one_sample_keeps_none():
    values, conditions = draw(2, 1)
    found = NewestRows.begin(2, 0, FEATURES + 2).append(values, conditions.astype(np.float32))
    assert found.shape == (2, 1, FEATURES + 2)


def test_moved_groups_continue_wherever_both_stand():
    values, conditions = draw(3, 20)
    conditions = conditions.astype(np.float32)
    old, new = (NewestRows.begin(groups, KEPT, FEATURES + 2) for groups in (3, 2))
    for sample in range(9):
        old.append(values[:, sample : sample + 1], conditions[sample : sample + 1])
    new.append(values[:2, :2], conditions[:2])
    new.adopt(old, Move(np.array([2]), np.array([0])))
    found = new.append(values[[2, 0], 9:10], conditions[9:10])
    expected = values[2, 9 - KEPT : 10].astype(np.float32)
    np.testing.assert_array_equal(found[0, :, :FEATURES], expected)

"""Windows span neither gap nor seam, are gathered when asked for, and split without overlap."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promad.data.frame import single_group
from promad.data.windows import (
    ChosenWindows,
    SampleWindows,
    StoredWindows,
    TailWindows,
    batches,
    build_windows,
    sample_numbers,
    split_at,
    windows_per_batch,
)
from tests.support import naive

STEP = 15.0


def frames_of(blocks, apart=10):
    """Frames from blocks of values (samples, features), `apart` steps between them."""
    frames, start = [], 1000.0 * STEP
    for block in blocks:
        frames.append(single_group(start, STEP, [f"f{i}" for i in range(block.shape[1])], block))
        start += STEP * (len(block) + apart)
    return frames


def plain_windows(samples, length, width=2):
    values = np.arange(float(samples * width)).reshape(samples, width)
    return build_windows(frames_of([values]), 0, length)


@st.composite
def blocks(draw):
    """One to three blocks of samples, of which some values are missing."""
    made, number = [], 0.0
    for samples in draw(st.lists(st.integers(1, 25), min_size=1, max_size=3)):
        block = number + np.arange(2.0 * samples).reshape(-1, 2)
        missing = draw(st.lists(st.tuples(st.integers(0, 24), st.integers(0, 1)), max_size=4))
        for row, column in missing:
            block[row : row + 1, column] = np.nan
        made.append(block)
        number += 1000
    return made


@given(blocks(), st.integers(1, 6))
def test_windows_are_every_complete_stretch_and_no_other(blocks, length):
    frames = frames_of(blocks)
    windows = build_windows(frames, 0, length)
    expected = naive.windows(blocks, length)
    assert len(windows) == len(expected)
    for index, (block, first) in enumerate(expected):
        np.testing.assert_array_equal(
            windows.take(np.array([index]))[0], blocks[block][first : first + length]
        )
        assert windows.times[index] == frames[block].times[first + length - 1]


def test_a_window_spans_neither_a_gap_nor_the_seam_between_two_periods():
    block = np.arange(20.0).reshape(-1, 1)
    block[7] = np.nan
    windows = build_windows(frames_of([block, block + 100]), 0, 5)
    rows = windows.take(np.arange(len(windows)))[:, :, 0]
    assert (np.diff(rows, axis=1) == 1).all()
    assert len(windows) == 2 * (7 - 4 + 12 - 4)


def test_conditions_stand_to_the_right_of_the_features():
    block = np.arange(8.0).reshape(-1, 2)
    conditions = [np.full((4, 1), 9.0, np.float32)]
    windows = build_windows(frames_of([block]), 0, 2, conditions)
    assert windows.width == 3
    np.testing.assert_array_equal(windows.take(np.array([0]))[0], [[0, 1, 9], [2, 3, 9]])


@pytest.mark.parametrize("length", [2, 60, 1000])
def test_what_windows_keep_does_not_grow_with_their_length(length):
    windows = plain_windows(3000, length)
    kept = windows.rows.nbytes + windows.row_times.nbytes + windows.starts.nbytes
    assert kept <= 3000 * (2 * 4 + 8 + 8)
    assert ChosenWindows(windows, np.arange(3)).source is windows


@pytest.mark.parametrize(("length", "width"), [(2, 1), (60, 38), (2000, 100)])
def test_what_is_gathered_at_once_is_bounded_whatever_the_length(length, width):
    rows = np.zeros((length + 1500, width), np.float32)
    starts = np.arange(1500, dtype=np.int64)
    windows = SampleWindows(rows, np.arange(float(len(rows))), starts, length)
    size = windows_per_batch(windows, 1024)
    assert 1 <= size <= 1024
    assert size == 1 or size * length * width * 4 <= 16 * 2**20


@given(st.integers(0, 30), st.integers(1, 40))
def test_batches_are_all_windows_in_order(count, most):
    windows = plain_windows(count + 3, 4) if count else plain_windows(3, 4)
    parts = list(batches(windows, most))
    assert all(0 < len(part) <= most for part in parts)
    together = np.concatenate(parts) if parts else np.empty((0, 4, 2))
    np.testing.assert_array_equal(together, windows.take(np.arange(len(windows))))


def test_stored_windows_are_the_same_windows():
    windows = plain_windows(30, 4)
    stored = StoredWindows(windows.take(np.arange(len(windows))), windows.times)
    chosen = np.array([5, 2, 26])
    np.testing.assert_array_equal(stored.take(chosen), windows.take(chosen))
    assert (stored.length, stored.width, len(stored)) == (4, 2, 27)
    assert stored.take(chosen).dtype == np.float32


def test_chosen_windows_are_those_windows_in_that_order():
    windows = plain_windows(30, 4)
    chosen = ChosenWindows(windows, np.array([7, 3, 11]))
    np.testing.assert_array_equal(chosen.take(np.array([2, 0])), windows.take(np.array([11, 7])))
    np.testing.assert_array_equal(chosen.times, windows.times[[7, 3, 11]])
    assert (len(chosen), chosen.length, chosen.width) == (3, 4, 2)


def samples_of(windows):
    """The times of every sample in each of the windows, in steps: list of sets."""
    ends = np.round(windows.times / STEP).astype(int)
    return [set(range(end - windows.length + 1, end + 1)) for end in ends.tolist()]


@given(blocks(), st.integers(1, 5), st.integers(0, 60))
def test_training_and_validation_are_one_window_apart(blocks, length, place):
    windows = build_windows(frames_of(blocks), 0, length)
    boundary = (1000 + place) * STEP
    split = split_at(windows, boundary, STEP)
    training = set().union(*samples_of(split.training))
    validation = set().union(*samples_of(split.validation))
    last_seen = 1000 + place
    assert all(sample <= last_seen for sample in training)
    assert all(sample > last_seen + length for sample in validation)
    left_out = [
        samples
        for samples in samples_of(windows)
        if max(samples) > last_seen and min(samples) <= last_seen + length
    ]
    assert len(windows) == len(split.training) + len(split.validation) + len(left_out)


def test_in_unbroken_data_the_gap_is_exactly_one_window():
    split = split_at(plain_windows(100, 8), (1000 + 59) * STEP, STEP)
    last = max(samples_of(split.training)[-1])
    first = min(samples_of(split.validation)[0])
    assert (last, first) == (1059, 1059 + 8 + 1)


# Tails, and where windows lie


@given(st.integers(1, 8), st.lists(st.integers(0, 22), min_size=1, max_size=5))
def test_tails_are_the_last_samples_of_each_window_at_the_same_times(length, chosen):
    windows = plain_windows(30, 8)
    tails, indices = TailWindows(windows, length), np.array(chosen)
    np.testing.assert_array_equal(tails.take(indices), windows.take(indices)[:, 8 - length :])
    np.testing.assert_array_equal(tails.times, windows.times)
    assert (len(tails), tails.length, tails.width) == (len(windows), length, windows.width)


def test_tails_are_the_windows_of_that_length_that_end_at_the_same_samples():
    long, short = plain_windows(30, 8), plain_windows(30, 3)
    every = np.arange(len(long))
    np.testing.assert_array_equal(TailWindows(long, 3).take(every), short.take(every + 5))


def test_samples_are_numbered_from_the_first_window_on_with_gaps_left_out():
    times = 1000 * STEP + STEP * np.array([0.0, 1.0, 1.999, 7.001])
    assert sample_numbers(times, STEP).tolist() == [0, 1, 2, 7]
    assert sample_numbers(times, STEP).dtype == np.int64
    assert sample_numbers(np.empty(0), STEP).tolist() == []

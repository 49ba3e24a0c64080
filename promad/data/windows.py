"""Windows: `sequence_length` consecutive samples of all features, gathered only when asked for.

A year of samples and its windows take the same memory: `Windows` keeps the flat samples and the
row at which each window starts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from promad.data.frame import MetricFrame
from promad.data.gaps import find_runs

Inputs = NDArray[np.float32]

_BATCH_BYTES = 16 * 2**20


class Windows(Protocol):
    """A chronological sequence of windows without NaN, each stamped at its last sample.

    Attributes:
        times: unix seconds of each window's last sample, float64 (windows,).
        length: samples per window.
        width: columns per sample: the features first, then what only conditions the model.
    """

    @property
    def times(self) -> NDArray[np.float64]: ...

    @property
    def length(self) -> int: ...

    @property
    def width(self) -> int: ...

    def __len__(self) -> int: ...

    def take(self, indices: NDArray[np.int64]) -> Inputs:
        """The windows at `indices`: float32 (indices, length, width)."""
        ...


@dataclass(frozen=True)
class SampleWindows:
    """Windows over flat samples: float32 (rows, width), and each window's first row."""

    rows: Inputs
    row_times: NDArray[np.float64]
    starts: NDArray[np.int64]
    length: int

    @property
    def times(self) -> NDArray[np.float64]:
        return self.row_times[self.starts + self.length - 1]

    @property
    def width(self) -> int:
        return int(self.rows.shape[1])

    def __len__(self) -> int:
        return len(self.starts)

    def take(self, indices: NDArray[np.int64]) -> Inputs:
        rows = self.starts[indices][:, np.newaxis] + np.arange(self.length)
        return np.asarray(self.rows[rows], np.float32)


@dataclass(frozen=True)
class StoredWindows:
    """Windows from an array (windows, length, width), which may be a file mapped into memory."""

    array: Inputs
    times: NDArray[np.float64]

    @property
    def length(self) -> int:
        return int(self.array.shape[1])

    @property
    def width(self) -> int:
        return int(self.array.shape[2])

    def __len__(self) -> int:
        return len(self.array)

    def take(self, indices: NDArray[np.int64]) -> Inputs:
        return np.ascontiguousarray(self.array[indices], np.float32)


@dataclass(frozen=True)
class ChosenWindows:
    """Some of the windows of another sequence, in the order of `indices`."""

    source: Windows
    indices: NDArray[np.int64]

    @property
    def times(self) -> NDArray[np.float64]:
        return self.source.times[self.indices]

    @property
    def length(self) -> int:
        return self.source.length

    @property
    def width(self) -> int:
        return self.source.width

    def __len__(self) -> int:
        return len(self.indices)

    def take(self, indices: NDArray[np.int64]) -> Inputs:
        return self.source.take(self.indices[indices])


@dataclass(frozen=True)
class TailWindows:
    """The last `length` samples of each window of another sequence."""

    source: Windows
    length: int

    @property
    def times(self) -> NDArray[np.float64]:
        return self.source.times

    @property
    def width(self) -> int:
        return self.source.width

    def __len__(self) -> int:
        return len(self.source)

    def take(self, indices: NDArray[np.int64]) -> Inputs:
        return self.source.take(indices)[:, -self.length :]


def build_windows(
    frames: Sequence[MetricFrame], group: int, length: int, conditions: Sequence[Inputs] = ()
) -> SampleWindows:
    """Every window of one group that holds no missing value and spans no seam between frames.

    Args:
        frames: scaled values, in chronological order.
        group: which group of the frames.
        conditions: for each frame float32 (samples, columns) put to the right of the features,
            or nothing at all.
    """
    blocks, times, starts, offset = [], [], [], 0
    for index, frame in enumerate(frames):
        values = frame.values[group].astype(np.float32)
        block = np.hstack([values, conditions[index]]) if conditions else values
        for first, last in find_runs(~np.isnan(block).any(axis=1)):
            starts.append(offset + np.arange(first, last - length + 1, dtype=np.int64))
        blocks.append(block)
        times.append(frame.times)
        offset += len(block)
    return SampleWindows(
        np.concatenate(blocks), np.concatenate(times), np.concatenate([*starts, _NONE]), length
    )


_NONE = np.empty(0, np.int64)


def sample_numbers(times: NDArray[np.float64], step: float) -> NDArray[np.int64]:
    """Which sample each time is, counted from the first: int64 (times,)."""
    if len(times) == 0:
        return _NONE
    return np.asarray(np.round((times - times[0]) / step), np.int64)


def windows_per_batch(windows: Windows, most: int) -> int:
    """How many windows to gather at once: up to `most`, fewer where windows are long or wide.

    Gathering then takes the same memory whatever the length.
    """
    return max(1, min(most, _BATCH_BYTES // (4 * windows.length * windows.width)))


def batches(windows: Windows, most: int = 1024) -> Iterator[Inputs]:
    """All windows in order, a few at a time: float32 (up to `most`, length, width)."""
    size = windows_per_batch(windows, most)
    for first in range(0, len(windows), size):
        yield windows.take(np.arange(first, min(first + size, len(windows))))


@dataclass(frozen=True)
class Split:
    """Training and validation windows that share no sample."""

    training: Windows
    validation: Windows


def cut_to(split: Split, length: int) -> Split:
    """The split with no more than `length` samples in a window, the latest."""
    if split.training.length <= length:
        return split
    return Split(TailWindows(split.training, length), TailWindows(split.validation, length))


def split_at(windows: Windows, boundary: float, step: float) -> Split:
    """Split at a time: training ends at `boundary`, validation begins one window after it.

    Args:
        boundary: unix seconds of the last sample that training may see.
        step: seconds between samples; the gap is `length` samples long.
    """
    tolerance = step / 2
    first_samples = windows.times - step * (windows.length - 1)
    gap_ends = boundary + step * windows.length
    training = np.flatnonzero(windows.times <= boundary + tolerance)
    validation = np.flatnonzero(first_samples > gap_ends + tolerance)
    return Split(ChosenWindows(windows, training), ChosenWindows(windows, validation))

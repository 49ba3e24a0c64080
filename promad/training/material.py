"""Material: the windows that a model is trained on, split into training and validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from promad.data.artifacts import end_times_path, read_array
from promad.data.frame import MetricFrame
from promad.data.preparation import Preparation
from promad.data.windows import SampleWindows, Split, StoredWindows, Windows, split_at
from promad.errors import DataError

_PROBES = 100


@dataclass(frozen=True)
class Material:
    """What a model is trained on.

    Attributes:
        windows: all of them, in order of time.
        split: the same in a training and a validation part, a gap of one window apart.
        frames: scaled, both parts, NaN where missing.
        preparation: what made the frames.
        training_ends_at: unix seconds of the last sample of the training part.
    """

    windows: Windows
    split: Split
    frames: Sequence[MetricFrame]
    preparation: Preparation
    training_ends_at: float

    @property
    def step(self) -> float:
        """Seconds between samples."""
        return self.preparation.step


def split_material(
    windows: Windows,
    frames: Sequence[MetricFrame],
    preparation: Preparation,
    training_ends_at: float,
) -> Material:
    """The material that windows of the frames make.

    Raises:
        DataError: if they are too few to train and to validate on.
    """
    split = split_at(windows, training_ends_at, preparation.step)
    if len(split.training) == 0 or len(split.validation) == 0:
        raise DataError(
            f"{len(windows)} windows of {windows.length} samples leave {len(split.training)} for "
            f"training and {len(split.validation)} for validation, with a gap of one window "
            "between them — collect a longer period, or lower sequence_length or train_split_ratio"
        )
    return Material(windows, split, frames, preparation, training_ends_at)


def read_filtered(path: Path, everything: SampleWindows) -> StoredWindows:
    """The normal windows that `filter` has written, with their end times.

    Args:
        everything: all windows of the processed data.

    Raises:
        DataError: if the file is missing or damaged, or was made from other data.
    """
    windows = read_stored_windows(path)
    if not _are_among(windows, everything):
        raise DataError(
            f"{path}: was not made from the current processed data in windows of "
            f"{everything.length} samples — run promad filter again"
        )
    return windows


def read_stored_windows(path: Path) -> StoredWindows:
    """The windows that `filter` has written, with their end times.

    Raises:
        DataError: if the file is missing or damaged.
    """
    array, times = read_array(path, "filter"), read_end_times(path)
    if array.ndim != 3 or array.dtype != np.float32 or times.shape != array.shape[:1]:
        raise DataError(
            f"{path}: does not contain windows with an end time each — run promad filter again"
        )
    return StoredWindows(array.view(np.float32), times)


def read_end_times(path: Path) -> NDArray[np.float64]:
    """Unix seconds of the last sample of each window that `filter` has written: (windows,).

    Raises:
        DataError: if the file is missing or damaged.
    """
    times = read_array(end_times_path(path), "filter")
    return np.asarray(times.astype("datetime64[ms]").astype(np.float64) / 1000, np.float64)


def _are_among(stored: StoredWindows, everything: SampleWindows) -> bool:
    """Whether a hundred of the stored windows are found, unchanged, among all that there are."""
    if (stored.length, stored.width) != (everything.length, everything.width):
        return False
    probes = np.unique(np.linspace(0, len(stored) - 1, min(_PROBES, len(stored))).astype(np.int64))
    ends = np.round(everything.times * 1000)
    wanted = np.round(stored.times[probes] * 1000)
    places = np.searchsorted(ends, wanted)
    return bool(
        np.isin(wanted, ends).all()
        and np.array_equal(stored.take(probes), everything.take(places.astype(np.int64)))
    )

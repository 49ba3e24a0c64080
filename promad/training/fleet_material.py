"""The windows of a fleet: a bounded number of all groups' to fit a model, and each group's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from promad.data.frame import MetricFrame
from promad.data.windows import Inputs, SampleWindows, Split, StoredWindows, Windows, split_at
from promad.errors import DataError
from promad.training.processed_file import ProcessedFleet

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class FleetMaterial:
    """What a model of a fleet is trained on.

    Attributes:
        split: windows of all groups in order of time, a training and a validation part.
        windows: both parts.
        fleet: the processed data.
        length: samples per window.
    """

    split: Split
    windows: Windows
    fleet: ProcessedFleet
    length: int

    @property
    def step(self) -> float:
        """Seconds between samples."""
        return self.fleet.preparation.step

    def iterate_groups(self) -> Iterator[tuple[int, list[MetricFrame], SampleWindows]]:
        """Each group: its place in the fleet, its scaled frames and all its windows."""
        for group in range(len(self.fleet.groups)):
            frames = self.fleet.read(group)
            yield group, frames, self.fleet.preparation.windows(frames, self.length)

    def read_as_new(self, group: int) -> SampleWindows:
        """All windows of a group, scaled as if it had no scaler of its own."""
        fleet = self.fleet
        pooled = fleet.preparation.scaler
        factor = fleet.scale[group] / pooled.scale
        shift = (fleet.center[group] - pooled.center) / pooled.scale
        frames = [frame.with_values(frame.values * factor + shift) for frame in fleet.read(group)]
        return fleet.preparation.windows(frames, self.length)


def draw_material(fleet: ProcessedFleet, length: int, most: int, seed: int) -> FleetMaterial:
    """At most `most` windows, as many of each group, evenly over time.

    Raises:
        DataError: if they are too few to train and to validate on.
    """
    chance = np.random.default_rng(seed)
    each = max(2, most // len(fleet.groups))
    parts: tuple[list[Windows], list[Windows]] = ([], [])
    for group in range(len(fleet.groups)):
        windows = fleet.preparation.windows(fleet.read(group), length)
        split = split_at(windows, fleet.training_ends_at, fleet.preparation.step)
        total = len(split.training) + len(split.validation)
        for drawn, part in zip(parts, (split.training, split.validation), strict=True):
            count = min(len(part), -(-each * len(part) // max(total, 1)))
            drawn.append(_keep(part, _draw(len(part), count, chance)))
    training, validation = (_join(drawn, length) for drawn in parts)
    if len(training) == 0 or len(validation) == 0:
        raise DataError(
            f"the windows of {length} samples of {len(fleet.groups)} groups leave {len(training)} "
            f"for training and {len(validation)} for validation, with a gap of one window between "
            "them — collect a longer period, or lower sequence_length or train_split_ratio"
        )
    everything = _join([training, validation], length)
    return FleetMaterial(Split(training, validation), everything, fleet, length)


def _draw(total: int, count: int, chance: np.random.Generator) -> Rows:
    """So many of the numbers below `total`, one from each of `count` equal stretches."""
    if count >= total:
        return np.arange(total)
    edges = np.arange(count) * (total / count)
    return np.asarray(edges + chance.random(count) * (total / count), np.int64)


def _keep(windows: Windows, rows: Rows) -> StoredWindows:
    return StoredWindows(windows.take(rows), windows.times[rows])


def _join(parts: list[Windows], length: int) -> StoredWindows:
    """The windows of all parts in order of time."""
    times = np.concatenate([part.times for part in parts])
    order = np.argsort(times, kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    joined: Inputs = np.empty((len(order), length, parts[0].width), np.float32)
    done = 0
    for part in parts:
        joined[place[done : done + len(part)]] = part.take(np.arange(len(part)))
        done += len(part)
    return StoredWindows(joined, times[order])

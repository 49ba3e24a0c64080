"""The windows of a fleet: a bounded number of all groups' to fit a model, and each group's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from promad.data.frame import MetricFrame
from promad.data.preparation import Preparation
from promad.data.windows import (
    ChosenWindows,
    Inputs,
    SampleWindows,
    Split,
    StoredWindows,
    Windows,
    split_at,
)
from promad.errors import DataError
from promad.training.filtered_groups import read_groups_of
from promad.training.material import read_end_times, read_stored_windows
from promad.training.processed_file import ProcessedFleet

Rows = NDArray[np.int64]
Values = NDArray[np.float64]

_PROBED_GROUPS, _PROBES = 5, 20
_MOST_THREADS = 8
"""Groups that are in memory at the same time."""


@dataclass(frozen=True)
class FleetMaterial:
    """What a model of a fleet is trained on.

    Attributes:
        split: windows of all groups in order of time, a training and a validation part.
        windows: both parts.
        fleet: the processed data.
        length: samples per window.
        dropped: by place in the fleet, unix seconds of the last samples of windows that nothing is
            learned from.
    """

    split: Split
    windows: Windows
    fleet: ProcessedFleet
    length: int
    dropped: Mapping[int, Values] = field(default_factory=dict)

    @property
    def step(self) -> float:
        """Seconds between samples."""
        return self.fleet.preparation.step

    def read_windows(self, group: int) -> Windows:
        """All windows of a group, by its place in the fleet, that something is learned from."""
        frames, dropped = self.fleet.read(group), self.dropped.get(group)
        return cut_windows(self.fleet.preparation, frames, self.length, dropped)

    def read_as_new(self, group: int) -> SampleWindows:
        """All windows of a group, scaled as if it had no scaler of its own."""
        frames = self.fleet.read_as_new(group)
        return self.fleet.preparation.windows(frames, self.length)


def cut_windows(
    preparation: Preparation, frames: Sequence[MetricFrame], length: int, dropped: Values | None
) -> Windows:
    """All windows of a group's frames that something is learned from.

    Args:
        dropped: unix seconds of the last samples of the others.
    """
    windows: Windows = preparation.windows(frames, length)
    if dropped is None:
        return windows
    kept = ~np.isin(np.round(windows.times, 3), np.round(dropped, 3))
    return ChosenWindows(windows, np.flatnonzero(kept))


def map_groups[Result](work: Callable[[int], Result], groups: Sequence[int]) -> list[Result]:
    """What `work` makes of each group, in their order; some are worked on at the same time."""
    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1), "group") as pool:
        return list(pool.map(work, groups))


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
            drawn.append(_keep(part, draw_rows(len(part), count, chance)))
    training, validation = (_join(drawn, length) for drawn in parts)
    _require_both(training, validation, fleet, length)
    everything = _join([training, validation], length)
    return FleetMaterial(Split(training, validation), everything, fleet, length)


def read_filtered_fleet(
    fleet: ProcessedFleet, length: int, normal: Path, anomalous: Path
) -> FleetMaterial:
    """The windows that `filter` found normal; what it dropped of each group is left out of all.

    Raises:
        DataError: if a file is missing or damaged, was made from other data, or there are too few
            windows to train and to validate on.
    """
    stored, of = read_stored_windows(normal), read_groups_of(normal, fleet.groups)
    if len(of) != len(stored) or not _are_among(stored, of, fleet, length):
        raise DataError(
            f"{normal}: was not made from the current processed data in windows of {length} "
            "samples — run promad filter again"
        )
    windows = ChosenWindows(stored, np.argsort(stored.times, kind="stable"))
    split = split_at(windows, fleet.training_ends_at, fleet.preparation.step)
    _require_both(split.training, split.validation, fleet, length)
    times, groups = read_end_times(anomalous), read_groups_of(anomalous, fleet.groups)
    if len(times) != len(groups):
        raise DataError(f"{anomalous}: its groups are not of its windows — run promad filter again")
    dropped = {group: times[groups == group] for group in np.unique(groups).tolist()}
    return FleetMaterial(split, windows, fleet, length, dropped)


def _are_among(stored: StoredWindows, of: Rows, fleet: ProcessedFleet, length: int) -> bool:
    """Whether some of the stored windows are found, unchanged, in the data of their groups."""
    if stored.length != length:
        return False
    groups = np.unique(of)
    for group in groups[:: max(1, len(groups) // _PROBED_GROUPS)][:_PROBED_GROUPS].tolist():
        windows = fleet.preparation.windows(fleet.read(group), length)
        own = np.flatnonzero(of == group)
        probes = own[:: max(1, len(own) // _PROBES)]
        ends, wanted = np.round(windows.times * 1000), np.round(stored.times[probes] * 1000)
        places = np.searchsorted(ends, wanted).astype(np.int64)
        if windows.width != stored.width or not np.isin(wanted, ends).all():
            return False
        if not np.array_equal(stored.take(probes), windows.take(places)):
            return False
    return True


def _require_both(
    training: Windows, validation: Windows, fleet: ProcessedFleet, length: int
) -> None:
    if len(training) == 0 or len(validation) == 0:
        count = len(fleet.groups)
        raise DataError(
            f"the windows of {length} samples of {count} group{'s' * (count != 1)} leave "
            f"{len(training)} for training and {len(validation)} for validation, with a gap of one "
            "window between them — collect a longer period, or lower sequence_length or "
            "train_split_ratio"
        )


def draw_rows(total: int, count: int, chance: np.random.Generator) -> Rows:
    """So many of the numbers below `total`, one from each of `count` equal stretches."""
    if count >= total:
        return np.arange(total)
    edges = np.arange(count) * (total / count)
    return np.asarray(edges + chance.random(count) * (total / count), np.int64)


def _keep(windows: Windows, rows: Rows) -> StoredWindows:
    return StoredWindows(windows.take(rows), windows.times[rows])


def _join(parts: Sequence[Windows], length: int) -> StoredWindows:
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

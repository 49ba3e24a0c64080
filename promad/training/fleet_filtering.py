"""Filtering a fleet: the windows of all groups scored and sorted, one group at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from heapq import nlargest

import numpy as np
from numpy.typing import NDArray

from promad.data.groups import Labels
from promad.data.windows import ChosenWindows, Inputs, SampleWindows, batches
from promad.scoring.detector import Detector
from promad.training.filtering import (
    TrimmedStretch,
    WorstWindow,
    list_worst,
    report_trimmed,
    score_windows,
    trim_training_part,
)
from promad.training.fleet_material import draw_rows
from promad.training.processed_file import ProcessedFleet

Values = NDArray[np.float64]
Rows = NDArray[np.int64]

_MOST_LISTED = 10


@dataclass(frozen=True)
class SortedGroup:
    """The windows of one group.

    Attributes:
        group: its place in the fleet.
        scores: in units that suit the threshold, float64 (windows,).
        anomalous: which are above the threshold or dropped, bool (windows,).
        times: unix seconds of each window's last sample, float64 (windows,).
    """

    group: int
    scores: Values
    anomalous: NDArray[np.bool_]
    times: Values


@dataclass
class SortedFleet:
    """The windows of all groups, sorted; complete once every group was added.

    Attributes:
        groups: of every group.
        worst: by group its worst window and how many are anomalous.
        dropped, recurring: stretches that trimming dropped and kept, with their groups.
    """

    groups: list[SortedGroup] = field(default_factory=list)
    worst: list[tuple[Labels, WorstWindow, int]] = field(default_factory=list)
    dropped: list[tuple[Labels, TrimmedStretch]] = field(default_factory=list)
    recurring: list[tuple[Labels, TrimmedStretch]] = field(default_factory=list)

    def list_worst(self) -> tuple[tuple[Labels, WorstWindow, int], ...]:
        """The groups with the highest scores, and their worst windows, worst first."""
        return tuple(nlargest(_MOST_LISTED, self.worst, key=lambda each: each[1].ratio))


@dataclass(frozen=True)
class Trimming:
    """How the training part is trimmed.

    Attributes:
        share: of each group's windows there that may be dropped, 0 to 1; 0 drops none.
        before: by group, unix seconds of the last samples of what an earlier round has dropped.
    """

    share: float
    before: Mapping[Labels, Values]


def sort_windows(
    detector: Detector, fleet: ProcessedFleet, trimming: Trimming | None
) -> SortedFleet:
    """The windows of every group, by the threshold, or by what trimming drops.

    Raises:
        DataError: if the processed data is damaged.
    """
    found = SortedFleet()
    for group, labels in enumerate(fleet.groups):
        own, unit = detector.of_group(labels)
        is_pooled = bool(detector.find_pooled([labels])[0])
        frames = fleet.read_as_new(group) if is_pooled else fleet.read(group)
        windows = fleet.preparation.windows(frames, detector.length)
        scored = score_windows(own, windows, unit)
        anomalous = scored.anomalous
        if trimming is None:
            for worst in list_worst(scored):
                found.worst.append((labels, worst, int(anomalous.sum())))
                break
        else:
            anomalous = np.zeros(len(windows), np.bool_)
            if trimming.share:
                before = trimming.before.get(labels, np.empty(0))
                trimmed = trim_training_part(scored, fleet.training_ends_at, trimming.share, before)
                anomalous[trimmed.rows] = True
                report = report_trimmed(scored, trimmed)
                found.dropped += [(labels, stretch) for stretch in report.dropped]
                found.recurring += [(labels, stretch) for stretch in report.recurring]
        found.groups.append(SortedGroup(group, scored.scores, anomalous, windows.times))
    return found


@dataclass(frozen=True)
class Selection:
    """Some windows of all groups, group by group.

    Attributes:
        rows: by place in the fleet, which of the group's windows.
        times: unix seconds of each window's last sample, float64 (windows,).
        of: the place in the fleet of each window's group, int64 (windows,).
    """

    rows: Mapping[int, Rows]
    times: Values
    of: Rows

    def __len__(self) -> int:
        return len(self.times)

    def read(self, fleet: ProcessedFleet, length: int) -> Iterator[Inputs]:
        """The windows, a few at a time; one group is in memory at once."""
        for group, rows in self.rows.items():
            if len(rows):
                windows: SampleWindows = fleet.preparation.windows(fleet.read(group), length)
                yield from batches(ChosenWindows(windows, rows))


def select_anomalous(found: SortedFleet) -> Selection:
    """All anomalous windows."""
    return _select(found, {each.group: np.flatnonzero(each.anomalous) for each in found.groups})


def select_normal(found: SortedFleet, most: int, seed: int) -> Selection:
    """At most `most` normal windows, as many of each group, evenly over time."""
    chance = np.random.default_rng(seed)
    each_at_most = max(2, most // max(len(found.groups), 1))
    rows = {}
    for each in found.groups:
        normal = np.flatnonzero(~each.anomalous)
        rows[each.group] = normal[draw_rows(len(normal), each_at_most, chance)]
    return _select(found, rows)


def _select(found: SortedFleet, rows: Mapping[int, Rows]) -> Selection:
    times = [each.times[rows[each.group]] for each in found.groups]
    of = [np.full(len(rows[each.group]), each.group) for each in found.groups]
    return Selection(rows, np.concatenate(times), np.concatenate(of))

"""Processing a fleet: each group filled and scaled by its own training part, one at a time.

The time that training ends is common to all groups. Beside each group's own scaler one is fitted to
samples of all of them, for groups that come later.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promad.data.artifacts import GroupFile
from promad.data.frame import MetricFrame
from promad.data.groups import Labels, list_matchers
from promad.data.preparation import Preparation
from promad.data.scaling import fit_scaler
from promad.errors import DataError
from promad.training.exclusion import Excluded, Range, cut_excluded, find_excluded
from promad.training.muted_time import MutedTime
from promad.training.processing import (
    FeatureReport,
    Processed,
    ProcessingOptions,
    find_usable_times,
    process,
)

Values = NDArray[np.float64]

_POOLED_ROWS = 200_000
"""Samples of all groups together that the pooled scaler is fitted to."""


@dataclass
class FleetProcessed:
    """What became of a fleet; complete once every group was processed.

    Attributes:
        training_ends_at: unix seconds of the last sample of the training part, of every group.
        groups: those that were processed.
        preparations: of each of them, its own.
        left_out: of every other group why it was left out.
        excluded: the samples that `data_settings.exclude` and `mute` exclude.
        rows, rows_excluded, dropped, parts, training_rows: sums over the groups.
        features: by name, sums over the groups.
    """

    training_ends_at: float
    groups: list[Labels] = field(default_factory=list)
    preparations: list[Preparation] = field(default_factory=list)
    left_out: dict[Labels, str] = field(default_factory=dict)
    excluded: dict[Excluded, None] = field(default_factory=dict)
    rows: int = 0
    rows_excluded: int = 0
    dropped: int = 0
    parts: int = 0
    training_rows: int = 0
    features: dict[str, FeatureReport] = field(default_factory=dict)
    _pooled: list[Values] = field(default_factory=list)

    def fit_pooled(self, options: ProcessingOptions) -> tuple[Preparation, Any]:
        """The preparation of a group that is not among these, and its scikit-learn scaler."""
        rows = np.concatenate(self._pooled)
        scaler, estimator = fit_scaler(options.settings.scaler_type, rows, options.features)
        substitutes = np.median([each.substitutes for each in self.preparations], axis=0)
        limits = np.array([each.limits for each in self.preparations])
        pooled = replace(
            self.preparations[0],
            scaler=scaler,
            substitutes=substitutes,
            possible=np.array([limits[:, 0].min(axis=0), limits[:, 1].max(axis=0)]),
        )
        return pooled, estimator


def process_groups(
    source: GroupFile,
    options: ProcessingOptions,
    marks: dict[str, Sequence[Range]],
    report: FleetProcessed,
    muted: MutedTime,
) -> Iterator[list[MetricFrame]]:
    """The processed frames of one group after the other; `report` is completed on the way.

    Raises:
        DataError: if no group has enough data, or the file is damaged.
    """
    for number, labels in enumerate(source.groups):
        collected = source.read(number)
        excluded = find_excluded(options.exclude, marks, collected)
        excluded += muted.find(labels, collected)
        frames = cut_excluded(collected, excluded)
        report.rows += sum(frame.samples for frame in collected)
        remaining = sum(frame.samples for frame in frames)
        report.excluded.update(dict.fromkeys(excluded))
        report.rows_excluded += sum(frame.samples for frame in collected) - remaining
        try:
            processed = process(frames, options, report.training_ends_at)
        except DataError as error:
            report.left_out[labels] = str(error)
            continue
        _add(report, labels, processed, remaining, len(source.groups))
        yield list(processed.parts)
    if not report.groups:
        labels, why = next(iter(report.left_out.items()))
        raise DataError(f"no group has enough data; of {{{list_matchers(labels)}}}: {why}")


def _add(
    report: FleetProcessed, labels: Labels, processed: Processed, rows: int, groups: int
) -> None:
    report.groups.append(labels)
    report.preparations.append(processed.preparation)
    report.parts += len(processed.parts)
    report.dropped += rows - sum(part.samples for part in processed.parts)
    report.training_rows += processed.training_rows
    report._pooled.append(_draw_rows(processed, max(1, _POOLED_ROWS // groups)))
    for name, feature in processed.features.items():
        known = report.features.get(name)
        report.features[name] = feature if known is None else known.join(feature)


def _draw_rows(processed: Processed, most: int) -> Values:
    """At most so many samples of the training part, evenly over time, in natural units."""
    ends, scaler = processed.training_ends_at, processed.preparation.scaler
    parts = [part.values[0][part.times <= ends + part.step / 2] for part in processed.parts]
    rows = np.concatenate(parts)
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64))
    return np.asarray(rows[chosen] * scaler.scale + scaler.center, np.float64)


def find_end_of_fleet(source: GroupFile, options: ProcessingOptions) -> float:
    """The last time that training may see of any group: unix seconds.

    `train_split_ratio` of the complete samples of all groups are before.

    Raises:
        DataError: if there is no complete sample, or the file is damaged.
    """
    start, totals = 0, np.zeros(0, np.int64)
    for number in range(len(source.groups)):
        for frame in source.read(number):
            times = find_usable_times([frame], options)
            rows = np.round(times / source.step).astype(np.int64)
            if not len(rows):
                continue
            if not len(totals):
                start = int(rows[0])
            first, last = min(start, int(rows[0])), max(start + len(totals), int(rows[-1]) + 1)
            wider = np.zeros(last - first, np.int64)
            wider[start - first : start - first + len(totals)] = totals
            wider[rows - first] += 1
            start, totals = first, wider
    if not len(totals):
        raise DataError(
            "no group has a sample with a value for every query — check which queries overlap in "
            "time, or raise max_fill_steps"
        )
    before = np.cumsum(totals)
    wanted = max(1, int(before[-1] * options.train_split_ratio))
    return (start + int(np.searchsorted(before, wanted))) * source.step

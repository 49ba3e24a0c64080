"""Figures of a collected history: enough to judge its features, from a part of bounded size."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from promad.config.durations import parse_instant
from promad.data.artifacts import GroupFile
from promad.data.frame import MetricFrame
from promad.data.groups import Labels
from promad.errors import DataError
from promad.prometheus.grid import Span

Values = NDArray[np.float64]
Counts = NDArray[np.int64]

MOST_GROUPS = 50
"""Groups that are read, evenly from all."""
MOST_SAMPLES = 2000
"""Samples of a group that features are compared by: each second, third and so on."""


@dataclass(frozen=True)
class Gaps:
    """Stretches without any sample of a group that are too long to fill; all float64.

    Attributes:
        count: how many there are, (groups,).
        longest: seconds, (groups,).
        lost: of the windows that there could be, those that gaps cost, (groups,).
        possible: how many windows there could be, (groups,).
    """

    count: Values
    longest: Values
    lost: Values
    possible: Values


@dataclass(frozen=True)
class History:
    """Figures of a collected history, of some groups; see the module.

    Attributes:
        path: of the file.
        features: in its order.
        step: seconds between samples.
        seconds: from the first sample to the last.
        groups: those that were read, out of `all_groups`.
        low, high: of each feature in each group, float64 (groups, features), NaN without a value.
        known: how many values there are, int64 (groups, features).
        rows: in how many samples any feature has a value, int64 (groups,).
        begins: unix seconds of the first value, float64 (groups, features), NaN without a value.
        first_row: unix seconds of the first row, float64 (groups,).
        sample: some of the values, float64 (groups, samples, features), NaN where missing.
        gaps: of each group.
        max_fill_steps: how many samples in a row are filled.
    """

    path: Path
    features: tuple[str, ...]
    step: float
    seconds: float
    groups: tuple[Labels, ...]
    all_groups: int
    low: Values
    high: Values
    known: Counts
    rows: Counts
    begins: Values
    first_row: Values
    sample: Values
    gaps: Gaps
    max_fill_steps: int


@dataclass(frozen=True)
class WindowLimits:
    """Which gaps are filled, in samples, and the length of a window."""

    max_fill_steps: int
    length: int


def read_history(file: GroupFile, limits: WindowLimits) -> History:
    """The figures of a collected file.

    Raises:
        DataError: if the file is damaged, or has no value.
    """
    periods = read_periods(file.metadata)
    read = {
        file.groups[place]: _read_group(file.read(place), periods, limits)
        for place in choose_evenly(len(file.groups), MOST_GROUPS)
    }
    groups = {labels: own for labels, own in read.items() if own.times.size}
    if not groups:
        raise DataError(f"{file.path}: holds no values — run promad collect over a longer period")
    own = list(groups.values())
    first, last = (np.array([each.times[place] for each in own]) for place in (0, -1))
    return History(
        path=file.path,
        features=file.features,
        step=file.step,
        seconds=float(last.max() - first.min()),
        groups=tuple(groups),
        all_groups=len(file.groups),
        low=np.array([each.low for each in own]),
        high=np.array([each.high for each in own]),
        known=np.array([each.known for each in own]),
        rows=np.array([len(each.times) for each in own]),
        begins=np.array([each.begins for each in own]),
        first_row=first,
        sample=_stack([each.sample for each in own]),
        gaps=Gaps(*np.array([each.gaps for each in own]).T),
        max_fill_steps=limits.max_fill_steps,
    )


def read_periods(metadata: Mapping[str, str]) -> list[Span]:
    """The periods that were collected, by the metadata of the file; all times if it has none."""
    try:
        return [
            Span(parse_instant(each["start"]), parse_instant(each["end"]))
            for each in json.loads(metadata["periods"])
        ]
    except (LookupError, TypeError, ValueError):
        return [Span(-np.inf, np.inf)]


@dataclass(frozen=True)
class _OfGroup:
    """The figures of one group; `times` are those of the rows with a value."""

    times: Values
    low: Values
    high: Values
    known: Counts
    begins: Values
    sample: Values
    gaps: tuple[float, float, float, float]


def _read_group(
    frames: Sequence[MetricFrame], periods: Sequence[Span], limits: WindowLimits
) -> _OfGroup:
    values = np.concatenate([frame.values[0] for frame in frames])
    times = np.concatenate([frame.times for frame in frames])
    known = ~np.isnan(values)
    rows = known.any(axis=1)
    values, times, known = values[rows], times[rows], known[rows]
    counts = known.sum(axis=0)
    has = counts > 0
    low, high, begins = np.full((3, values.shape[1]), np.nan)
    if rows.any():
        low[has] = np.nanmin(values[:, has], axis=0)
        high[has] = np.nanmax(values[:, has], axis=0)
        begins[has] = times[known[:, has].argmax(axis=0)]
    sample = values[:: ceil(len(values) / MOST_SAMPLES) or 1]
    gaps = _measure_gaps(times, periods, frames[0].step, limits)
    return _OfGroup(times, low, high, counts, begins, sample, gaps)


def _measure_gaps(
    times: Values, periods: Sequence[Span], step: float, limits: WindowLimits
) -> tuple[float, float, float, float]:
    """Count, longest in seconds, windows lost and windows possible; see `Gaps`.

    Time between two periods is no gap.
    """
    count, longest, lost, possible = 0, 0.0, 0, 0
    for period in periods:
        own = times[(times >= period.start - step / 2) & (times <= period.end + step / 2)]
        if not own.size:
            continue
        missing = np.rint(np.diff(own) / step).astype(np.int64) - 1
        long = np.flatnonzero(missing > limits.max_fill_steps)
        samples = round((own[-1] - own[0]) / step) + 1
        ends = np.concatenate([[-1], long, [len(own) - 1]])
        runs = [
            round((own[last] - own[first + 1]) / step) + 1
            for first, last in pairwise(ends.tolist())
        ]
        whole = max(0, samples - limits.length + 1)
        count += len(long)
        longest = max(longest, float(missing[long].max(initial=0)) * step)
        possible += whole
        lost += whole - sum(max(0, run - limits.length + 1) for run in runs)
    return count, longest, lost, possible


def choose_evenly(count: int, most: int) -> list[int]:
    """Up to `most` places from the first to the last."""
    places = np.linspace(0, count - 1, min(count, most)).round().astype(int)
    return [int(place) for place in places]


def _stack(samples: Sequence[Values]) -> Values:
    """Samples of different length as one array, with NaN after the shorter ones."""
    longest = max(len(sample) for sample in samples)
    stacked = np.full((len(samples), longest, samples[0].shape[1]), np.nan)
    for row, sample in zip(stacked, samples, strict=True):
        row[: len(sample)] = sample
    return stacked

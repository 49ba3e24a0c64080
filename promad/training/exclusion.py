"""Exclusion: the samples that training must not see, and the data without them.

An entry of `data_settings.exclude` is a period, or an expression whose marks `collect` has stored
beside the values.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from promad.config.durations import format_instant
from promad.config.settings import Exclusion
from promad.data.frame import MetricFrame
from promad.data.gaps import find_runs
from promad.errors import DataError

Range = tuple[float, float]
"""Unix seconds of the first and the last sample."""

PERIOD = "period"
"""The reason of a range that is excluded for its time alone."""


@dataclass(frozen=True)
class Excluded:
    """Consecutive samples that are excluded, from the first to the last, in unix seconds.

    `why` is the expression that marks them, or "period".
    """

    start: float
    end: float
    samples: int
    why: str

    @property
    def line(self) -> str:
        """As the manifest has it: start/end and the reason."""
        return f"{format_instant(self.start)}/{format_instant(self.end)} {self.why}"


def list_expressions(exclusions: Iterable[Exclusion]) -> tuple[str, ...]:
    """The PromQL among the entries, each expression once."""
    found = (entry.expr for entry in exclusions)
    return tuple(dict.fromkeys(expr for expr in found if expr is not None))


def find_excluded(
    exclusions: Sequence[Exclusion],
    marks: Mapping[str, Sequence[Range]],
    frames: Sequence[MetricFrame],
) -> tuple[Excluded, ...]:
    """The samples of the frames that the entries exclude, entry by entry.

    Args:
        marks: by expression the ranges that it marks.

    Raises:
        DataError: if an expression has no marks.
    """
    found: list[Excluded] = []
    for entry in exclusions:
        ranges, why = _ranges(entry, marks), entry.expr or PERIOD
        found += [
            excluded
            for frame in frames
            for excluded in list_excluded(frame, flag_inside(frame, ranges), why)
        ]
    return tuple(found)


def _ranges(entry: Exclusion, marks: Mapping[str, Sequence[Range]]) -> Sequence[Range]:
    if entry.expr is None:
        return [] if entry.start is None or entry.end is None else [(entry.start, entry.end)]
    if entry.expr not in marks:
        raise DataError(
            f"collected without the expression {entry.expr} of data_settings.exclude "
            "— run promad collect again"
        )
    return marks[entry.expr]


def list_excluded(frame: MetricFrame, flags: NDArray[np.bool_], why: str) -> Iterator[Excluded]:
    """The flagged samples of a frame; flags are bool (samples,)."""
    for first, last in find_runs(flags):
        times = frame.times[[first, last - 1]]
        yield Excluded(float(times[0]), float(times[1]), last - first, why)


def flag_inside(frame: MetricFrame, ranges: Iterable[Range]) -> NDArray[np.bool_]:
    """Which samples of the frame are in any of the ranges: bool (samples,)."""
    tolerance, inside = frame.step * 1e-3, np.zeros(frame.samples, np.bool_)
    for start, end in ranges:
        inside |= (frame.times >= start - tolerance) & (frame.times <= end + tolerance)
    return inside


def cut_excluded(frames: Iterable[MetricFrame], excluded: Iterable[Excluded]) -> list[MetricFrame]:
    """The frames without the excluded samples, split wherever there were some."""
    ranges = [(each.start, each.end) for each in excluded]
    return [
        frame.slice(first, last)
        for frame in frames
        for first, last in find_runs(~flag_inside(frame, ranges))
    ]


def serialize_exclusions(exclusions: Iterable[Exclusion]) -> str:
    """The entries as JSON, to compare with those that a file was made with."""
    return json.dumps([entry.model_dump() for entry in exclusions])

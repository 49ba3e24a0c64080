"""`MetricFrame`: measured values on a regular time grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from promad.data.groups import THE_ONLY_GROUP, Labels


@dataclass(frozen=True)
class MetricFrame:
    """Values of every feature of every group at `start`, `start + step`, ...

    Attributes:
        start: unix time of the first sample, in seconds UTC.
        step: seconds from one sample to the next, above zero.
        features: the column names; their order never changes.
        groups: the label sets along the first axis.
        values: float64 (groups, samples, features); NaN means missing.

    Raises:
        ValueError: if the shape of `values` contradicts `groups` or `features`.
    """

    start: float
    step: float
    features: tuple[str, ...]
    groups: tuple[Labels, ...]
    values: NDArray[np.float64]

    def __post_init__(self) -> None:
        groups, _, features = self.values.shape
        if groups != len(self.groups) or features != len(self.features):
            raise ValueError(
                f"values of shape {self.values.shape} do not hold "
                f"{len(self.groups)} groups of {len(self.features)} features"
            )
        if self.step <= 0:
            raise ValueError(f"step {self.step} is not above zero")

    @property
    def samples(self) -> int:
        """How many samples each series has."""
        return int(self.values.shape[1])

    @property
    def times(self) -> NDArray[np.float64]:
        """Unix time of each sample: float64 (samples,), seconds UTC."""
        return self.start + self.step * np.arange(self.samples, dtype=np.float64)

    @property
    def end(self) -> float:
        """Unix time of the last sample; `start - step` if there is none."""
        return self.start + self.step * (self.samples - 1)

    def slice(self, first: int, last: int) -> MetricFrame:
        """Samples `first` to `last - 1` as a frame of their own; nothing is copied."""
        return MetricFrame(
            self.start + self.step * first,
            self.step,
            self.features,
            self.groups,
            self.values[:, first:last],
        )

    def split(self, samples: int) -> Iterator[MetricFrame]:
        """The frame in pieces of up to `samples` samples, one after the other."""
        for first in range(0, self.samples, samples):
            yield self.slice(first, min(first + samples, self.samples))

    def of_group(self, group: int) -> MetricFrame:
        """One group as a frame of its own; nothing is copied."""
        return MetricFrame(
            self.start,
            self.step,
            self.features,
            (self.groups[group],),
            self.values[group : group + 1],
        )

    def with_values(self, values: NDArray[np.float64]) -> MetricFrame:
        """The same grid holding other values."""
        return MetricFrame(self.start, self.step, self.features, self.groups, values)


def single_group(
    start: float, step: float, features: Sequence[str], values: NDArray[np.float64]
) -> MetricFrame:
    """A frame of the only group, from values (samples, features)."""
    return MetricFrame(start, step, tuple(features), (THE_ONLY_GROUP,), values[np.newaxis])


def align_down(time: float, step: float) -> float:
    """The last absolute multiple of `step` that is not after `time` (both in seconds).

    >>> align_down(100.0, 15.0)
    90.0
    """
    return float(np.floor(time / step + 1e-9) * step)


def align_up(time: float, step: float) -> float:
    """The first absolute multiple of `step` that is not before `time` (both in seconds).

    >>> align_up(100.0, 15.0)
    105.0
    """
    return float(np.ceil(time / step - 1e-9) * step)


def points_between(start: float, end: float, step: float) -> int:
    """How many samples a grid from `start` to `end` has, both ends included.

    >>> points_between(0.0, 60.0, 15.0)
    5
    """
    return int(round((end - start) / step)) + 1

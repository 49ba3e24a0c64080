"""A linear pair for each group, in one array: all groups are judged by batched products.

The numbers of a pair are one row, in 32 bits; arithmetic is in 64. A group without a row is judged
by the pooled pair.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from promad.data.windows import Windows
from promad.models.base import Inputs, Outcome, SingleScoringMode, TrainingHistory
from promad.models.linear import Linear, TrainedLinear, clip_tails, collect_known, judge_residuals
from promad.models.loading import refuse_unreadable

GROUPS_FILE = "linear_groups.npy"
Values = NDArray[np.float64]
Rows = NDArray[np.int64]
Stack = NDArray[np.float32]

_GROUPS_AT_ONCE = 32
_WINDOWS_AT_ONCE = 2048


@dataclass(frozen=True)
class GroupedLinear(SingleScoringMode):
    """Fitted pairs.

    Attributes:
        pooled: that of a group without own weights.
        stack: each group's mean, directions, coefficients and baselines one behind the other,
            float32 (groups, numbers); it may be a file mapped into memory.
    """

    pooled: Linear
    stack: Stack

    @property
    def length(self) -> int:
        """How many of a window's last samples it looks at."""
        return self.pooled.length

    def apply(self, windows: Inputs) -> Outcome:
        """What the pooled pair makes of windows."""
        return self.pooled.apply(windows)

    def apply_groups(self, windows: Inputs, groups: Rows) -> Outcome:
        """What each group's own pair makes of its windows.

        Args:
            groups: the row of each window's group, int64 (windows,); -1 for the pooled pair.
        """
        features = self.pooled.features
        found = Outcome(*np.full((3, len(windows), features), np.nan))
        pooled = np.flatnonzero(groups < 0)
        if len(pooled):
            _place(found, pooled, self.pooled.apply(windows[pooled]))
        for rows, places in _arrange(groups):
            own = clip_tails(windows[places.ravel()], self.length)
            _place(found, places.ravel(), self._judge(rows, own, places.shape))
        return found

    def of_group(self, row: int) -> Linear:
        """The pair of one group; the pooled one for -1."""
        if row < 0:
            return self.pooled
        mean, directions, coefficients, baselines = self._unpack(np.array([row]))
        pooled = self.pooled
        return Linear(
            pooled.features,
            pooled.length,
            mean[0],
            directions[0],
            coefficients[0],
            pooled.lags,
            baselines[0],
        )

    def _unpack(self, rows: Rows) -> tuple[Values, Values, Values, Values]:
        """The numbers of some groups, each with the groups first."""
        shapes = list_shapes(self.pooled)
        ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
        numbers = np.split(self.stack[rows].astype(np.float64), ends[:-1], axis=1)
        mean, directions, coefficients, baselines = (
            part.reshape(len(rows), *shape) for part, shape in zip(numbers, shapes, strict=True)
        )
        return mean, directions, coefficients, baselines

    def _judge(self, rows: Rows, own: Values, shape: tuple[int, ...]) -> Outcome:
        """As `Linear.apply`, of as many windows of each group: (groups * windows, features)."""
        mean, directions, coefficients, baselines = self._unpack(rows)
        flat = own.reshape(*shape, -1) - mean[:, np.newaxis]
        projected = (flat @ directions) @ directions.swapaxes(1, 2) + mean[:, np.newaxis]
        known = collect_known(own, self.pooled.features, self.pooled.lags)
        prediction = known.reshape(*shape, -1) @ coefficients
        return judge_residuals(
            own[:, :, : self.pooled.features],
            projected.reshape(own.shape)[:, :, : self.pooled.features],
            prediction.reshape(len(own), -1),
            np.repeat(baselines, shape[1], axis=0),
        )


def list_shapes(model: Linear) -> list[tuple[int, ...]]:
    """The shapes of the numbers in a row of a stack."""
    return [model.mean.shape, model.directions.shape, model.coefficients.shape, (2,)]


def pack(model: Linear) -> Stack:
    """The numbers of one pair as a row of a stack."""
    parts = (model.mean, model.directions, model.coefficients, model.baselines)
    return np.concatenate([part.ravel() for part in parts]).astype(np.float32)


def _arrange(groups: Rows) -> Iterator[tuple[Rows, Rows]]:
    """Groups with equally many windows, and the places of these: (groups,), (groups, windows)."""
    own = np.flatnonzero(groups >= 0)
    order = own[np.argsort(groups[own], kind="stable")]
    rows, first, counts = np.unique(groups[order], return_index=True, return_counts=True)
    for count in np.unique(counts).tolist():
        alike = np.flatnonzero(counts == count)
        size = max(1, min(_GROUPS_AT_ONCE, _WINDOWS_AT_ONCE // count))
        for begin in range(0, len(alike), size):
            part = alike[begin : begin + size]
            yield rows[part], order[first[part][:, np.newaxis] + np.arange(count)]


def _place(found: Outcome, places: Rows, part: Outcome) -> None:
    found.errors[places] = part.errors
    found.expected[places] = part.expected
    found.window_errors[places] = part.window_errors


@dataclass(frozen=True)
class TrainedGroups:
    """The pooled pair as it was fitted, and the pair of each group."""

    pooled: TrainedLinear
    stack: Stack

    @property
    def model(self) -> GroupedLinear:
        return GroupedLinear(self.pooled.model, self.stack)

    @property
    def history(self) -> TrainingHistory:
        return self.pooled.history

    @property
    def versions(self) -> dict[str, str]:
        return self.pooled.versions

    def save(self, directory: Path, native_file_name: str) -> None:
        """Write the pooled pair and the stack."""
        self.pooled.save(directory, native_file_name)
        with (directory / GROUPS_FILE).open("wb") as file:
            np.save(file, self.stack, allow_pickle=False)

    def refit(self, windows: Windows) -> TrainedGroups:
        return self


def stack_rows(rows: Sequence[Stack]) -> Stack:
    """Rows of `pack` as one stack."""
    return np.stack(rows)


def load_groups(directory: Path, pooled: Linear, groups: int) -> GroupedLinear:
    """The pairs in a bundle's directory; the file is mapped into memory rather than read.

    Raises:
        BundleError: if the file holds no pairs of so many groups.
    """
    path = directory / GROUPS_FILE
    with refuse_unreadable(path):
        stack = np.load(path, mmap_mode="r", allow_pickle=False)
        width = sum(int(np.prod(shape)) for shape in list_shapes(pooled))
        if stack.dtype != np.float32 or stack.shape != (groups, width):
            raise ValueError("its arrays do not match")
        for begin in range(0, groups, _GROUPS_AT_ONCE):
            part = stack[begin : begin + _GROUPS_AT_ONCE]
            if not np.isfinite(part).all() or not (part[:, -2:] > 0).all():
                raise ValueError(
                    "has numbers that are not finite, or baselines that are not above 0"
                )
    return GroupedLinear(pooled, stack)

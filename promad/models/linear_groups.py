"""Linear parts for each group, in one array: all groups are judged by batched products.

The numbers of a group are one row, in 32 bits; arithmetic is in 64. A group without a row is judged
by the pooled parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from promad.data.windows import Windows
from promad.models.base import Inputs, Outcome, SingleScoringMode, TrainingHistory
from promad.models.linear import TrainedLinear
from promad.models.linear_parts import Linear, add_parts, clip_tails, predict_own
from promad.models.loading import refuse_unreadable

GROUPS_FILE = "linear_groups.npy"
Values = NDArray[np.float64]
Rows = NDArray[np.int64]
Stack = NDArray[np.float32]

_GROUPS_AT_ONCE = 32
_WINDOWS_AT_ONCE = 2048


@dataclass(frozen=True)
class GroupedLinear(SingleScoringMode):
    """Fitted parts of many groups.

    Attributes:
        pooled: those of a group without own weights.
        stack: each group's numbers one behind the other, in the order of `list_shapes`,
            float32 (groups, numbers); it may be a file mapped into memory.
    """

    pooled: Linear
    stack: Stack

    @property
    def length(self) -> int:
        """How many of a window's last samples it looks at."""
        return self.pooled.length

    def apply(self, windows: Inputs) -> Outcome:
        """What the pooled parts make of windows."""
        return self.pooled.apply(windows)

    def apply_groups(self, windows: Inputs, groups: Rows) -> Outcome:
        """What each group's own parts make of its windows.

        Args:
            groups: the row of each window's group, int64 (windows,); -1 for the pooled parts.
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
        """The parts of one group; the pooled ones for -1."""
        if row < 0:
            return self.pooled
        mean, directions, coefficients, *own, baselines = self._unpack(np.array([row]))
        return replace(
            self.pooled,
            mean=mean[0],
            directions=directions[0],
            coefficients=coefficients[0],
            baselines=baselines[0],
            own=own[0][0] if own else None,
        )

    def _unpack(self, rows: Rows) -> list[Values]:
        """The numbers of some groups in the order of `list_shapes`, each with the groups first."""
        shapes = list_shapes(self.pooled)
        ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
        numbers = np.split(self.stack[rows].astype(np.float64), ends[:-1], axis=1)
        return [
            part.reshape(len(rows), *shape) for part, shape in zip(numbers, shapes, strict=True)
        ]

    def _judge(self, rows: Rows, own: Values, shape: tuple[int, ...]) -> Outcome:
        """As `Linear.apply`, of as many windows of each group: (groups * windows, features)."""
        pooled = self.pooled
        mean, directions, coefficients, *alone, baselines = self._unpack(rows)
        flat = own.reshape(*shape, -1) - mean[:, np.newaxis]
        projected = (flat @ directions) @ directions.swapaxes(1, 2) + mean[:, np.newaxis]
        drawn = projected.reshape(own.shape)[:, :, : pooled.features]
        windows = own.reshape(*shape, *own.shape[1:])
        before, conditions = (
            windows[:, :, -1 - pooled.lags : -1],
            windows[:, :, -1, pooled.features :],
        )
        constants, known = coefficients[:, :1], coefficients[:, 1:]
        together = np.concatenate([before.reshape(*shape, -1), conditions], axis=2) @ known
        expectations = [drawn[:, -1], together + constants]
        expectations += [predict_own(before, conditions, each[:, np.newaxis]) for each in alone]
        expected = np.stack([each.reshape(len(own), -1) for each in expectations])
        actual = own[:, :, : pooled.features]
        squares = np.square(actual[:, -1] - expected)
        errors = add_parts(squares, np.repeat(baselines, shape[1], axis=0).T)
        return Outcome(errors, expected.mean(axis=0), np.square(actual - drawn).mean(axis=1))


def list_shapes(model: Linear) -> list[tuple[int, ...]]:
    """The shapes of the numbers in a row of a stack."""
    return [part.shape for part in _list_parts(model)]


def _list_parts(model: Linear) -> list[Values]:
    own = [] if model.own is None else [model.own]
    return [model.mean, model.directions, model.coefficients, *own, model.baselines]


def pack(model: Linear) -> Stack:
    """The numbers of one group as a row of a stack."""
    return np.concatenate([part.ravel() for part in _list_parts(model)]).astype(np.float32)


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
    """The pooled parts as they were fitted, and those of each group."""

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
        """Write the pooled parts and the stack."""
        self.pooled.save(directory, native_file_name)
        with (directory / GROUPS_FILE).open("wb") as file:
            np.save(file, self.stack, allow_pickle=False)

    def refit(self, windows: Windows) -> TrainedGroups:
        return self


def stack_rows(rows: Sequence[Stack]) -> Stack:
    """Rows of `pack` as one stack."""
    return np.stack(rows)


def load_groups(directory: Path, pooled: Linear, groups: int) -> GroupedLinear:
    """The parts in a bundle's directory; the file is mapped into memory rather than read.

    Raises:
        BundleError: if the file holds no parts of so many groups.
    """
    path = directory / GROUPS_FILE
    with refuse_unreadable(path):
        stack = np.load(path, mmap_mode="r", allow_pickle=False)
        width = sum(int(np.prod(shape)) for shape in list_shapes(pooled))
        if stack.dtype != np.float32 or stack.shape != (groups, width):
            raise ValueError("its arrays do not match")
        for begin in range(0, groups, _GROUPS_AT_ONCE):
            part = stack[begin : begin + _GROUPS_AT_ONCE]
            if not np.isfinite(part).all() or not (part[:, -len(pooled.baselines) :] > 0).all():
                raise ValueError(
                    "has numbers that are not finite, or baselines that are not above 0"
                )
    return GroupedLinear(pooled, stack)

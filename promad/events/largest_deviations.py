"""`LargestDeviations`: the sample at which each feature deviated most, of many groups.

An event is explained by what was observed and expected at that sample, and not by its newest one,
which may show the recovery. While a group only nears one, older samples count less and less, so
that an event begins with what led up to it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from promad.data.rows import Move, move_rows
from promad.events.verdict import LARGEST_COLUMNS

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]
Rows = NDArray[np.int64]

_FADING = 0.9
"""What is left of a deviation after a sample near an event."""
_RETURN = 1.5
"""How much larger a deviation to the other side must be in an event: a value that returns to normal
deviates from what the model has come to expect meanwhile."""


class DeviatingSample(NamedTuple):
    """One sample of each group, (groups, features).

    Attributes:
        observed, expected: in the features' own units; NaN where unknown.
        elevation: the error of the sample alone over the baseline; 0 adds nothing to the score.
    """

    observed: Values
    expected: Values
    elevation: Values


class Followed(NamedTuple):
    """Which groups' deviations are followed, bool (groups,).

    Attributes:
        counted: those whose sample counts at all; what is kept of others stays as it is.
        near: those whose score is not far below the limit.
        kept: those with an event that is open or about to begin.
    """

    counted: Flags
    near: Flags
    kept: Flags


@dataclass
class LargestDeviations:
    """What is kept, (groups, features); `follow`, `forget` and `put` alone change it.

    Attributes:
        followed: whether anything is kept of a group, bool (groups, 1).
        distance: observed minus expected, which fades; 0 where nothing is kept.
        at, observed, expected, elevation: of the sample that is kept, see `LARGEST_COLUMNS`.
    """

    followed: Flags
    distance: Values
    at: Values
    observed: Values
    expected: Values
    elevation: Values

    @staticmethod
    def begin(groups: int, features: int) -> LargestDeviations:
        """The state before the first sample."""
        unknown = (np.full((groups, features), np.nan) for _ in LARGEST_COLUMNS)
        nothing = np.zeros((groups, features))
        return LargestDeviations(np.zeros((groups, 1), np.bool_), nothing, *unknown)

    def adopt(self, other: LargestDeviations, move: Move) -> None:
        """Continue the groups that are moved here from another state of the same features."""
        move_rows(move, *((vars(other)[name], kept) for name, kept in vars(self).items()))

    def follow(self, at: float, sample: DeviatingSample, groups: Followed) -> None:
        """Take over the deviations of a sample that are the largest.

        Work is done for groups in or near an event, never for all.

        Args:
            at: unix seconds of the sample.
        """
        followed = groups.near | groups.kept
        rows = np.flatnonzero(groups.counted & followed)
        self.forget(np.flatnonzero(groups.counted & ~followed & self.followed[:, 0]))
        if not rows.size:
            return
        self.followed[rows] = True
        kept = groups.kept[rows, np.newaxis]
        before = self.distance[rows] * np.where(kept, 1.0, _FADING)
        distance = sample.observed[rows] - sample.expected[rows]
        needed = np.abs(before)
        needed *= np.where(kept & (distance * before < 0), _RETURN, 1.0)
        larger = (np.abs(distance) > needed) & (sample.elevation[rows] > 0)
        self.distance[rows] = np.where(larger, distance, before)
        self.at[rows] = np.where(larger, at, self.at[rows])
        for own, new in (
            (self.observed, sample.observed),
            (self.expected, sample.expected),
            (self.elevation, sample.elevation),
        ):
            own[rows] = np.where(larger, new[rows], own[rows])

    def forget(self, groups: Rows) -> None:
        """Begin anew with these groups, int64 (rows,), whose events are over."""
        if groups.size:
            self.followed[groups], self.distance[groups] = False, 0.0
            for name in LARGEST_COLUMNS:
                getattr(self, name)[groups] = np.nan

    def view(self, deviates: Flags) -> Values | None:
        """As `LARGEST_COLUMNS`, of the features that deviate: (groups, features) to (..., 4).

        NaN for features that do not; None if no group is followed.
        """
        rows = np.flatnonzero(self.followed)
        if not rows.size:
            return None
        columns = np.full((*deviates.shape, len(LARGEST_COLUMNS)), np.nan)
        shown = deviates[rows] & (self.elevation[rows] > 1)
        for column, name in enumerate(LARGEST_COLUMNS):
            columns[rows, :, column] = np.where(shown, getattr(self, name)[rows], np.nan)
        return columns

    def view_group(self, group: int) -> Values:
        """As `LARGEST_COLUMNS`, of all features of a group that is in an event: (features, 4)."""
        columns = np.stack([getattr(self, name)[group] for name in LARGEST_COLUMNS], axis=-1)
        columns[~(self.elevation[group] > 1)] = np.nan
        return columns

    def to_json(self, group: int, features: Sequence[str]) -> dict[str, list[float]]:
        """Plain values of one group, by feature, from which `resume` continues."""
        rows = np.stack([kept[group] for kept in self._list_numbers()], axis=1).tolist()
        return {
            name: row for name, row in zip(features, rows, strict=True) if not math.isnan(row[1])
        }

    def read(self, features: Sequence[str], content: Mapping[str, Sequence[float]]) -> Values:
        """What `to_json` described, (numbers, features), for `put`.

        Raises:
            AttributeError, TypeError, ValueError: if `content` is no such description.
        """
        nothing = [0.0, *(math.nan for _ in LARGEST_COLUMNS)]
        rows = [content.get(name, nothing) for name in features]
        return np.array(rows, np.float64).reshape(len(rows), len(nothing)).T

    def put(self, group: int, numbers: Values) -> None:
        """Let a group continue with numbers that were read."""
        for kept, row in zip(self._list_numbers(), numbers, strict=True):
            kept[group] = row
        self.followed[group] = not np.isnan(self.at[group]).all()

    def _list_numbers(self) -> tuple[Values, ...]:
        return self.distance, self.at, self.observed, self.expected, self.elevation

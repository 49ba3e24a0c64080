"""`LargestDeviations`: the sample at which each feature deviated most, of many groups.

An event is explained by what was observed and expected at that sample, and not by its newest one,
which may show the recovery. While no event is open, older samples count less and less, so that an
event begins with what led up to it.
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

_FADING = 0.9
"""What is left of a deviation after a sample without an event."""
_RETURN = 1.5
"""How much larger a deviation to the other side must be in an event: a value that returns to normal
deviates from what the model has come to expect meanwhile."""


class DeviatingSample(NamedTuple):
    """One sample of each group, (groups, features) but for `counted`.

    Attributes:
        counted: whether it counts at all, bool (groups,).
        observed, expected: in the features' own units; NaN where unknown.
        elevation: the error of the sample alone over the baseline; 0 adds nothing to the score.
    """

    counted: Flags
    observed: Values
    expected: Values
    elevation: Values


@dataclass
class LargestDeviations:
    """What is kept, (groups, features); `follow`, `forget` and `put` alone change it.

    Attributes:
        distance: observed minus expected, which fades; 0 where nothing is kept.
        at, observed, expected, elevation: of the sample that is kept, see `LARGEST_COLUMNS`.
    """

    distance: Values
    at: Values
    observed: Values
    expected: Values
    elevation: Values

    @staticmethod
    def begin(groups: int, features: int) -> LargestDeviations:
        """The state before the first sample."""
        unknown = (np.full((groups, features), np.nan) for _ in LARGEST_COLUMNS)
        return LargestDeviations(np.zeros((groups, features)), *unknown)

    def adopt(self, other: LargestDeviations, move: Move) -> None:
        """Continue the groups that are moved here from another state of the same features."""
        move_rows(move, *((vars(other)[name], kept) for name, kept in vars(self).items()))

    def follow(self, at: float, sample: DeviatingSample, kept: Flags) -> None:
        """Take over the deviations of a sample that are the largest.

        Args:
            at: unix seconds of the sample.
            kept: the groups with an event that is open or about to begin, bool (groups,).
        """
        self.distance *= np.where(kept | ~sample.counted, 1.0, _FADING)[:, np.newaxis]
        distance = sample.observed - sample.expected
        needed = np.abs(self.distance)
        returning = kept[:, np.newaxis] & (distance * self.distance < 0)
        needed[returning] *= _RETURN
        larger = (np.abs(distance) > needed) & (sample.elevation > 0)
        larger &= sample.counted[:, np.newaxis]
        np.copyto(self.distance, distance, where=larger)
        np.copyto(self.at, at, where=larger)
        for own, new in (
            (self.observed, sample.observed),
            (self.expected, sample.expected),
            (self.elevation, sample.elevation),
        ):
            np.copyto(own, new, where=larger)

    def forget(self, groups: list[int]) -> None:
        """Begin anew with these groups, whose events are over."""
        self.distance[groups] = 0.0

    def view(self, deviates: Flags) -> Values:
        """As `LARGEST_COLUMNS`, of the features that deviate: (groups, features) to (..., 4)."""
        columns = np.full((len(LARGEST_COLUMNS), *deviates.shape), np.nan)
        shown = deviates & (self.elevation > 1)
        for column, name in enumerate(LARGEST_COLUMNS):
            np.copyto(columns[column], getattr(self, name), where=shown)
        return np.moveaxis(columns, 0, -1)

    def view_group(self, group: int) -> Values:
        """As `LARGEST_COLUMNS`, of all features of a group that is in an event: (features, 4)."""
        columns = np.stack([getattr(self, name)[group] for name in LARGEST_COLUMNS], axis=-1)
        columns[~(self.elevation[group] > 1)] = np.nan
        return columns

    def to_json(self, group: int, features: Sequence[str]) -> dict[str, list[float]]:
        """Plain values of one group, by feature, from which `resume` continues."""
        rows = np.stack([kept[group] for kept in vars(self).values()], axis=1).tolist()
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
        for kept, row in zip(vars(self).values(), numbers, strict=True):
            kept[group] = row

"""Peers: the trained groups that a new one resembles, so that it is calibrated by what they know.

A group that came after training has no calibration. That of the whole fleet fits none of its groups
where these are of several kinds: errors of a host that is unlike the mean of all are large, so what
goes beyond has to be larger still. The first window of a group tells which trained groups are at
the same level, and the medians of their calibrations stand in for its own. As the level of an hour
says little about that of a day, the choice is made again each hour for a day, and the unit of its
scores is larger until then; training measures how much larger. In a fleet whose groups are too
different from each other, a new group has no peers.
"""

from __future__ import annotations

from dataclasses import dataclass
from warnings import catch_warnings, simplefilter

import numpy as np
from numpy.typing import NDArray

from promad.data.rows import Move, move_rows

Values = NDArray[np.float64]
Rows = NDArray[np.int64]
Flags = NDArray[np.bool_]

PEERS = 5
"""Groups that a new one is calibrated by, at most."""
NO_PEER = -1
"""In the place of a peer of a group that has none."""
HOURS = 24
"""How often the peers of a group are chosen, once an hour."""
HOUR_SECONDS = 3600.0

_MOST_CAUTION = 4.0
_SHARE = 0.25
"""Of all trained groups, how many may be peers of one."""
_FARTHEST = 5.0
"""Units of scale at which a feature counts, at most: one odd feature cannot decide."""
_USUAL = 0.95
_SWING = 1.0
"""Units of scale that a window may be from the group's own level, as by the time of day."""
_COMPARED = 200
"""Groups that are compared with all others to learn how far apart groups are."""
_CANDIDATES = 1000
"""Of the trained groups, how many can be peers, evenly chosen."""
_AT_ONCE = 16


@dataclass(frozen=True)
class Caution:
    """What the units of groups are multiplied by that are calibrated by their peers.

    Attributes:
        first: once their first window is known.
        later: after a day.
    """

    first: float
    later: float

    def at(self, times: Rows) -> Values:
        """What it is once the peers of each group were chosen so often, int64 (groups,).

        >>> Caution(2.0, 1.5).at(np.array([1, 24])).tolist()
        [2.0, 1.5]
        """
        left = np.clip((HOURS - times) / (HOURS - 1), 0.0, 1.0)
        return np.asarray(self.later + (self.first - self.later) * left, np.float64)

    @property
    def is_small(self) -> bool:
        """Whether peers are of use: the groups of some fleets are too different from each other."""
        return self.later <= _MOST_CAUTION


NO_CAUTION = Caution(1.0, 1.0)


@dataclass
class Peers:
    """The trained groups that each group is calibrated by; rows of -1 if it has none.

    Attributes:
        rows: of the calibration table, int64 (groups, peers).
        levels: by which they were chosen, float64 (groups, features); NaN where unknown.
        met: how often they were chosen, int64 (groups,); `HOURS` of a group that was trained on.
    """

    rows: Rows
    levels: Values
    met: Rows

    @staticmethod
    def begin(new: Flags, trained: int, features: int) -> Peers:
        """Those of no group yet.

        Args:
            new: which groups came after training, bool (groups,).
            trained: how many groups were trained on.
        """
        count = len(new)
        return Peers(
            np.full((count, count_peers(trained)), NO_PEER),
            np.full((count, features), np.nan),
            np.where(new, 0, HOURS),
        )

    def adopt(self, other: Peers, move: Move) -> None:
        """Continue rows of another."""
        move_rows(move, (other.rows, self.rows), (other.levels, self.levels), (other.met, self.met))

    def find_due(self, at: float, step: float) -> Rows:
        """The groups whose peers are to be chosen at a sample, by its unix time."""
        hourly = bool(is_hourly(np.array([at]), step)[0])
        return np.flatnonzero(self.met < (HOURS if hourly else 1))

    def follow(self, rows: Rows, values: Values) -> None:
        """Learn the levels of some groups from a window of each, (rows, samples, features)."""
        newest, levels = find_levels(values), self.levels[rows]
        moved = levels + (newest - levels) / (self.met[rows] + 1)[:, np.newaxis]
        unknown = np.isnan(levels)
        self.levels[rows] = np.where(unknown, newest, np.where(np.isnan(newest), levels, moved))
        self.met[rows] += 1


def count_peers(groups: int) -> int:
    """How many of the trained groups calibrate a new one.

    >>> [count_peers(groups) for groups in (1, 3, 12, 1000)]
    [1, 1, 3, 5]
    """
    return min(PEERS, max(1, round(_SHARE * groups)))


def find_whole(values: Values, length: int) -> Flags:
    """Which groups were there when a window of that length began: bool (groups,).

    Args:
        values: their newest samples, (groups, samples, features).
    """
    earlier = values[:, : max(values.shape[1] - length + 1, 0)]
    return np.asarray((~np.isnan(earlier)).any(axis=(1, 2)), np.bool_)


def find_levels(values: Values) -> Values:
    """The features' medians over time, NaN where unknown: (groups, samples, features) to levels."""
    with catch_warnings():
        simplefilter("ignore", RuntimeWarning)  # a feature without any value has no median
        return np.asarray(np.nanmedian(values, axis=1), np.float64)


def is_hourly(times: Values, step: float) -> Flags:
    """Which samples, at times in unix seconds, are the first of their hour."""
    return np.asarray(times % HOUR_SECONDS < step - 1e-6, np.bool_)


def find_peers(levels: Values, center: Values, scale: Values, farthest: float) -> Rows:
    """The trained groups that are nearest to each of these: int64 (groups, peers).

    Args:
        levels: the features' typical values, (groups, features), NaN where unknown.
        center, scale: of the trained groups, (trained, features).
        farthest: the distance, as `measure_distances` has it, beyond which a group is no peer; the
            nearest takes its place. Without any, a row of `NO_PEER`.
    """
    candidates = _spread_rows(len(center), _CANDIDATES)
    found = np.full((len(levels), count_peers(len(center))), NO_PEER, np.int64)
    distances = measure_distances(levels, center[candidates], scale[candidates])
    nearest = np.argsort(distances, axis=1, kind="stable")[:, : found.shape[1]]
    alike = np.take_along_axis(distances, nearest, axis=1) <= farthest
    nearest = np.where(alike, nearest, nearest[:, :1])
    found[alike[:, 0]] = candidates[nearest[alike[:, 0]]]
    return found


def measure_distances(levels: Values, center: Values, scale: Values) -> Values:
    """Mean distance over the known features, in the trained groups' scales: (groups, trained).

    Infinite where no feature is known.
    """
    distances = np.full((len(levels), len(center)), np.inf)
    for first in range(0, len(levels), _AT_ONCE):
        some = levels[first : first + _AT_ONCE, np.newaxis]
        known = ~np.isnan(some)
        apart = np.where(known, np.minimum(np.abs(some - center) / scale, _FARTHEST), 0.0)
        count = known.sum(axis=2)
        np.divide(
            apart.sum(axis=2), count, out=distances[first : first + _AT_ONCE], where=count > 0
        )
    return distances


def find_farthest(center: Values, scale: Values) -> float:
    """How far a group may be from the nearest trained one to resemble it.

    By how far trained groups are from each other, and how far a window is from its group's level.
    """
    candidates = _spread_rows(len(center), _CANDIDATES)
    rows = _spread_rows(len(center), _COMPARED)
    distances = measure_distances(center[rows], center[candidates], scale[candidates])
    distances[rows[:, np.newaxis] == candidates] = np.inf
    nearest = distances.min(axis=1)
    known = nearest[np.isfinite(nearest)]
    usual = float(np.quantile(known, _USUAL)) if len(known) else 0.0
    return min(usual + _SWING, _FARTHEST - _SWING)


def _spread_rows(count: int, most: int) -> Rows:
    """All rows, or so many of them at even distances."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))

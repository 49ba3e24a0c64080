"""Rows of groups, moved from one array over groups to another."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Move(NamedTuple):
    """Which rows of one array become which of another; both int64 (moved,)."""

    source: NDArray[np.int64]
    target: NDArray[np.int64]


def plan_move(old: list[Any] | tuple[Any, ...], new: list[Any] | tuple[Any, ...]) -> Move:
    """The move of every key that is in both, by their places.

    >>> plan_move(["a", "b", "c"], ["c", "d", "a"])
    Move(source=array([2, 0]), target=array([0, 2]))
    """
    place = {key: row for row, key in enumerate(old)}
    pairs = [(place[key], row) for row, key in enumerate(new) if key in place]
    source, target = np.array(pairs, np.int64).reshape(-1, 2).T
    return Move(source, target)


Rows = NDArray[Any] | list[Any]


def move_rows(move: Move, *pairs: tuple[Rows, Rows]) -> None:
    """Copy the rows of each (source, target) pair of arrays or lists over groups."""
    for source, target in pairs:
        if isinstance(source, list) or isinstance(target, list):
            for old, new in zip(move.source.tolist(), move.target.tolist(), strict=True):
                target[new] = source[old]
        else:
            target[move.target] = source[move.source]

"""`ThresholdState`: a threshold at work on many groups, and what it remembers of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from promad.data.rows import Move

Scores = NDArray[np.float64]
Flags = NDArray[np.bool_]

LOWEST_LIMIT = float(np.finfo(np.float32).tiny)
"""A limit is above zero, because scores are published as multiples of it."""


class ThresholdState(Protocol):
    """What a threshold remembers of each group; `follow` and `resume` alone change it.

    A group's limits depend on its own scores alone.
    """

    @property
    def adaptations(self) -> NDArray[np.int64]:
        """How often each group's limit was raised to keep the alert budget: (groups,)."""
        ...

    def explain(self, group: int) -> str:
        """One sentence on why the limit of a group was raised last, or was not; empty if never."""
        ...

    def limits(self) -> Scores:
        """The limits as they are: float64 (groups,)."""
        ...

    def follow(
        self, scores: Scores, recent: Scores | None = None, held: Flags | None = None
    ) -> Scores:
        """The limits that these scores, one of each group, are held to: (groups,) to (groups,).

        A score that is NaN changes nothing, and gets the limit as it is.

        Args:
            recent: the recent scores, by which events end; None where there are none.
            held: groups whose scores must not change what is normal, as they have an open event:
                bool (groups,); none by default.
        """
        ...

    def follow_series(self, scores: Scores) -> Scores:
        """The limits of scores that follow each other: (samples, groups) to the same shape."""
        ...

    def adopt(self, other: Any, move: Move) -> None:
        """Continue the groups that are moved here from another state of the same threshold."""
        ...

    def to_json(self, group: int) -> dict[str, Any]:
        """Plain values of one group, from which `resume` continues with the same limits."""
        ...

    def resume(self, group: int, content: Mapping[str, Any]) -> None:
        """Continue a group from what `to_json` described, of the same threshold as this one.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: if `content` is no such description;
                nothing has changed then.
        """
        ...


class NeverAdapted:
    """What the states of thresholds share that keep no alert budget by themselves."""

    def __init__(self, groups: int) -> None:
        self._groups = groups

    @property
    def adaptations(self) -> NDArray[np.int64]:
        return np.zeros(self._groups, np.int64)

    def explain(self, group: int) -> str:
        return ""


class Constant(NeverAdapted):
    """Limits that never move, float64 (groups,)."""

    def __init__(self, values: Scores) -> None:
        super().__init__(len(values))
        self._values = values

    def limits(self) -> Scores:
        return self._values.copy()

    def follow(
        self, scores: Scores, recent: Scores | None = None, held: Flags | None = None
    ) -> Scores:
        return self._values.copy()

    def follow_series(self, scores: Scores) -> Scores:
        return np.tile(self._values, (len(scores), 1))

    def adopt(self, other: Constant, move: Move) -> None:
        """Nothing: the limits of this threshold are what they are."""

    def to_json(self, group: int) -> dict[str, Any]:
        return {"value": float(self._values[group])}

    def resume(self, group: int, content: Mapping[str, Any]) -> None:
        """Check that what is described is the same limit.

        Raises:
            KeyError, ValueError: if it is not.
        """
        if content["value"] != self._values[group]:
            raise ValueError(
                f"it is about {content['value']}, the threshold is {self._values[group]:g}"
            )


def follow_each(state: ThresholdState, scores: Scores) -> Scores:
    """The limits of (samples, groups) scores, by following them one after the other."""
    limits = np.empty_like(scores)
    for row, at_once in enumerate(scores):
        limits[row] = state.follow(at_once)
    return limits


def read_numbers(values: Any, what: str) -> list[float]:
    """A stored list of finite numbers.

    Raises:
        ValueError: if it is anything else.
    """
    if not isinstance(values, list) or not np.isfinite(np.asarray(values, np.float64)).all():
        raise ValueError(f"{what} are not finite numbers")
    return [float(value) for value in values]

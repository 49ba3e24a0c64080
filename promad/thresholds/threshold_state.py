"""A threshold at work: what it is held to now, given the scores so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]

LOWEST_LIMIT = float(np.finfo(np.float32).tiny)
"""A limit is above zero, because scores are published as multiples of it."""


class Standing(Protocol):
    """Where a threshold stands after some scores; following one returns the next standing."""

    def follow(self, score: float) -> tuple[float, Self]:
        """The limit that this score is held to, and the standing after it.

        A score that is NaN changes nothing, and gets the limit as it stands.
        """
        ...

    def limits(self, scores: Scores) -> Scores:
        """The limits that scores are held to from here on: (samples,) to (samples,)."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Plain values, from which `Threshold.resume` goes on with bit-equal limits."""
        ...

    def resumed(self, content: Mapping[str, Any]) -> Self:
        """The standing that `to_json` described, of the same threshold as this one.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: if `content` is no such description.
        """
        ...


@dataclass(frozen=True)
class Constant:
    """The standing of a threshold that never moves."""

    value: float

    def follow(self, score: float) -> tuple[float, Constant]:
        return self.value, self

    def limits(self, scores: Scores) -> Scores:
        return np.full(scores.shape, self.value)

    def to_json(self) -> dict[str, Any]:
        return {"value": self.value}

    def resumed(self, content: Mapping[str, Any]) -> Constant:
        """The same standing, if it is the one described.

        Raises:
            KeyError, ValueError: if it is not.
        """
        if content["value"] != self.value:
            raise ValueError(f"it is about {content['value']}, the threshold is {self.value:g}")
        return self


def followed[S: Standing](standing: S, scores: Scores) -> tuple[Scores, S]:
    """The limits of scores that follow one another, and the standing after the last."""
    limits = np.empty(len(scores))
    for row, score in enumerate(scores.tolist()):
        limits[row], standing = standing.follow(score)
    return limits, standing


def numbers(values: Any, what: str) -> tuple[float, ...]:
    """A stored list of finite numbers.

    Raises:
        ValueError: if it is anything else.
    """
    if not isinstance(values, list) or not np.isfinite(np.asarray(values, np.float64)).all():
        raise ValueError(f"{what} are not finite numbers")
    return tuple(float(value) for value in values)

"""Deviations that count: those in the direction and of the size that a query names.

Training, replay and the daemon use the same rules on the same numbers: what was observed, and what
the model expected as far as that is possible.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promad.config.deviation_rule import DeviationRule

Values = NDArray[np.float64]


@dataclass(frozen=True)
class LeastDeviations:
    """The least deviation of each feature that counts, below and above: both (2, features).

    Attributes:
        absolute: in the unit of the feature; infinite in a direction that never counts.
        relative: as a share of the expected value.
    """

    absolute: Values
    relative: Values

    def find_ignored(self, observed: Values, expected: Values) -> NDArray[np.bool_]:
        """Which deviations do not count: (..., features) to the same shape.

        A deviation counts if it is at least as large as both minima. An unknown one is not ignored.
        """
        deviation = observed - expected
        is_above = deviation > 0
        size = np.abs(deviation)
        ignored = size < np.where(is_above, self.absolute[1], self.absolute[0])
        share = np.where(is_above, self.relative[1], self.relative[0])
        ignored |= size < share * np.abs(expected)
        return np.asarray(ignored, np.bool_)


def find_least(rules: Sequence[DeviationRule]) -> LeastDeviations | None:
    """The least deviations that count; None if all do."""
    absolute = np.array([rule.min_deviation for rule in rules], np.float64).reshape(-1, 2).T
    relative = np.array([rule.min_relative_deviation for rule in rules], np.float64)
    relative = relative.reshape(-1, 2).T
    for row, other in enumerate(("above", "below")):
        absolute[row, [rule.direction == other for rule in rules]] = np.inf
    if not (absolute.any() or relative.any()):
        return None
    return LeastDeviations(absolute, relative)


def find_weights(rules: Sequence[DeviationRule]) -> Values | None:
    """The weight of each feature, 1 on average; None if all are the same."""
    weights = np.array([rule.weight for rule in rules], np.float64)
    return weights / weights.mean() if len(set(weights.tolist())) > 1 else None


def read_rules(content: Iterable[Any], scored: int) -> tuple[DeviationRule, ...]:
    """The rules that JSON has as a list of objects, one for each scored feature or none at all.

    Raises:
        KeyError, TypeError, ValueError: if it has something else.
    """
    rules = tuple(
        DeviationRule(
            str(each["direction"]),
            _read_least(each["min_deviation"]),
            _read_least(each["min_relative_deviation"]),
            str(each["outside"]),
            float(each["weight"]),
        )
        for each in content
    )
    if len(rules) not in {0, scored}:
        raise ValueError("rules are not those of the scored features")
    for rule in rules:
        if (
            rule.direction not in {"above", "below", "both"}
            or rule.outside not in {"missing", "anomalous"}
            or not all(0 <= each < np.inf for each in rule.min_deviation)
            or not all(0 <= each < np.inf for each in rule.min_relative_deviation)
            or not 0 < rule.weight < np.inf
        ):
            raise ValueError("a rule of a feature is out of range")
    return rules


def _read_least(content: Any) -> tuple[float, float]:
    below, above = content
    return float(below), float(above)

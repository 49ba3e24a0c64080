"""What every threshold is fitted from and comes to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ThresholdSettings:
    """What a threshold may need to know beside the scores.

    Attributes:
        value: the limit itself, where a person gave it.
        false_alarms_per_week: how many events per week of normal data are acceptable.
        step: seconds between scores.
        enter_after, leave_after: the hysteresis that turns scores into events.
    """

    step: float
    false_alarms_per_week: float = 1.0
    enter_after: int = 1
    leave_after: int = 1
    value: float | None = None


@dataclass(frozen=True)
class Threshold:
    """A fitted limit, in the score's unit.

    Attributes:
        method: the name under which THRESHOLDS knows it.
        value: the limit, above zero; a score above it is anomalous.
        expected_false_alarms_per_week: how often normal data should cross it; None if unknown.
        why: one sentence on where the number comes from.
    """

    method: str
    value: float
    expected_false_alarms_per_week: float | None
    why: str

    def limit(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """The limit that each score is held to: (samples,) to (samples,)."""
        return np.full(scores.shape, self.value)

    def to_json(self) -> dict[str, Any]:
        """Plain values, from which `from_json` makes the same threshold."""
        return {
            "method": self.method,
            "value": self.value,
            "expected_false_alarms_per_week": self.expected_false_alarms_per_week,
            "why": self.why,
        }

    @staticmethod
    def from_json(content: dict[str, Any]) -> Threshold:
        """The threshold that `to_json` described.

        Raises:
            KeyError, ValueError: if `content` is not such a description.
        """
        value, rate = float(content["value"]), content["expected_false_alarms_per_week"]
        if not np.isfinite(value) or value <= 0:
            raise ValueError(f"threshold {value} is not above zero")
        return Threshold(str(content["method"]), value, rate, str(content["why"]))

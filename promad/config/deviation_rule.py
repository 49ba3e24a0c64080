"""`DeviationRule`: which deviations of a feature count, as its query says."""

from __future__ import annotations

from typing import NamedTuple

Least = tuple[float, float]
"""The least deviation that counts: below and above the expected value."""


class DeviationRule(NamedTuple):
    """Which deviations of one feature count, and how much.

    Attributes:
        direction: `above` or `below` the expected value, or `both`.
        min_deviation: in the unit of the query.
        min_relative_deviation: as a share of the expected value.
        outside: what a value outside of the valid range is: `missing` or `anomalous`.
        weight: of the feature in the mean over all features.
    """

    direction: str = "both"
    min_deviation: Least = (0.0, 0.0)
    min_relative_deviation: Least = (0.0, 0.0)
    outside: str = "missing"
    weight: float = 1.0

    def __str__(self) -> str:
        """What is not the default, in words; empty if all is.

        >>> print(DeviationRule("above", (0.1, 0.1), weight=2.0))
        only above the expected value; by at least 0.1; weight 2
        >>> print(DeviationRule(min_deviation=(5.0, 10.0), outside="anomalous"))
        by at least 5 below or 10 above; anomalous outside of valid_range
        """
        parts = []
        if self.direction != "both":
            parts.append(f"only {self.direction} the expected value")
        if any(self.min_deviation):
            parts.append(f"by at least {self._describe(self.min_deviation, '{:g}')}")
        if any(self.min_relative_deviation):
            share = self._describe(self.min_relative_deviation, "{:.4g}%", 100.0)
            parts.append(f"by at least {share} of the expected value")
        if self.outside == "anomalous":
            parts.append("anomalous outside of valid_range")
        if self.weight != 1.0:
            parts.append(f"weight {self.weight:g}")
        return "; ".join(parts)

    def _describe(self, least: Least, form: str, factor: float = 1.0) -> str:
        below, above = (form.format(factor * each) for each in least)
        if self.direction != "both" or below == above:
            return below if self.direction == "below" else above
        return f"{below} below or {above} above"


EVERYTHING_COUNTS = DeviationRule()

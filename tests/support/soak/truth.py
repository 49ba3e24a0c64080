"""What is really measured: curves of a few features, their anomalies and the gaps in them."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

STEP = 10.0
STALE_AFTER = 30.0
LOOKBACK_SECONDS = 300.0
START = 1_750_000_000.0

QUERIES = {
    "load": "load",
    "latency": "rate(latency[1m])",
    "requests": "rate(requests[1m])",
}
SELECTED = frozenset({"load"})
"""Whose last sample a server repeats for `LOOKBACK_SECONDS`, and whose age promad asks for."""

_NOISE = np.random.default_rng(7).normal(size=4099).tolist()
_RISE = 6.0


@dataclass(frozen=True)
class Gap:
    """A series that ended after a time and began again at another; unix seconds."""

    last: float
    until: float


@dataclass
class Truth:
    """Values at each unix time that is a multiple of the step."""

    anomalies: list[tuple[float, float]] = field(default_factory=list)
    gaps: dict[str, list[Gap]] = field(default_factory=lambda: defaultdict(list))

    def value(self, alias: str, at: float) -> float:
        """The value that the feature has."""
        number = list(QUERIES).index(alias)
        noise = _NOISE[(round(at / STEP) * 7 + number * 1009) % len(_NOISE)]
        wave = math.sin(2 * math.pi * at / 600 + number)
        return 10.0 + wave + 0.1 * noise + _RISE * self.is_anomalous(at)

    def is_anomalous(self, at: float) -> bool:
        return any(start <= at <= end for start, end in self.anomalies[-8:])

    def sampled_at(self, alias: str, at: float) -> float | None:
        """When the sample was taken that the server has for a time; None if it has none."""
        for gap in self.gaps[alias][-8:]:
            if gap.last < at < gap.until:
                repeats = alias in SELECTED and at - gap.last < LOOKBACK_SECONDS
                return gap.last if repeats else None
        return at

    def is_known(self, alias: str, at: float) -> bool:
        """Whether the server has a sample for a time that is not merely repeated too long."""
        sampled_at = self.sampled_at(alias, at)
        return sampled_at is not None and at - sampled_at <= STALE_AFTER

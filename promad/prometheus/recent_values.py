"""A coarse look at the recent values of every query, for each group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from promad.data.frame import align_down
from promad.data.groups import Grouping, Labels
from promad.errors import BusyError, PrometheusError, UnreachableError
from promad.prometheus.client import PrometheusClient

Values = NDArray[np.float64]

RecentValues = Mapping[str, Mapping[Labels, Values]]
"""By alias and group, float64 (samples,) without NaN."""

_MOST_VALUES = 50_000
_LONGEST_STEP = 12 * 3600.0
_SHORTEST_STEP = 3600.0


@dataclass(frozen=True)
class RecentPeriod:
    """The period before `end` (unix seconds), and how many groups there are in it."""

    end: float
    seconds: float
    groups: int

    @property
    def step(self) -> float:
        """Seconds between samples: an hour, or longer for many groups."""
        hours = self.seconds * self.groups / _MOST_VALUES / 3600
        return min(max(float(np.ceil(hours)) * 3600, _SHORTEST_STEP), _LONGEST_STEP)


def ask_recent_values(
    client: PrometheusClient,
    queries: Mapping[str, str],
    grouping: Grouping,
    period: RecentPeriod,
    most_series: int,
) -> RecentValues:
    """A few values of each query (alias → PromQL); a query that fails is left out.

    Raises:
        UnreachableError, BusyError: if the server does not answer.
    """
    found: dict[str, dict[Labels, Values]] = {}
    end = align_down(period.end, period.step)
    start = end - align_down(period.seconds, period.step)
    for alias, expr in queries.items():
        try:
            answer = client.query_range(expr, start, end, period.step, most_series=most_series)
        except (UnreachableError, BusyError):
            raise
        except PrometheusError:
            continue
        parts: dict[Labels, list[Values]] = {}
        for series in answer.series:
            group = grouping.find_group(series.labels)
            if group is not None:
                parts.setdefault(group, []).append(series.values[~np.isnan(series.values)])
        found[alias] = {group: np.concatenate(own) for group, own in parts.items()}
    return found

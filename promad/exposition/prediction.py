"""How many series a fleet exposes, before it is deployed."""

from __future__ import annotations

from dataclasses import dataclass

from promad.events.verdict import State
from promad.exposition import names
from promad.exposition.names import GROUP_METRICS, MetricSpec


@dataclass(frozen=True)
class SeriesPrediction:
    """Series about groups: those of each group, and those about single features."""

    groups: int
    features: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.groups + self.features


def predict_series(
    groups: int, features: int, max_feature_series: int, *, mutes: bool = False
) -> SeriesPrediction:
    """The series of so many groups with so many scored features, at most.

    Args:
        mutes: whether groups may be muted.

    >>> predict_series(10, 5, 100)
    SeriesPrediction(groups=150, features=100)
    """
    metrics = [metric for metric in GROUP_METRICS if mutes or metric is not names.MUTED]
    of_group = [metric for metric in metrics if "feature_name" not in metric.labels]
    of_feature = len(metrics) - len(of_group)
    return SeriesPrediction(
        groups=groups * sum(map(_count_series, of_group)),
        features=min(groups * features * of_feature, max_feature_series),
    )


def _count_series(metric: MetricSpec) -> int:
    """How many series a group has of a metric."""
    return len(State) if metric is names.STATE else 1

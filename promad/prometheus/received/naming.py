"""The series that recording rules write and remote write sends: their names, and their PromQL."""

from __future__ import annotations

from collections.abc import Mapping

from promad.config.promql import is_vector
from promad.data.groups import escape_label_value
from promad.prometheus.groups.freshness import build_stale_query

FEATURE_SERIES = "promad:feature"
"""The name of a recorded feature: one series for each query and group."""
DETECTOR_LABEL = "detector"
FEATURE_LABEL = "feature_name"


def select_feature(detector: str, alias: str) -> str:
    """PromQL for the recorded series of a query.

    >>> select_feature("web", "cpu")
    'promad:feature{detector="web", feature_name="cpu"}'
    """
    own = f'{DETECTOR_LABEL}="{escape_label_value(detector)}"'
    return f'{FEATURE_SERIES}{{{own}, {FEATURE_LABEL}="{escape_label_value(alias)}"}}'


def build_recorded_expr(expr: str, labels: str, stale_after: float) -> str:
    """PromQL to record: the values of a query without those that rest on samples that are too old.

    A poll leaves such values out too. `labels` are those that a series needs for its group to be
    found; empty without groups.

    >>> print(build_recorded_expr("rate(x[5m])", "instance", 60.0))
    rate(x[5m])
    >>> print(build_recorded_expr("up", "instance", 60.0))
    (
    up
    )
    unless on (instance)
    count by (instance) (up unless on (instance) last_over_time(up[60001ms]))
    """
    stale = build_stale_query({"": expr}, labels, stale_after)
    if stale is None or not is_vector(expr):
        return expr
    return f"(\n{expr}\n)\nunless on ({labels})\n{stale}"


def build_catch_up_queries(
    detector: str, queries: Mapping[str, str], labels: str, stale_after: float
) -> dict[str, str]:
    """PromQL for what would have been received, by alias: what was recorded, else the query.

    >>> print(build_catch_up_queries("web", {"cpu": "rate(x[5m])"}, "instance", 60.0)["cpu"])
    (promad:feature{detector="web", feature_name="cpu"} and \
last_over_time(promad:feature{detector="web", feature_name="cpu"}[60001ms])) or on (instance) (
    rate(x[5m])
    )
    """
    return {
        alias: _catch_up(
            select_feature(detector, alias),
            build_recorded_expr(
                expr if is_vector(expr) else f"vector({expr}\n)", labels, stale_after
            ),
            labels,
            stale_after,
        )
        for alias, expr in queries.items()
    }


def _catch_up(recorded: str, expr: str, labels: str, stale_after: float) -> str:
    recent = f"last_over_time({recorded}[{round(1000 * stale_after) + 1}ms])"
    return f"({recorded} and {recent}) or on ({labels}) (\n{expr}\n)"

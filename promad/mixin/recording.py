"""Recording rules: what a dashboard over weeks would otherwise compute at every look.

Names are `level:metric:operations`; the level is what the series are told apart by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from promad.mixin.deployment import Deployment
from promad.mixin.rules import Rule


def state_share(prefix: str) -> str:
    """The name of: the share of the last hour that each group spent in each state."""
    return f"group_state:{prefix}state:avg1h"


def events_in_week(prefix: str) -> str:
    """The name of: events of each group that began in the last week."""
    return f"group:{prefix}total_anomalies_count:increase1w"


def events_over_expected(prefix: str) -> str:
    """The name of: those events over as many as are expected while nothing is wrong."""
    return f"detector:{prefix}total_anomalies_count:expected_ratio1w"


def recording_rules(deployment: Deployment) -> Mapping[str, Sequence[Rule]]:
    """The rules by their group's name."""
    prefix = deployment.prefix
    events = deployment.of_group("total_anomalies_count_total")
    expected = deployment.of_daemon("expected_false_alarms_per_week")
    week = deployment.of_recorded(events_in_week(prefix))
    rules = (
        Rule(
            "The share of the last hour that each group spent in each state: how long it was "
            "anomalous, and how long nobody watched it.",
            {
                "record": state_share(prefix),
                "expr": f"avg_over_time({deployment.of_group('state')}[1h])",
            },
        ),
        Rule(
            "Events that began in the last week.",
            {"record": events_in_week(prefix), "expr": f"increase({events}[1w])"},
        ),
        Rule(
            "Those over as many as are expected while nothing is wrong. Well above 1 for weeks, "
            "something is wrong, or the system has changed and the model should be trained again.",
            {
                "record": events_over_expected(prefix),
                "expr": f"sum by (job, instance, detector) ({week})\n/\n{expected}",
            },
        ),
    )
    return {"promad-recording": rules}

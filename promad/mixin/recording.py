"""Recording rules: what a dashboard over weeks would otherwise compute on every refresh.

Names are `level:metric:operations`; the level is the labels that tell series apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from promad.exposition import names
from promad.mixin.deployment import Deployment
from promad.mixin.rules import Rule


def name_state_share(prefix: str) -> str:
    """The name of the share of the last hour that each group spent in each state."""
    return f"group_state:{names.STATE.full_name(prefix)}:avg1h"


def name_events_in_week(prefix: str) -> str:
    """The name of each group's events that began in the last week."""
    return f"group:{_name_events(prefix)}:increase1w"


def name_events_over_expected(prefix: str) -> str:
    """The name of those events divided by the expected number on normal data."""
    return f"detector:{_name_events(prefix)}:expected_ratio1w"


def _name_events(prefix: str) -> str:
    """The counter's name, as recording rules write it: an increase is no total."""
    return names.EVENTS.full_name(prefix).removesuffix("_total")


def build_recording_rules(deployment: Deployment) -> Mapping[str, Sequence[Rule]]:
    """The rules by the name of their rule group."""
    prefix = deployment.prefix
    state, events = deployment.select(names.STATE), deployment.select(names.EVENTS)
    expected = deployment.select(names.EXPECTED_FALSE_ALARMS)
    week = deployment.select_name(name_events_in_week(prefix))
    rules = (
        Rule(
            "Share of the last hour that each group spent in each state.",
            {"record": name_state_share(prefix), "expr": f"avg_over_time({state}[1h])"},
        ),
        Rule(
            "Events that began in the last week.",
            {"record": name_events_in_week(prefix), "expr": f"increase({events}[1w])"},
        ),
        Rule(
            "Events of the last week divided by the number expected on normal data. If it is well "
            "above 1 for weeks, either a problem lasts, or the system has changed and the model "
            "should be trained again.",
            {
                "record": name_events_over_expected(prefix),
                "expr": f"sum by (job, instance, detector) ({week})\n/\n{expected}",
            },
        ),
    )
    return {"promad-recording": rules}

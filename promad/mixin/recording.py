"""Recording rules: what a dashboard over weeks would otherwise compute on every refresh.

Names are `level:metric:operations`; the level is the labels that tell series apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from promad.exposition import names
from promad.exposition.names import MetricSpec
from promad.mixin.deployment import TARGET_LABELS, Deployment
from promad.mixin.joined import record_joined
from promad.mixin.rules import Rule

_DETECTOR = (*TARGET_LABELS, "detector")


def name_state_share(prefix: str) -> str:
    """The name of the share of the last hour that each group spent in each state."""
    return f"group_state:{names.STATE.full_name(prefix)}:avg1h"


def name_events_in_week(prefix: str) -> str:
    """The name of each group's events that began in the last week."""
    return f"group:{_name_counter(names.EVENTS, prefix)}:increase1w"


def name_events_over_expected(prefix: str) -> str:
    """The name of those events divided by the expected number on normal data."""
    return f"detector:{_name_counter(names.EVENTS, prefix)}:expected_ratio1w"


def name_fleet_state_share() -> str:
    """The name of the average number of groups in each state in the last hour."""
    return f"detector_state:{names.GROUPS.name}:avg1h"


def name_incidents_in_week(prefix: str) -> str:
    """The name of each scope's incidents that began in the last week."""
    return f"scope:{_name_counter(names.INCIDENTS, prefix)}:increase1w"


def name_incidents_over_expected(prefix: str) -> str:
    """The name of those incidents divided by the expected number on normal data."""
    return f"detector:{_name_counter(names.INCIDENTS, prefix)}:expected_ratio1w"


def _name_counter(counter: MetricSpec, prefix: str) -> str:
    """The counter's name, as recording rules write it: an increase is no total."""
    return counter.full_name(prefix).removesuffix("_total")


def build_recording_rules(deployment: Deployment) -> Mapping[str, Sequence[Rule]]:
    """The rules by the name of their rule group."""
    single, fleet = deployment.choose(grouped=False), deployment.choose(grouped=True)
    rules = [
        *(_record_groups(single) if single else ()),
        *(_record_incidents(fleet) if fleet else ()),
        *(record_joined(fleet) if fleet and fleet.several else ()),
    ]
    return {"promad-recording": rules}


def _record_groups(deployment: Deployment) -> Sequence[Rule]:
    """What is recorded of detectors without `group_by`."""
    prefix = deployment.prefix
    state, events = deployment.select(names.STATE), deployment.select(names.EVENTS)
    expected = deployment.select(names.EXPECTED_FALSE_ALARMS)
    week = deployment.select_recorded(name_events_in_week(prefix))
    return (
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


def _record_incidents(deployment: Deployment) -> Sequence[Rule]:
    """What is recorded of detectors with `group_by`: nothing for single groups."""
    prefix = deployment.prefix
    groups, incidents = deployment.select(names.GROUPS), deployment.select(names.INCIDENTS)
    expected = deployment.select(names.EXPECTED_FALSE_ALARMS)
    week = deployment.select_recorded(name_incidents_in_week(prefix))
    own = ", ".join(label for label in _DETECTOR if label not in deployment.scope)
    return (
        Rule(
            "Average number of groups in each state in the last hour.",
            {"record": name_fleet_state_share(), "expr": f"avg_over_time({groups}[1h])"},
        ),
        Rule(
            "Incidents that began in the last week.",
            {"record": name_incidents_in_week(prefix), "expr": f"increase({incidents}[1w])"},
        ),
        Rule(
            "Incidents of the last week divided by the number expected on normal data. If it is "
            "well above 1 for weeks, either a problem lasts, or the system has changed and the "
            "model should be trained again.",
            {
                "record": name_incidents_over_expected(prefix),
                "expr": f"sum by ({own}) ({week})\n/\nsum by ({own}) ({expected})",
            },
        ),
    )

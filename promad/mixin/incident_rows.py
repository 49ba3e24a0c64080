"""The rows of the fleet's dashboard for detectors with `group_by`: incidents, groups, budget."""

from __future__ import annotations

from typing import Any

from promad.events.verdict import State
from promad.exposition import names
from promad.mixin.board import Rows
from promad.mixin.panels import (
    HEALTHY_IS_LOW,
    PLAIN,
    STATE_COLOURS,
    shade_above,
    show_bars,
    show_daily_bars,
    show_lines,
    show_number,
    stack,
)
from promad.mixin.promql import LEGEND, WORST, Selector, name_variable, number_states
from promad.mixin.recording import (
    name_fleet_state_share,
    name_incidents_in_week,
    name_incidents_over_expected,
)
from promad.mixin.tables import Column, colour_by_meaning, colour_by_value, show_table

_PURPLE_IF_ANY = (("green", None), ("purple", 1.0))
_ORANGE_IF_ANY = (("green", None), ("orange", 1.0))
_RECORDED = "Requires promad's recording rules."
_LISTED = 50
"""How many groups the table has."""


def build_incident_rows(select: Selector) -> Rows:
    """Titles of rows, each with its panels."""
    return [
        ("Now", _show_now(select)),
        ("Incidents", _show_incidents(select)),
        ("Groups", [*_show_groups(select), *_show_labels(select), _show_worst(select)]),
        ("Budget, last 30 days", _show_budget(select)),
    ]


def _show_now(select: Selector) -> list[Any]:
    groups = names.GROUPS
    in_state = {state: select(groups, f'state="{state}"') for state in State}
    shown = (
        (
            "Open incidents",
            "Incidents that are open: events that began together.",
            f"sum({select(names.INCIDENT_OPEN)})",
            HEALTHY_IS_LOW,
        ),
        (
            "Anomalous",
            "Groups with an open event.",
            f"sum({in_state[State.ANOMALOUS]})",
            HEALTHY_IS_LOW,
        ),
        ("Groups", "Number of monitored groups.", f"sum({select(groups)})", PLAIN),
        (
            "Blind",
            "Groups whose anomalies go undetected.",
            f"sum({in_state[State.BLIND]})",
            _PURPLE_IF_ANY,
        ),
        (
            "Warming",
            "Groups whose window is not full yet.",
            f"sum({in_state[State.WARMING]})",
            PLAIN,
        ),
        (
            "Refused",
            "Groups that are not monitored, because there are max_groups already.",
            f"sum({select(names.GROUPS_REFUSED)})",
            _ORANGE_IF_ANY,
        ),
    )
    return [
        show_number(title, about, "short", (expr, title.lower()), steps)
        for title, about, expr, steps in shown
    ]


def _show_incidents(select: Selector) -> list[Any]:
    legend = " ".join([*(f"{{{{{label}}}}}" for label in select.scope), "{{detector}}"])
    return [
        show_lines(
            "Groups in open incidents",
            "Groups of the open incidents.",
            "short",
            (select(names.INCIDENT_GROUPS), legend),
        ).min(0),
        show_lines(
            "Open incidents over time",
            "Incidents that are open. A long one hides nothing: one that begins meanwhile counts "
            "too.",
            "short",
            (select(names.INCIDENT_OPEN), legend),
        ).min(0),
        show_bars(
            "Leading features",
            "Contribution of each feature to the deviation of all groups of the open incidents; "
            "the top ten.",
            "percentunit",
            (
                f"topk(10, {select(names.INCIDENT_FEATURE_SHARE)} > 0)",
                f"{{{{feature_name}}}} {legend}",
            ),
        ).max(1),
        show_bars(
            "First groups",
            "Time since the first group of each open incident has been anomalous.",
            "s",
            (_measure_first(select), select.legend),
        ),
    ]


def _measure_first(select: Selector) -> str:
    """Seconds since the first group of each incident became anomalous."""
    since = f"time() - {select(names.ANOMALOUS_SINCE)}"
    return f"{since} and on ({select.identity}) {_select_first(select)}"


def _select_first(select: Selector) -> str:
    """A selector for the first groups; their labels are those of groups."""
    score = names.SCORE.full_name(select.prefix)
    first = names.INCIDENT_FIRST_GROUP.full_name(select.prefix)
    return select(names.SCORE).replace(score, first, 1)


def _show_groups(select: Selector) -> list[Any]:
    return [
        stack(
            show_lines(
                "Groups by state",
                "Number of groups in each state. Anomalies in blind groups go undetected.",
                "short",
                (f"sum by (state) ({select(names.GROUPS)})", "{{state}}"),
            ),
            STATE_COLOURS,
        ).min(0),
        show_bars(
            "Highest scores",
            f"The {WORST} groups with the highest scores over threshold; above 1 is anomalous.",
            "none",
            (f"topk({WORST}, {select(names.SCORE)})", select.legend),
            HEALTHY_IS_LOW,
        )
        .decimals(2)
        .max(3),
    ]


def _show_labels(select: Selector) -> list[Any]:
    """If groups have several labels, the number of anomalous groups by the values of each."""
    if len(select.group_by) < 2:
        return []
    flag = select(names.IS_ANOMALY)
    return [
        show_bars(
            f"Anomalous groups by {label}",
            f"Number of groups with an open event for each value of {label}; the top ten.",
            "short",
            (f"topk(10, count by ({label}) ({flag} == 1))", f"{{{{{label}}}}}"),
        ).span(24 if label == select.group_by[-1] and len(select.group_by) % 2 else 12)
        for label in select.group_by
    ]


def _show_worst(select: Selector) -> Any:
    """The groups with the highest scores, a row each; a click opens the detail of a group."""
    worst = f"topk({_LISTED}, {select(names.SCORE)})"
    among = f"and on ({select.identity}) {worst}"
    by = f"by ({select.identity})"
    none = f"0 * {select(names.THRESHOLD)}"
    since = f"(time() - {select(names.ANOMALOUS_SINCE)} or {none})"
    titles = {label: label.capitalize() for label in (*select.group_by, "detector")}
    chosen = "".join(
        f"&var-{name_variable(label) if label != 'detector' else label}=${{__data.fields.{title}}}"
        for label, title in titles.items()
    )
    return show_table(
        titles,
        "Groups",
        f"The {_LISTED} groups with the highest scores: current score and state, duration of the "
        "open event, share of the features with current samples, and events of the last day. Click "
        "a name to open the dashboard of that group.",
        [
            Column(
                "Score",
                "none",
                worst,
                {"decimals": 2, **colour_by_value((("text", None), ("red", 1.0)))},
            ),
            Column(
                "State",
                "none",
                f"{number_states(select)} {among}",
                colour_by_meaning(STATE_COLOURS),
            ),
            Column("Anomalous for", "s", f"{since} {among}"),
            Column("Known features", "percentunit", f"{select(names.KNOWN_FEATURES)} {among}"),
            Column(
                "Events, last day",
                "short",
                f"round(sum {by} (increase({select(names.EVENTS)}[1d]))) {among}",
            ),
        ],
        f"/d/promad?${{datasource:queryparam}}{chosen}&${{__url_time_range}}",
        opens="Open the group",
    )


def _show_budget(select: Selector) -> list[Any]:
    states = select.select_detector(name_fleet_state_share())
    week = select.select_scope(name_incidents_in_week(select.prefix))
    ratio = select.select_detector(name_incidents_over_expected(select.prefix))
    return [
        show_daily_bars(
            show_lines(
                "Incidents per day",
                "Incidents that began on each day.",
                "short",
                (f"sum(increase({select(names.INCIDENTS)}[$__rate_interval]))", "incidents"),
            )
        ).min(0),
        stack(
            show_lines(
                "Groups in each state",
                f"Average number of groups, per hour. {_RECORDED}",
                "short",
                (f"sum by (state) ({states})", "{{state}}"),
            ),
            STATE_COLOURS,
        )
        .time_from("30d")
        .min(0),
        show_lines(
            "Incidents per week",
            "Incidents of the previous seven days, and the number expected on normal data. "
            f"{_RECORDED}",
            "short",
            (f"sum({week})", "incidents"),
            (f"sum({select(names.EXPECTED_FALSE_ALARMS)})", "expected"),
        )
        .time_from("30d")
        .min(0),
        shade_above(
            show_lines(
                "Incidents over expected",
                "Incidents of the previous seven days divided by the number expected on normal "
                "data. If it stays above 3, fix the recurring problem or train the model again. "
                f"{_RECORDED}",
                "none",
                (ratio, LEGEND),
            ),
            3.0,
        )
        .time_from("30d")
        .min(0),
    ]

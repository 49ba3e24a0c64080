"""The dashboard of all detectors: their states, the highest scores, and the last weeks."""

from __future__ import annotations

from typing import Any

from promad.events.verdict import State
from promad.exposition import names
from promad.mixin.board import Rows, start_board, to_json
from promad.mixin.deployment import Deployment
from promad.mixin.incident_rows import build_incident_rows
from promad.mixin.panels import (
    HEALTHY_IS_LOW,
    PLAIN,
    STATE_COLOURS,
    shade_above,
    show_bars,
    show_daily_bars,
    show_highest_score,
    show_lines,
    show_number,
    stack,
)
from promad.mixin.promql import LEGEND, Selector, number_states
from promad.mixin.recording import (
    name_events_in_week,
    name_events_over_expected,
    name_state_share,
)
from promad.mixin.tables import Column, colour_by_meaning, colour_by_value, show_table

_PURPLE_IF_ANY = (("green", None), ("purple", 1.0))
_RECORDED = "Requires promad's recording rules."


def build_dashboard(deployment: Deployment) -> str:
    """The dashboard as JSON."""
    about = "All detectors: their states, highest scores, open events, and the last weeks."
    select = Selector.of(deployment)
    board = start_board("promad-fleet", "promad: fleet", about, select)
    return to_json(board, _build_rows(select))


def _build_rows(select: Selector) -> Rows:
    if select.group_by:
        return [*build_incident_rows(select), ("Features", _show_features(select))]
    return [
        ("Now", _show_now(select)),
        ("Groups", _show_groups(select)),
        ("Features", _show_features(select)),
        ("Last 30 days", _show_weeks(select)),
    ]


def _show_now(select: Selector) -> list[Any]:
    return [
        show_number(
            "Groups",
            "Number of monitored groups.",
            "short",
            (f"sum({select(names.STATE)})", "groups"),
        ),
        *(
            show_number(title, description, "short", (_count(select, state), "groups"), steps)
            for title, state, description, steps in (
                ("Open events", State.ANOMALOUS, "Groups with an open event.", HEALTHY_IS_LOW),
                ("Blind", State.BLIND, "Groups whose anomalies go undetected.", _PURPLE_IF_ANY),
                ("Warming", State.WARMING, "Groups whose window is not full yet.", PLAIN),
            )
        ),
        show_highest_score("Highest score", select),
        show_number(
            "Events",
            "Events that began in the selected time range.",
            "short",
            (f"round(sum(increase({select(names.EVENTS)}[$__range])))", "events"),
        ),
    ]


def _count(select: Selector, state: State) -> str:
    """The number of groups in a state."""
    return f"sum({select(names.STATE, f'state="{state}"')})"


def _show_groups(select: Selector) -> list[Any]:
    return [
        stack(
            show_lines(
                "Groups by state",
                "Number of groups in each state. Anomalies in blind groups go undetected.",
                "short",
                (f"sum by (state) ({select(names.STATE)})", "{{state}}"),
            ),
            STATE_COLOURS,
        ).min(0),
        show_bars(
            "Highest scores",
            "The ten detectors with the highest scores over threshold; above 1 is anomalous.",
            "none",
            (f"topk(10, max {select.by_detector} ({select(names.SCORE)}))", LEGEND),
            HEALTHY_IS_LOW,
        )
        .decimals(2)
        .max(3),
        _show_detectors(select),
    ]


def _show_detectors(select: Selector) -> Any:
    """Every detector in one row; a click opens its own dashboard."""
    state = f"max {select.by_detector} ({number_states(select)})"
    since = f"min {select.by_detector} ({select(names.ANOMALOUS_SINCE)})"
    none = f"0 * max {select.by_detector} ({select(names.THRESHOLD)})"
    blind = select(names.STATE, f'state="{State.BLIND}"')
    begun = select(names.EVENTS)
    return show_table(
        {"instance": "Instance", "detector": "Detector"},
        "Detectors",
        "Current score and state, duration of the open event, share of the last hour spent blind, "
        "and events of the last day. Click a name to open the dashboard of that detector.",
        [
            Column(
                "Score",
                "none",
                f"max {select.by_detector} ({select(names.SCORE)})",
                {"decimals": 2, **colour_by_value((("text", None), ("red", 1.0)))},
            ),
            Column("State", "none", state, colour_by_meaning(STATE_COLOURS)),
            Column("Anomalous for", "s", f"time() - {since} or {none}"),
            Column(
                "Blind, last hour",
                "percentunit",
                f"max {select.by_detector} (avg_over_time({blind}[1h]))",
                colour_by_value((("text", None), ("purple", 0.05))),
            ),
            Column(
                "Events, last day",
                "short",
                f"round(sum {select.by_detector} (increase({begun}[1d])))",
            ),
        ],
        "/d/promad?${datasource:queryparam}&${job:queryparam}"
        "&var-instance=${__data.fields.Instance}&var-detector=${__data.fields.Detector}"
        "&${__url_time_range}",
    )


def _show_features(select: Selector) -> list[Any]:
    share, flag = select(names.FEATURE_CONTRIBUTION), select(names.IS_ANOMALY)
    shares = f"sum by (feature_name) ({share} * ignoring (feature_name) group_left () {flag})"
    elevation = select(names.FEATURE_ELEVATION)
    deviating = f"sum by (feature_name) (min_over_time({elevation}[5m]) > bool 1)"
    return [
        show_bars(
            "Features in open events",
            "Contribution of each feature, summed over the anomalous groups; the top ten. 2 is as "
            "much as two groups that are anomalous because of this feature alone.",
            "none",
            (f"topk(10, {shares})", "{{feature_name}}"),
        ).decimals(2),
        show_lines(
            "Features in events over time",
            "Contribution of each feature, summed over the anomalous groups; the top five.",
            "none",
            (f"topk(5, {shares})", "{{feature_name}}"),
        ).min(0),
        show_lines(
            "Deviating features",
            "Number of groups in which a feature has been above its baseline for five minutes; "
            "the top ten features. Many at once, also in groups without an event, indicate a "
            "change of the system.",
            "short",
            (f"topk(10, {deviating})", "{{feature_name}}"),
        )
        .span(24)
        .fill_opacity(0)
        .min(0),
    ]


def _show_weeks(select: Selector) -> list[Any]:
    shares = select.select_detector(name_state_share(select.prefix))
    ratio = select.select_detector(name_events_over_expected(select.prefix))
    week = select.select_detector(name_events_in_week(select.prefix))
    return [
        show_daily_bars(
            show_lines(
                "Events per day",
                "Events that began on each day.",
                "short",
                (f"sum(increase({select(names.EVENTS)}[$__rate_interval]))", "events"),
            )
        ).min(0),
        stack(
            show_lines(
                "Share of time in each state",
                f"Average over all groups, per hour. {_RECORDED}",
                "percentunit",
                (f"avg by (state) ({shares})", "{{state}}"),
            ),
            STATE_COLOURS,
        )
        .time_from("30d")
        .min(0)
        .max(1),
        show_lines(
            "Events per week",
            "Events of the previous seven days, and the number expected on normal data. "
            f"{_RECORDED}",
            "short",
            (f"sum({week})", "events"),
            (f"sum({select(names.EXPECTED_FALSE_ALARMS)})", "expected"),
        )
        .time_from("30d")
        .min(0),
        shade_above(
            show_lines(
                "Events over expected",
                "Events of the previous seven days divided by the number expected on normal data; "
                "the ten highest detectors. If it stays above 3, fix the recurring problem or "
                f"train the model again. {_RECORDED}",
                "none",
                (f"topk(10, {ratio})", LEGEND),
            ),
            3.0,
        )
        .time_from("30d")
        .min(0),
    ]

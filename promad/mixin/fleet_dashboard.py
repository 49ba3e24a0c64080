"""Many detectors at a glance: how they are, which are worst, and how that has been over weeks."""

from __future__ import annotations

from typing import Any

from promad.mixin import recording
from promad.mixin.board import Rows, as_json, board
from promad.mixin.deployment import Deployment
from promad.mixin.panels import (
    HEALTHY_IS_LOW,
    PLAIN,
    STATE_COLOURS,
    bars,
    columns,
    limited,
    lines,
    number,
    stacked,
)
from promad.mixin.promql import BY_DETECTOR, LEGEND, Groups, of_detector, selected
from promad.mixin.tables import Column, graded, named, rows_by

_PURPLE_IF_ANY = (("green", None), ("purple", 1.0))


def dashboard(deployment: Deployment) -> str:
    """The dashboard as JSON."""
    about = "All detectors side by side: states, worst scores, open events, and the last weeks."
    groups = Groups(deployment.prefix)
    return as_json(board("promad-fleet", "promad: fleet", about, groups), _rows(deployment, groups))


def _rows(deployment: Deployment, groups: Groups) -> Rows:
    return [
        ("Now", _now(groups)),
        ("Groups", _groups(groups, deployment.several)),
        ("Features", _features(groups)),
        ("The last thirty days", _weeks(groups)),
    ]


def _now(groups: Groups) -> list[Any]:
    begun = groups.select("total_anomalies_count_total")
    return [
        number(
            "Groups",
            "How many things are watched.",
            "short",
            (f"sum({groups.select('state')})", "groups"),
        ),
        *(
            number(title, description, "short", (_in_state(groups, state), "groups"), steps)
            for title, state, description, steps in (
                ("Open events", "anomalous", "Groups with an event now.", HEALTHY_IS_LOW),
                ("Blind", "blind", "Groups that nobody watches now.", _PURPLE_IF_ANY),
                ("Warming", "warming", "Groups that wait for a window of samples.", PLAIN),
            )
        ),
        number(
            "Highest score",
            "Score over threshold of the worst group: above 1 is anomalous.",
            "none",
            (f"max({groups.select('score')})", "score"),
            HEALTHY_IS_LOW,
        )
        .decimals(2)
        .no_value("no score"),
        number(
            "Events",
            "Events that began within the dashboard's time range.",
            "short",
            (f"round(sum(increase({begun}[$__range])))", "events"),
        ),
    ]


def _in_state(groups: Groups, state: str) -> str:
    return f"sum({groups.select('state', f'state="{state}"')})"


def _groups(groups: Groups, several: bool) -> list[Any]:
    return [
        stacked(
            lines(
                "Groups in each state",
                "How many groups are in each state. Blind: nobody watches them.",
                "short",
                (f"sum by (state) ({groups.select('state')})", "{{state}}"),
            ),
            STATE_COLOURS,
        ).min(0),
        bars(
            "Worst groups",
            "The ten highest scores over threshold: above 1 is anomalous.",
            "none",
            (f"topk(10, max {BY_DETECTOR} ({groups.select('score')}))", LEGEND),
            HEALTHY_IS_LOW,
        )
        .decimals(2)
        .max(3),
        _table(groups, several),
    ]


def _table(groups: Groups, several: bool) -> Any:
    """Every detector in one row; a click leads to its own dashboard."""
    state = f"max {BY_DETECTOR} ({groups.state})"
    since = f"min {BY_DETECTOR} ({groups.select('anomalous_since_timestamp_seconds')})"
    none = f"0 * max {BY_DETECTOR} ({groups.select('threshold')})"
    blind = groups.select("state", 'state="blind"')
    begun = groups.select("total_anomalies_count_total")
    chosen = "&var-detector=${__data.fields.Detector}" if several else ""
    return rows_by(
        {"instance": "Instance", "detector": "Detector"},
        "Every detector",
        "State and score now, how long the open event has lasted, the share of the last hour "
        "in which nothing was watched, and the events of the last day. Click to look closer.",
        [
            Column(
                "Score",
                "none",
                f"max {BY_DETECTOR} ({groups.select('score')})",
                {"decimals": 2, **graded((("text", None), ("red", 1.0)))},
            ),
            Column("State", "none", state, named(STATE_COLOURS)),
            Column("Anomalous for", "s", f"time() - {since} or {none}"),
            Column(
                "Blind, last hour",
                "percentunit",
                f"max {BY_DETECTOR} (avg_over_time({blind}[1h]))",
                graded((("text", None), ("purple", 0.05))),
            ),
            Column(
                "Events, last day", "short", f"round(sum {BY_DETECTOR} (increase({begun}[1d])))"
            ),
        ],
        "/d/promad?${datasource:queryparam}&${job:queryparam}"
        f"&var-instance=${{__data.fields.Instance}}{chosen}&${{__url_time_range}}",
    )


def _features(groups: Groups) -> list[Any]:
    share = groups.select("feature_contribution_ratio")
    flag = groups.select("is_anomaly_detected")
    blamed = f"sum by (feature_name) ({share} * ignoring (feature_name) group_left () {flag})"
    elevated = groups.select("feature_elevation_ratio")
    deviating = f"sum by (feature_name) (min_over_time({elevated}[5m]) > bool 1)"
    return [
        bars(
            "Features behind the open events",
            "Shares of what makes groups anomalous now, summed over those groups: 2 is as much "
            "as two groups that are anomalous by this feature alone.",
            "none",
            (f"topk(10, {blamed})", "{{feature_name}}"),
        ).decimals(2),
        lines(
            "Features behind events over time",
            "The five features that made most of what was anomalous, as on the left.",
            "none",
            (f"topk(5, {blamed})", "{{feature_name}}"),
        ).min(0),
        lines(
            "Features that deviate",
            "In how many groups each of the ten features that deviate in most has been above its "
            "usual error for five minutes. Many at once, and in groups without an event, is a "
            "change of the system.",
            "short",
            (f"topk(10, {deviating})", "{{feature_name}}"),
        )
        .span(24)
        .fill_opacity(0)
        .min(0),
    ]


def _weeks(groups: Groups) -> list[Any]:
    begun = groups.select("total_anomalies_count_total")
    shares = selected(recording.state_share(groups.prefix))
    ratio = selected(recording.events_over_expected(groups.prefix))
    week = selected(recording.events_in_week(groups.prefix))
    return [
        columns(
            lines(
                "Events per day",
                "Events that began each day.",
                "short",
                (f"sum(increase({begun}[$__rate_interval]))", "events"),
            )
        ).min(0),
        stacked(
            lines(
                "Share of time in each state",
                "Of all groups together, hour by hour. From the recording rules of promad.",
                "percentunit",
                (f"avg by (state) ({shares})", "{{state}}"),
            ),
            STATE_COLOURS,
        )
        .time_from("30d")
        .min(0)
        .max(1),
        lines(
            "Events in a week",
            "Events of the seven days before, and how many are expected while nothing is wrong. "
            "From the recording rules of promad.",
            "short",
            (f"sum({week})", "events"),
            (f"sum({of_detector('expected_false_alarms_per_week')})", "expected"),
        )
        .time_from("30d")
        .min(0),
        limited(
            lines(
                "Events over expected",
                "Events of a week over as many as are expected while nothing is wrong, of the ten "
                "worst detectors. Above 3 for long: train again, or there is much to find. From "
                "the recording rules of promad.",
                "none",
                (f"topk(10, {ratio})", LEGEND),
            ),
            3.0,
        )
        .time_from("30d")
        .min(0),
    ]

"""One group looked at closely: state, score, and the features that drive it."""

from __future__ import annotations

from typing import Any

from promad.mixin.board import Rows, as_json, board, label_variable
from promad.mixin.deployment import Deployment
from promad.mixin.panels import (
    HEALTHY_IS_LOW,
    STATE_COLOURS,
    bars,
    dashed,
    heat,
    label,
    limited,
    lines,
    logarithmic,
    mapped,
    number,
    states,
)
from promad.mixin.promql import LEGEND, Groups, of_detector


def dashboard(deployment: Deployment) -> str:
    """The dashboard as JSON."""
    groups = Groups(deployment.prefix)
    share = groups.select("feature_contribution_ratio")
    about = "Anomalies that promad finds, and which features are to blame."
    feature = label_variable("feature", "Feature", share, "feature_name", ".+")
    return as_json(board("promad", "promad", about, groups, feature), _rows(groups))


def _rows(groups: Groups) -> Rows:
    return [
        ("Now", _now(groups)),
        ("Score", _score(groups)),
        ("Features", _features(groups)),
        ("Observed against expected", [_observed(groups)]),
    ]


def _now(groups: Groups) -> list[Any]:
    newest = groups.select("last_successful_run_timestamp_seconds")
    begun = groups.select("total_anomalies_count_total")
    return [
        states(
            "State",
            "Each group's state. Warming: fewer samples than a window needs. "
            "Blind: inputs are missing or stale, or the server cannot be reached.",
            STATE_COLOURS,
            (groups.state, LEGEND),
        ),
        mapped(
            number("State now", "The newest state of each group.", "none", (groups.state, LEGEND)),
            STATE_COLOURS,
        ),
        number(
            "Score now",
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
            HEALTHY_IS_LOW,
        ),
        number(
            "Last successful run",
            "How long ago the longest unscored group was scored.",
            "s",
            (f"max(time() - {newest})", "ago"),
            (("green", None), ("orange", 120.0), ("red", 300.0)),
        ),
        number(
            "Samples in window",
            "Samples held of the shortest window; a full one is as long as the model's input.",
            "short",
            (f"min({groups.select('data_points_in_current_window')})", "samples"),
        ),
        label(
            "Model",
            "The model that scores; the dashboard of promad's own health has its bundle.",
            (of_detector("model_info"), "{{detector}} {{model}}"),
        ),
    ]


def _score(groups: Groups) -> list[Any]:
    score = lines(
        "Score over threshold",
        "The score of each group: above 1 is anomalous. A gap means that there was no score.",
        "none",
        (groups.select("score"), LEGEND),
    )
    return [
        limited(score, 1.0).min(0).decimals(2),
        lines(
            "Threshold",
            "The limit that the score is held to, in the score's own unit. A step is a threshold "
            "that adapted, or another model.",
            "none",
            (groups.select("threshold"), LEGEND),
        ).min(0),
        lines(
            "Reconstruction error",
            "Mean squared error of the newest window in the model's scaled units.",
            "none",
            (groups.select("latest_reconstruction_error_mse"), LEGEND),
        ).min(0),
        lines(
            "Known features",
            "Share of the features that the score rests on; the missing ones are left out of it.",
            "percentunit",
            (groups.select("known_features_ratio"), LEGEND),
        )
        .min(0)
        .max(1),
    ]


def _features(groups: Groups) -> list[Any]:
    share = groups.select("feature_contribution_ratio")
    score = f"ignoring (feature_name) group_left () {groups.select('score')}"
    elevated = groups.select("feature_elevation_ratio")
    highest = f"topk(5, max_over_time({elevated}[$__range] @ end()))"
    elevation = groups.select("feature_elevation_ratio", 'feature_name=~"$feature"')
    since = groups.select("feature_deviating_since_timestamp_seconds")
    lasting = f"time() - {since} or 0 * {elevated}"
    name = f"{{{{feature_name}}}} {LEGEND}"
    return [
        lines(
            "Top features over time",
            "What the score over threshold is made of, by shares of what lies above the baselines: "
            "the five features that rose highest above theirs in the dashboard's time range.",
            "none",
            (f"{share} * {score} and {highest}", name),
        )
        .min(0)
        .decimals(2),
        bars(
            "Top features now",
            "The five features with the largest share of what lies above the baselines.",
            "percentunit",
            (f"topk(5, {share})", name),
        ).max(1),
        bars(
            "Deviating for the longest",
            "Of the features above their baselines, the five that have been so for the longest. "
            "What began first is often nearer to the cause than what is largest.",
            "s",
            (f"topk(5, {lasting})", name),
        ).height(10),
        heat(
            "Elevation of each feature",
            "Error of each chosen feature over its baseline, which it stayed below for 95 % of "
            "training: yellow from 1 on, orange from 2, red from 4.",
            "none",
            (elevation, name),
            (("green", None), ("yellow", 1.0), ("orange", 2.0), ("red", 4.0)),
        ),
        logarithmic(
            limited(
                lines(
                    "Elevation of each feature, in lines",
                    "Error of each chosen feature over its baseline in training: above 1 it "
                    "deviates.",
                    "none",
                    (elevation, name),
                ),
                1.0,
            )
        )
        .span(24)
        .height(10),
    ]


def _observed(groups: Groups) -> Any:
    chosen = 'feature_name=~"$feature"'
    panel = lines(
        "$feature",
        "What was measured, and what the model expected, in the feature's own units.",
        "short",
        (groups.select("feature_observed_value", chosen), f"observed {LEGEND}"),
        (groups.select("feature_expected_value", chosen), f"expected {LEGEND}"),
    )
    return dashed(panel, "B").span(8).repeat("feature").repeat_direction("h").max_per_row(3)

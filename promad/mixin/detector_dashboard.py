"""The dashboard of one detector: its state, its score, and the features that cause anomalies."""

from __future__ import annotations

from typing import Any

from promad.exposition import names
from promad.mixin.board import Rows, build_variable, start_board, to_json
from promad.mixin.deployment import Deployment
from promad.mixin.panels import (
    HEALTHY_IS_LOW,
    STATE_COLOURS,
    dash_query,
    scale_logarithmically,
    set_units_by_alias,
    shade_above,
    show_bars,
    show_heatmap,
    show_highest_score,
    show_legend,
    show_lines,
    show_meaning,
    show_number,
    show_states,
)
from promad.mixin.promql import LEGEND, Selector, number_states

_CHOSEN = 'feature_name=~"$feature"'
_OBSERVED = "Observed and expected values"
_FEATURE_LEGEND = f"{{{{feature_name}}}} {LEGEND}"


def build_dashboard(deployment: Deployment) -> str:
    """The dashboard as JSON."""
    select = Selector(deployment.prefix)
    about = "Anomalies that promad detects, and the features that cause them."
    share = select(names.FEATURE_CONTRIBUTION)
    feature = build_variable("feature", "Feature", share, "feature_name", ".+")
    board = start_board("promad", "promad", about, select, feature)
    return to_json(board, _build_rows(select), collapsed={_OBSERVED})


def _build_rows(select: Selector) -> Rows:
    return [
        ("Now", _show_now(select)),
        ("Score", _show_score(select)),
        ("Features", [*_show_contributions(select), *_show_elevations(select)]),
        (_OBSERVED, [_show_observed(select)]),
    ]


def _show_now(select: Selector) -> list[Any]:
    state = number_states(select)
    return [
        show_states(
            "State",
            "State of each group. Warming: the window of samples is not full yet. "
            "Blind: queries fail, or samples are missing or stale.",
            STATE_COLOURS,
            (state, LEGEND),
        ),
        show_meaning(
            show_number("Current state", "Current state of each group.", "none", (state, LEGEND)),
            STATE_COLOURS,
        ),
        show_highest_score("Current score", select),
        show_number(
            "Events",
            "Events that began in the selected time range.",
            "short",
            (f"round(sum(increase({select(names.EVENTS)}[$__range])))", "events"),
            HEALTHY_IS_LOW,
        ),
        show_number(
            "Last score",
            "Time since the last score, for the group with the oldest one.",
            "s",
            (f"max(time() - {select(names.LAST_SCORED)})", "ago"),
            (("green", None), ("orange", 120.0), ("red", 300.0)),
        ),
        show_number(
            "Samples in window",
            "Consecutive samples of the group with the fewest; a score needs a full window.",
            "short",
            (f"min({select(names.WINDOW_SAMPLES)})", "samples"),
        ),
        show_legend(
            "Model",
            "Model in use. The dashboard promad: health shows its bundle.",
            (select(names.MODEL_INFO), "{{detector}} {{model}}"),
        ),
    ]


def _show_score(select: Selector) -> list[Any]:
    score = show_lines(
        "Score over threshold",
        "Score of each group divided by the threshold; above 1 is anomalous. A gap means that "
        "there was no score.",
        "none",
        (select(names.SCORE), LEGEND),
    )
    return [
        shade_above(score, 1.0).min(0).decimals(2),
        show_lines(
            "Threshold",
            "Threshold in the unit of the score. It changes when it adapts, and with another "
            "model.",
            "none",
            (select(names.THRESHOLD), LEGEND),
        ).min(0),
        show_lines(
            "Reconstruction error",
            "Mean squared reconstruction error of the newest window, in scaled units.",
            "none",
            (select(names.RECONSTRUCTION_ERROR), LEGEND),
        ).min(0),
        show_lines(
            "Known features",
            "Share of the features with current samples. The score leaves out the others.",
            "percentunit",
            (select(names.KNOWN_FEATURES), LEGEND),
        )
        .min(0)
        .max(1),
    ]


def _show_contributions(select: Selector) -> list[Any]:
    share, elevation = select(names.FEATURE_CONTRIBUTION), select(names.FEATURE_ELEVATION)
    score = f"ignoring (feature_name) group_left () {select(names.SCORE)}"
    highest = f"topk(5, max_over_time({elevation}[$__range] @ end()))"
    lasting = f"time() - {select(names.FEATURE_DEVIATING_SINCE)} or 0 * {elevation}"
    return [
        show_lines(
            "Top features over time",
            "Contribution of each feature to the score over threshold. The five features that "
            "rose highest above their baselines in the selected time range.",
            "none",
            (f"{share} * {score} and {highest}", _FEATURE_LEGEND),
        )
        .min(0)
        .decimals(2),
        show_bars(
            "Top features now",
            "The five features with the largest shares of the current deviation.",
            "percentunit",
            (f"topk(5, {share})", _FEATURE_LEGEND),
        ).max(1),
        show_bars(
            "Longest deviations",
            "The five features that have been above their baselines longest. The first feature to "
            "deviate is often closer to the cause than the one with the largest share.",
            "s",
            (f"topk(5, {lasting})", _FEATURE_LEGEND),
        ).height(10),
    ]


def _show_elevations(select: Selector) -> list[Any]:
    chosen = (select(names.FEATURE_ELEVATION, _CHOSEN), _FEATURE_LEGEND)
    return [
        show_heatmap(
            "Elevation of each feature",
            "Error of each selected feature divided by its baseline, the 95th percentile in "
            "training. Yellow from 1, orange from 2, red from 4.",
            "none",
            chosen,
            (("green", None), ("yellow", 1.0), ("orange", 2.0), ("red", 4.0)),
        ),
        scale_logarithmically(
            shade_above(
                show_lines(
                    "Elevation over time",
                    "Error of each selected feature divided by its baseline in training; above 1 "
                    "the feature deviates.",
                    "none",
                    chosen,
                ),
                1.0,
            )
        )
        .span(24)
        .height(10),
    ]


def _show_observed(select: Selector) -> Any:
    panel = show_lines(
        "$feature",
        "Observed value, and the value that the model expected, in the unit of the feature: bytes, "
        "percent or seconds if its alias ends in _bytes, _ratio or _seconds.",
        "short",
        (select(names.FEATURE_OBSERVED, _CHOSEN), f"observed {_FEATURE_LEGEND}"),
        (select(names.FEATURE_EXPECTED, _CHOSEN), f"expected {_FEATURE_LEGEND}"),
    )
    panel = dash_query(set_units_by_alias(panel), "B")
    return panel.span(8).repeat("feature").repeat_direction("h").max_per_row(3)

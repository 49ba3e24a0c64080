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
from promad.mixin.promql import WORST, Selector, number_states

_CHOSEN = 'feature_name=~"$feature"'
_OBSERVED = "Observed and expected values"


def build_dashboard(deployment: Deployment) -> str:
    """The dashboard as JSON."""
    select = Selector.of(deployment)
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
    state = select.limit(number_states(select))
    return [
        show_states(
            "State",
            "State of each group. Warming: the window of samples is not full yet. "
            f"Blind: queries fail, or samples are missing or stale.{_explain_limit(select)}",
            STATE_COLOURS,
            (state, select.legend),
        ),
        show_meaning(
            show_number(
                "Current state", "Current state of each group.", "none", (state, select.legend)
            ),
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
        f"there was no score.{_explain_limit(select)}",
        "none",
        (select.limit(select(names.SCORE)), select.legend),
    )
    return [
        shade_above(score, 1.0).min(0).decimals(2),
        show_lines(
            "Threshold",
            "Threshold in the unit of the score. It changes when it adapts, and with another "
            "model.",
            "none",
            (select.limit(select(names.THRESHOLD)), select.legend),
        ).min(0),
        show_lines(
            "Reconstruction error",
            "Mean squared reconstruction error of the newest window, in scaled units.",
            "none",
            (select.limit(select(names.RECONSTRUCTION_ERROR)), select.legend),
        ).min(0),
        show_lines(
            "Known features",
            "Share of the features with current samples. The score leaves out the others.",
            "percentunit",
            (select.limit(select(names.KNOWN_FEATURES)), select.legend),
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
            (f"{share} * {score} and {highest}", _legend_features(select)),
        )
        .min(0)
        .decimals(2),
        show_bars(
            "Top features now",
            "The five features with the largest shares of the current deviation.",
            "percentunit",
            (f"topk(5, {share})", _legend_features(select)),
        ).max(1),
        show_bars(
            "Longest deviations",
            "The five features that have been above their baselines longest. The first feature to "
            "deviate is often closer to the cause than the one with the largest share.",
            "s",
            (f"topk(5, {lasting})", _legend_features(select)),
        ).height(10),
    ]


def _show_elevations(select: Selector) -> list[Any]:
    chosen = (select.limit(select(names.FEATURE_ELEVATION, _CHOSEN), 1), _legend_features(select))
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
    legend = _legend_features(select)
    panel = show_lines(
        "$feature",
        "Observed value, and the value that the model expected, in the unit of the feature: bytes, "
        "percent or seconds if its alias ends in _bytes, _ratio or _seconds.",
        "short",
        (select.limit(select(names.FEATURE_OBSERVED, _CHOSEN), 1), f"observed {legend}"),
        (select.limit(select(names.FEATURE_EXPECTED, _CHOSEN), 1), f"expected {legend}"),
    )
    panel = dash_query(set_units_by_alias(panel), "B")
    return panel.span(8).repeat("feature").repeat_direction("h").max_per_row(3)


def _legend_features(select: Selector) -> str:
    return f"{{{{feature_name}}}} {select.legend}"


def _explain_limit(select: Selector) -> str:
    if not select.group_by:
        return ""
    return f" The {WORST} selected groups with the highest scores in the time range."

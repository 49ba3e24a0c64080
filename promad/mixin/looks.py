"""How panels look: one function for each kind, with the colours and mappings they share."""

from __future__ import annotations

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    prometheus,
    stat,
    statetimeline,
    statushistory,
    timeseries,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common as choices
from grafana_foundation_sdk.models.common import DataSourceRef
from grafana_foundation_sdk.models.dashboard import (
    DynamicConfigValue,
    FieldColorModeId,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)

Query = tuple[str, str]
"""PromQL, and what the legend calls its series."""

DATASOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")

STATES = ("warming", "ok", "anomalous", "blind")
"""What the state panels' numbers 0, 1, 2 and 3 mean."""

STATE_COLOURS = ("light-blue", "green", "red", "purple")
HEALTHY_IS_LOW = (("green", None), ("red", 1.0))
HEALTHY_IS_HIGH = (("red", None), ("green", 1.0))
PLAIN = (("blue", None),)

Steps = tuple[tuple[str, float | None], ...]
"""Colours, each with the value from which it holds; None is the lowest."""


def lines(title: str, description: str, unit: str, *queries: Query) -> timeseries.Panel:
    """Lines over time, half the dashboard wide."""
    panel = _filled(timeseries.Panel(), title, description, unit, queries)
    return (
        panel.span(12)
        .height(8)
        .line_width(1)
        .fill_opacity(8)
        .show_points(choices.VisibilityMode.NEVER)
        .legend(_legend())
        .tooltip(_tooltip())
    )


def limited(panel: timeseries.Panel, limit: float) -> timeseries.Panel:
    """The same lines with everything from `limit` on shaded red."""
    style = common.GraphThresholdsStyleConfig().mode(choices.GraphThresholdsStyleMode.LINE_AND_AREA)
    return panel.thresholds(_steps((("transparent", None), ("red", limit)))).thresholds_style(style)


def dashed(panel: timeseries.Panel, query: str) -> timeseries.Panel:
    """The same lines with those of query A, B, ... dashed and orange."""
    return panel.override_by_query(
        query,
        [
            DynamicConfigValue("color", {"mode": "fixed", "fixedColor": "orange"}),
            DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [8, 6]}),
            DynamicConfigValue("custom.fillOpacity", 0),
        ],
    )


def number(
    title: str, description: str, unit: str, query: Query, steps: Steps = PLAIN
) -> stat.Panel:
    """One big number, its colour chosen by `steps`."""
    panel = _filled(stat.Panel(), title, description, unit, (query,), instant=True)
    return (
        panel.span(4)
        .height(4)
        .thresholds(_steps(steps))
        .graph_mode(choices.BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )


def label(title: str, description: str, query: Query) -> stat.Panel:
    """The legend of a series whose value says nothing, such as that of an info metric."""
    return number(title, description, "none", query).text_mode(choices.BigValueTextMode.NAME)


def bars(title: str, description: str, unit: str, query: Query) -> bargauge.Panel:
    """One horizontal bar for each series, of its newest value."""
    panel = _filled(bargauge.Panel(), title, description, unit, (query,), instant=True)
    return (
        panel.span(12)
        .height(8)
        .min(0)
        .orientation(choices.VizOrientation.HORIZONTAL)
        .display_mode(choices.BarGaugeDisplayMode.GRADIENT)
        .color_scheme(_colour(FieldColorModeId.CONTINUOUS_YL_RD))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )


def heat(title: str, description: str, unit: str, query: Query) -> statushistory.Panel:
    """A row of coloured cells for each series: the hotter, the larger."""
    panel = _filled(statushistory.Panel(), title, description, unit, (query,))
    return (
        panel.span(12)
        .height(10)
        .max_data_points(100)
        .show_value(choices.VisibilityMode.NEVER)
        .color_scheme(_colour(FieldColorModeId.CONTINUOUS_YL_RD))
        .legend(common.VizLegendOptions().show_legend(False))
    )


def states(
    title: str, description: str, names: tuple[str, ...], colours: tuple[str, ...], query: Query
) -> statetimeline.Panel:
    """A band for each series, coloured and named by its whole numbers 0, 1, ..."""
    panel = _filled(statetimeline.Panel(), title, description, "none", (query,))
    return (
        panel.span(24)
        .height(6)
        .mappings([_mapping(names, colours)])
        .show_value(choices.VisibilityMode.AUTO)
        .legend(_legend())
    )


def mapped(panel: stat.Panel, names: tuple[str, ...], colours: tuple[str, ...]) -> stat.Panel:
    """The same number shown as the name of what it means."""
    return panel.mappings([_mapping(names, colours)])


def _filled[
    Panel: (
        bargauge.Panel,
        stat.Panel,
        statetimeline.Panel,
        statushistory.Panel,
        timeseries.Panel,
    )
](
    panel: Panel,
    title: str,
    description: str,
    unit: str,
    queries: tuple[Query, ...],
    *,
    instant: bool = False,
) -> Panel:
    """The panel with what every panel has: words, unit, data source and queries A, B, ..."""
    targets: list[Builder[Dataquery]] = [
        _target(chr(ord("A") + index), query, instant) for index, query in enumerate(queries)
    ]
    panel.title(title).description(description).unit(unit)
    panel.datasource(DATASOURCE).targets(targets)
    return panel


def _target(name: str, query: Query, instant: bool) -> prometheus.Dataquery:
    expression, legend = query
    target = prometheus.Dataquery().ref_id(name).expr(expression).legend_format(legend)
    target = target.datasource(DATASOURCE)
    return target.instant() if instant else target.range()


def _steps(steps: Steps) -> dashboard.ThresholdsConfig:
    config = dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE)
    return config.steps([Threshold(value=value, color=colour) for colour, value in steps])


def _mapping(names: tuple[str, ...], colours: tuple[str, ...]) -> ValueMap:
    pairs = enumerate(zip(names, colours, strict=True))
    return ValueMap(
        {
            str(at): ValueMappingResult(text=name, color=colour, index=at)
            for at, (name, colour) in pairs
        }
    )


def _colour(mode: FieldColorModeId) -> dashboard.FieldColor:
    return dashboard.FieldColor().mode(mode)


def _legend() -> common.VizLegendOptions:
    placed = common.VizLegendOptions().show_legend(True).placement(choices.LegendPlacement.BOTTOM)
    return placed.display_mode(choices.LegendDisplayMode.LIST)


def _tooltip() -> common.VizTooltipOptions:
    sorted_down = common.VizTooltipOptions().sort(choices.SortOrder.DESCENDING)
    return sorted_down.mode(choices.TooltipDisplayMode.MULTI)

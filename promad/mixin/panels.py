"""How panels look: one function for each kind, with the colours and mappings they share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    prometheus,
    stat,
    statetimeline,
    statushistory,
    table,
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
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from promad.events.verdict import State

Query = tuple[str, str]
"""PromQL, and what the legend calls its series."""

Kind = Literal["range", "instant", "table"]
"""Whether a query is for values over time, or for the newest ones, as series or as rows."""

DATASOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")

Colours = Mapping[str, str]
"""What the numbers 0, 1, ... mean, in order, each with its colour."""

STATE_COLOURS: Colours = dict(zip(State, ("light-blue", "green", "red", "purple"), strict=True))
DOWN_UP: Colours = {"down": "red", "up": "green"}
FAILED_WORKED: Colours = {"failed": "red", "worked": "green"}
HEALTHY_IS_LOW = (("green", None), ("red", 1.0))
HEALTHY_IS_HIGH = (("red", None), ("green", 1.0))
PLAIN = (("blue", None),)

Steps = tuple[tuple[str, float | None], ...]
"""Colours, each with the value from which it holds; None is the lowest."""


def lines(title: str, description: str, unit: str, *queries: Query) -> timeseries.Panel:
    """Lines over time, half the dashboard wide."""
    panel = filled(timeseries.Panel(), title, description, unit, queries)
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
    return panel.thresholds(absolute((("transparent", None), ("red", limit)))).thresholds_style(
        style
    )


def logarithmic(panel: timeseries.Panel) -> timeseries.Panel:
    """The same lines on a logarithmic axis, where what is small is seen beside what is large."""
    scale = common.ScaleDistributionConfig().type(choices.ScaleDistribution.LOG).log(10)
    return panel.scale_distribution(scale)


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
    panel = filled(stat.Panel(), title, description, unit, (query,), kind="instant")
    return (
        panel.span(4)
        .height(4)
        .thresholds(absolute(steps))
        .graph_mode(choices.BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )


def label(title: str, description: str, query: Query) -> stat.Panel:
    """The legend of a series whose value says nothing, such as that of an info metric."""
    return number(title, description, "none", query).text_mode(choices.BigValueTextMode.NAME)


def stacked(panel: timeseries.Panel, colours: Colours) -> timeseries.Panel:
    """The same lines as areas upon each other, coloured by their legend."""
    stacking = common.StackingConfig().mode(choices.StackingMode.NORMAL).group("A")
    for name, colour in colours.items():
        fixed = {"mode": "fixed", "fixedColor": colour}
        panel.override_by_name(name, [DynamicConfigValue("color", fixed)])
    return panel.stacking(stacking).fill_opacity(40)


def columns(panel: timeseries.Panel) -> timeseries.Panel:
    """The same as one column for each of the last thirty days."""
    drawn = panel.draw_style(choices.GraphDrawStyle.BARS).fill_opacity(60)
    return drawn.interval("1d").time_from("30d")


def bars(
    title: str, description: str, unit: str, query: Query, steps: Steps | None = None
) -> bargauge.Panel:
    """One horizontal bar for each series, of its newest value.

    Without `steps` it is the hotter, the larger.
    """
    panel = filled(bargauge.Panel(), title, description, unit, (query,), kind="instant")
    panel.color_scheme(_colour(FieldColorModeId.CONTINUOUS_YL_RD))
    if steps is not None:
        panel.color_scheme(_colour(FieldColorModeId.THRESHOLDS)).thresholds(absolute(steps))
    return (
        panel.span(12)
        .height(8)
        .min(0)
        .orientation(choices.VizOrientation.HORIZONTAL)
        .display_mode(choices.BarGaugeDisplayMode.GRADIENT)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )


def heat(
    title: str, description: str, unit: str, query: Query, steps: Steps
) -> statushistory.Panel:
    """A row of cells for each series, coloured by `steps`."""
    panel = filled(statushistory.Panel(), title, description, unit, (query,))
    return (
        panel.span(12)
        .height(10)
        .max_data_points(100)
        .show_value(choices.VisibilityMode.NEVER)
        .color_scheme(_colour(FieldColorModeId.THRESHOLDS))
        .thresholds(absolute(steps))
        .legend(common.VizLegendOptions().show_legend(False))
    )


def states(title: str, description: str, colours: Colours, query: Query) -> statetimeline.Panel:
    """A band for each series, coloured and named by its whole numbers 0, 1, ..."""
    panel = filled(statetimeline.Panel(), title, description, "none", (query,))
    return (
        panel.span(24)
        .height(6)
        .mappings([mapping(colours)])
        .show_value(choices.VisibilityMode.AUTO)
        .legend(_legend())
    )


def mapped(panel: stat.Panel, colours: Colours) -> stat.Panel:
    """The same number shown as the name of what it means."""
    return panel.mappings([mapping(colours)])


def filled[
    Panel: (
        bargauge.Panel,
        stat.Panel,
        statetimeline.Panel,
        statushistory.Panel,
        table.Panel,
        timeseries.Panel,
    )
](
    panel: Panel,
    title: str,
    description: str,
    unit: str,
    queries: tuple[Query, ...],
    *,
    kind: Kind = "range",
) -> Panel:
    """The panel with what every panel has: words, unit, data source and queries A, B, ..."""
    targets: list[Builder[Dataquery]] = [
        _target(chr(ord("A") + index), query, kind) for index, query in enumerate(queries)
    ]
    panel.title(title).description(description).unit(unit)
    panel.datasource(DATASOURCE).targets(targets)
    return panel


def _target(name: str, query: Query, kind: Kind) -> prometheus.Dataquery:
    expression, legend = query
    target = prometheus.Dataquery().ref_id(name).expr(expression).legend_format(legend)
    target = target.datasource(DATASOURCE)
    if kind == "range":
        return target.range()
    shape = PromQueryFormat.TABLE if kind == "table" else PromQueryFormat.TIME_SERIES
    return target.instant().format(shape)


def absolute(steps: Steps) -> dashboard.ThresholdsConfig:
    """Colours by value."""
    config = dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE)
    return config.steps([Threshold(value=value, color=colour) for colour, value in steps])


def mapping(colours: Colours) -> ValueMap:
    """Whole numbers shown as what they mean."""
    return ValueMap(
        {
            str(at): ValueMappingResult(text=name, color=colour, index=at)
            for at, (name, colour) in enumerate(colours.items())
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

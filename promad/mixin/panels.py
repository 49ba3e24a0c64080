"""Panels: one function for each kind, with the colours and mappings that they share."""

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
from promad.exposition import names
from promad.mixin.promql import Selector

Query = tuple[str, str]
"""PromQL, and the legend of its series."""

Kind = Literal["range", "instant", "table"]
"""Values over time, or the newest ones, as series or as the rows of a table."""

DATASOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")

Colours = Mapping[str, str]
"""The meanings of the numbers 0, 1, ... in order, each with its colour."""

STATE_COLOURS: Colours = dict(zip(State, ("light-blue", "green", "red", "purple"), strict=True))
DOWN_UP: Colours = {"down": "red", "up": "green"}
FAILED_SUCCEEDED: Colours = {"failed": "red", "succeeded": "green"}
HEALTHY_IS_LOW = (("green", None), ("red", 1.0))
HEALTHY_IS_HIGH = (("red", None), ("green", 1.0))
PLAIN = (("blue", None),)

Steps = tuple[tuple[str, float | None], ...]
"""Colours, each with the value from which on it is used; None is the lowest."""


def show_lines(title: str, description: str, unit: str, *queries: Query) -> timeseries.Panel:
    """Lines over time, half the dashboard wide."""
    panel = fill_panel(timeseries.Panel(), title, description, unit, queries)
    return (
        panel.span(12)
        .height(8)
        .line_width(1)
        .fill_opacity(8)
        .show_points(choices.VisibilityMode.NEVER)
        .legend(_build_legend())
        .tooltip(_build_tooltip())
    )


def shade_above(panel: timeseries.Panel, limit: float) -> timeseries.Panel:
    """The same lines with the area from `limit` on shaded red."""
    style = common.GraphThresholdsStyleConfig().mode(choices.GraphThresholdsStyleMode.LINE_AND_AREA)
    steps = (("transparent", None), ("red", limit))
    return panel.thresholds(build_thresholds(steps)).thresholds_style(style)


def scale_logarithmically(panel: timeseries.Panel) -> timeseries.Panel:
    """The same lines on a logarithmic axis, so that small values are visible beside large ones."""
    scale = common.ScaleDistributionConfig().type(choices.ScaleDistribution.LOG).log(10)
    return panel.scale_distribution(scale)


def dash_query(panel: timeseries.Panel, query: str) -> timeseries.Panel:
    """The same lines with those of query A, B, ... dashed and orange."""
    return panel.override_by_query(
        query,
        [
            DynamicConfigValue("color", {"mode": "fixed", "fixedColor": "orange"}),
            DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [8, 6]}),
            DynamicConfigValue("custom.fillOpacity", 0),
        ],
    )


ALIAS_UNITS: Mapping[str, str] = {"bytes": "bytes", "ratio": "percentunit", "seconds": "s"}
"""The unit of a feature by the last word of its alias, as in Prometheus's own names."""


def set_units_by_alias(panel: timeseries.Panel) -> timeseries.Panel:
    """The same lines, each in the unit that the alias of a feature in its legend ends in."""
    for word, unit in ALIAS_UNITS.items():
        panel.override_by_regexp(rf"/_{word}( |$)/", [DynamicConfigValue("unit", unit)])
    return panel


def show_number(
    title: str, description: str, unit: str, query: Query, steps: Steps = PLAIN
) -> stat.Panel:
    """One large number, its colour chosen by `steps`."""
    panel = fill_panel(stat.Panel(), title, description, unit, (query,), kind="instant")
    return (
        panel.span(4)
        .height(4)
        .thresholds(build_thresholds(steps))
        .graph_mode(choices.BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )


def show_highest_score(title: str, select: Selector) -> stat.Panel:
    """The highest score now of what is selected."""
    return (
        show_number(
            title,
            "Highest score of all groups, divided by the threshold; above 1 is anomalous.",
            "none",
            (f"max({select(names.SCORE)})", "score"),
            HEALTHY_IS_LOW,
        )
        .decimals(2)
        .no_value("no score")
    )


def show_legend(title: str, description: str, query: Query) -> stat.Panel:
    """The legend of a series whose value is irrelevant, such as that of an info metric."""
    return show_number(title, description, "none", query).text_mode(choices.BigValueTextMode.NAME)


def stack(panel: timeseries.Panel, colours: Colours) -> timeseries.Panel:
    """The same lines as stacked areas, coloured by their legend."""
    stacking = common.StackingConfig().mode(choices.StackingMode.NORMAL).group("A")
    for name, colour in colours.items():
        fixed = {"mode": "fixed", "fixedColor": colour}
        panel.override_by_name(name, [DynamicConfigValue("color", fixed)])
    return panel.stacking(stacking).fill_opacity(40)


def show_daily_bars(panel: timeseries.Panel) -> timeseries.Panel:
    """The same values as one bar for each of the last 30 days."""
    daily = panel.draw_style(choices.GraphDrawStyle.BARS).fill_opacity(60)
    return daily.interval("1d").time_from("30d")


def show_bars(
    title: str, description: str, unit: str, query: Query, steps: Steps | None = None
) -> bargauge.Panel:
    """One horizontal bar for each series, of its newest value.

    Without `steps`, larger values have hotter colours.
    """
    panel = fill_panel(bargauge.Panel(), title, description, unit, (query,), kind="instant")
    panel.color_scheme(_build_colour(FieldColorModeId.CONTINUOUS_YL_RD))
    if steps is not None:
        by_value = _build_colour(FieldColorModeId.THRESHOLDS)
        panel.color_scheme(by_value).thresholds(build_thresholds(steps))
    return (
        panel.span(12)
        .height(8)
        .min(0)
        .orientation(choices.VizOrientation.HORIZONTAL)
        .display_mode(choices.BarGaugeDisplayMode.GRADIENT)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )


def show_heatmap(
    title: str, description: str, unit: str, query: Query, steps: Steps
) -> statushistory.Panel:
    """A row of cells for each series, coloured by `steps`."""
    panel = fill_panel(statushistory.Panel(), title, description, unit, (query,))
    return (
        panel.span(12)
        .height(10)
        .max_data_points(100)
        .show_value(choices.VisibilityMode.NEVER)
        .color_scheme(_build_colour(FieldColorModeId.THRESHOLDS))
        .thresholds(build_thresholds(steps))
        .legend(common.VizLegendOptions().show_legend(False))
    )


def show_states(
    title: str, description: str, colours: Colours, query: Query
) -> statetimeline.Panel:
    """A band for each series, coloured and named by the meanings of its values 0, 1, ..."""
    panel = fill_panel(statetimeline.Panel(), title, description, "none", (query,))
    return (
        panel.span(24)
        .height(6)
        .mappings([build_mapping(colours)])
        .show_value(choices.VisibilityMode.AUTO)
        .legend(_build_legend())
    )


def show_meaning(panel: stat.Panel, colours: Colours) -> stat.Panel:
    """The same number, shown as its meaning."""
    return panel.mappings([build_mapping(colours)])


def fill_panel[
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
    """The panel with its texts, unit, data source and queries A, B, ..."""
    targets: list[Builder[Dataquery]] = [
        _build_target(chr(ord("A") + index), query, kind) for index, query in enumerate(queries)
    ]
    panel.title(title).description(description).unit(unit)
    panel.datasource(DATASOURCE).targets(targets)
    return panel


def _build_target(name: str, query: Query, kind: Kind) -> prometheus.Dataquery:
    expression, legend = query
    target = prometheus.Dataquery().ref_id(name).expr(expression).legend_format(legend)
    target = target.datasource(DATASOURCE)
    if kind == "range":
        return target.range()
    shape = PromQueryFormat.TABLE if kind == "table" else PromQueryFormat.TIME_SERIES
    return target.instant().format(shape)


def build_thresholds(steps: Steps) -> dashboard.ThresholdsConfig:
    """Colours by value."""
    config = dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE)
    return config.steps([Threshold(value=value, color=colour) for colour, value in steps])


def build_mapping(colours: Colours) -> ValueMap:
    """Shows the numbers 0, 1, ... as their meanings."""
    return ValueMap(
        {
            str(at): ValueMappingResult(text=name, color=colour, index=at)
            for at, (name, colour) in enumerate(colours.items())
        }
    )


def _build_colour(mode: FieldColorModeId) -> dashboard.FieldColor:
    return dashboard.FieldColor().mode(mode)


def _build_legend() -> common.VizLegendOptions:
    legend = common.VizLegendOptions().show_legend(True).placement(choices.LegendPlacement.BOTTOM)
    return legend.display_mode(choices.LegendDisplayMode.LIST)


def _build_tooltip() -> common.VizTooltipOptions:
    tooltip = common.VizTooltipOptions().sort(choices.SortOrder.DESCENDING)
    return tooltip.mode(choices.TooltipDisplayMode.MULTI)

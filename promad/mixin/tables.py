"""Tables: a row for each combination of labels, a column for each query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from grafana_foundation_sdk.builders import common, table
from grafana_foundation_sdk.models.dashboard import DataTransformerConfig, DynamicConfigValue

from promad.mixin.panels import Colours, Steps, build_mapping, build_thresholds, fill_panel


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: its heading.
        unit: of its values.
        expr: PromQL with one value for each row.
        display: further field options of Grafana.
    """

    title: str
    unit: str
    expr: str
    display: Mapping[str, object] = field(default_factory=dict)


def colour_by_meaning(colours: Colours) -> Mapping[str, object]:
    """Display options for the numbers 0, 1, ...: their meanings on their colours."""
    return {
        "mappings": [build_mapping(colours)],
        "custom.cellOptions": {"type": "color-background", "mode": "basic"},
    }


def colour_by_value(steps: Steps) -> Mapping[str, object]:
    """Display options for numbers that are coloured by `steps`."""
    return {
        "thresholds": build_thresholds(steps).build(),
        "custom.cellOptions": {"type": "color-text"},
    }


def show_table(
    labels: Mapping[str, str],
    title: str,
    description: str,
    columns: Sequence[Column],
    link: str,
    opens: str = "Open the detector",
) -> table.Panel:
    """A table over the whole width, sorted by its first column, the highest value first.

    Args:
        labels: the labels that identify a row, each with the title of its column; a click there
            opens `link`. The label `job` is left out unless it is one of them.
        opens: the title of that link.
    """
    queries = tuple((column.expr, column.title) for column in columns)
    panel = fill_panel(table.Panel(), title, description, "none", queries, kind="table")
    joined = DataTransformerConfig("merge", options={})
    panel.span(24).height(10).transformations([joined, _arrange(labels, columns)])
    for name in labels.values():
        links = [{"title": opens, "url": link}]
        panel.override_by_name(name, [DynamicConfigValue("links", links)])
    for column in columns:
        display = {"unit": column.unit, **column.display}
        values = [DynamicConfigValue(*each) for each in display.items()]
        panel.override_by_name(column.title, values)
    order = common.TableSortByFieldState().display_name(columns[0].title).desc(True)
    return panel.sort_by([order])


def _arrange(labels: Mapping[str, str], columns: Sequence[Column]) -> DataTransformerConfig:
    """Labels first, then the values; Grafana calls that of query A `Value #A`."""
    values = {f"Value #{chr(ord('A') + at)}": each.title for at, each in enumerate(columns)}
    titles = {**labels, **values}
    return DataTransformerConfig(
        "organize",
        options={
            "excludeByName": {"Time": True, "job": "job" not in labels},
            "indexByName": {name: at for at, name in enumerate(titles)},
            "renameByName": titles,
        },
    )

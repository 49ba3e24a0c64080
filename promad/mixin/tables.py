"""Tables: a row for each combination of labels, a column for each query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from grafana_foundation_sdk.builders import common, table
from grafana_foundation_sdk.models.dashboard import DataTransformerConfig, DynamicConfigValue

from promad.mixin.panels import Colours, Steps, absolute, filled, mapping


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: stands above it.
        unit: of its values.
        expr: PromQL with one value for each row.
        looks: what else Grafana is to make of it.
    """

    title: str
    unit: str
    expr: str
    looks: Mapping[str, object] = field(default_factory=dict)


def named(colours: Colours) -> Mapping[str, object]:
    """The looks of whole numbers that mean something: its name, on its colour."""
    return {
        "mappings": [mapping(colours)],
        "custom.cellOptions": {"type": "color-background", "mode": "basic"},
    }


def graded(steps: Steps) -> Mapping[str, object]:
    """The looks of numbers whose colour says how bad they are."""
    return {"thresholds": absolute(steps).build(), "custom.cellOptions": {"type": "color-text"}}


def rows_by(
    labels: Mapping[str, str], title: str, description: str, columns: Sequence[Column], link: str
) -> table.Panel:
    """A table over the whole width, the highest value of the first column first.

    Args:
        labels: those that tell rows apart, each with its column's title; a click there leads to
            `link`. All other labels are left out.
    """
    queries = tuple((column.expr, column.title) for column in columns)
    panel = filled(table.Panel(), title, description, "none", queries, kind="table")
    joined = DataTransformerConfig("merge", options={})
    panel.span(24).height(10).transformations([joined, _arranged(labels, columns)])
    for name in labels.values():
        leads = [{"title": "Look closer", "url": link}]
        panel.override_by_name(name, [DynamicConfigValue("links", leads)])
    for column in columns:
        looks = {"unit": column.unit, **column.looks}
        panel.override_by_name(column.title, [DynamicConfigValue(*each) for each in looks.items()])
    worst = common.TableSortByFieldState().display_name(columns[0].title).desc(True)
    return panel.sort_by([worst])


def _arranged(labels: Mapping[str, str], columns: Sequence[Column]) -> DataTransformerConfig:
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

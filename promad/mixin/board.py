"""A dashboard as JSON: rows of panels, with variables, links and events around them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from promad.mixin.panels import DATASOURCE
from promad.mixin.promql import LEGEND, TARGET, Groups, of_process

TAG = "promad"
"""All of promad's dashboards have it; each links to the others by it."""

Rows = Sequence[tuple[str, Sequence[Any]]]
"""Titles of rows, each with its panels."""


def board(
    uid: str, title: str, description: str, groups: Groups, *more_variables: Any
) -> dashboard.Dashboard:
    """An empty dashboard with a choice of job, instance and detector, and events marked on it."""
    link = dashboard.DashboardLink("promad").type(DashboardLinkType.DASHBOARDS).tags([TAG])
    return (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG, "anomaly-detection"])
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .time("now-6h", "now")
        .refresh("30s")
        .timezone("browser")
        .link(link.include_vars(True).keep_time(True))
        .variables([*_variables(groups), *more_variables])
        .annotation(_events(groups))
    )


def as_json(board: dashboard.Dashboard, rows: Rows) -> str:
    """The dashboard with these rows, as JSON."""
    for title, panels in rows:
        board.with_row(dashboard.Row(title))
        for panel in panels:
            board.with_panel(panel)
    document = json.loads(json.dumps(board.build(), cls=JSONEncoder))
    return json.dumps(_tidied(document), indent=2, ensure_ascii=False) + "\n"


def _variables(groups: Groups) -> list[Any]:
    state = f"{groups.prefix}state"
    return [
        dashboard.DatasourceVariable("datasource").label("Data Source").type("prometheus"),
        label_variable("job", "Job", state, "job", ".+"),
        label_variable("instance", "Instance", f"{state}{{{TARGET[0]}}}", "instance", ".+"),
        label_variable("detector", "Detector", of_process(state), "detector", ".*"),
    ]


def label_variable(
    name: str, title: str, selector: str, label: str, everything: str
) -> dashboard.QueryVariable:
    """A variable over a label's values, all of them chosen; `everything` is All's pattern."""
    query = f"label_values({selector}, {label})"
    return (
        dashboard.QueryVariable(name)
        .label(title)
        .datasource(DATASOURCE)
        .query(query)
        .multi(True)
        .include_all(True)
        .all_value(everything)
        .current(VariableOption(selected=True, text="All", value="$__all"))
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
    )


def _events(groups: Groups) -> dashboard.AnnotationQuery:
    """Each event as a coloured region on every panel over time."""
    return (
        dashboard.AnnotationQuery()
        .name("Events")
        .datasource(DATASOURCE)
        .enable(True)
        .icon_color("red")
        .expr(f"{groups.select('is_anomaly_detected')} == 1")
        .title_format("Anomalous")
        .text_format(LEGEND)
        .step("15s")
    )


def _tidied(document: dict[str, Any]) -> dict[str, Any]:
    """The dashboard with its panels and rows numbered from 1 in reading order.

    Variables lose what the SDK gives to all but only interval variables may have, links and events
    what would hide them in a menu, and tables the footer, which newer Grafanas have elsewhere.
    """
    for number, panel in enumerate(document["panels"], start=1):
        panel["id"] = number
        panel.get("options", {}).pop("footer", None)
    for variable in document["templating"]["list"]:
        for name in ("auto", "auto_min", "auto_count"):
            variable.pop(name)
    for shown in (*document["annotations"]["list"], *document["links"]):
        shown.pop("placement")
    return document

"""A dashboard as JSON: rows of panels, with variables, links and annotations."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
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

from promad.exposition import names
from promad.mixin.panels import DATASOURCE
from promad.mixin.promql import LEGEND, Selector, name_variable

TAG = "promad"
"""The tag of all of promad's dashboards, by which they link to each other."""

Rows = Sequence[tuple[str, Sequence[Any]]]
"""Titles of rows, each with its panels."""


def start_board(
    uid: str, title: str, description: str, select: Selector, *more_variables: Any
) -> dashboard.Dashboard:
    """A dashboard without panels: variables for what is monitored, and events marked."""
    link = dashboard.DashboardLink("promad").type(DashboardLinkType.DASHBOARDS).tags([TAG])
    return (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG, "anomaly-detection"])
        .editable()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .time("now-6h", "now")
        .refresh("30s")
        .timezone("browser")
        .link(link.include_vars(True).keep_time(True))
        .variables([*_build_variables(select), *more_variables])
        .annotation(_mark_incidents(select) if select.group_by else _mark_events(select))
        .annotation(_mark_mutes(select))
        .annotation(_mark_versions(select))
    )


def to_json(board: dashboard.Dashboard, rows: Rows, collapsed: Collection[str] = ()) -> str:
    """The dashboard with these rows, as JSON.

    Args:
        collapsed: the titles of rows that are closed at first, and query nothing until opened.
    """
    for title, panels in rows:
        row = dashboard.Row(title)
        if title in collapsed:
            for panel in panels:
                row.with_panel(panel)
        board.with_row(row)
        for panel in panels if title not in collapsed else ():
            board.with_panel(panel)
    document = json.loads(json.dumps(board.build(), cls=JSONEncoder))
    return json.dumps(_tidy(document), indent=2, ensure_ascii=False) + "\n"


def _build_variables(select: Selector) -> list[Any]:
    source = dashboard.DatasourceVariable("datasource").label("Data Source").type("prometheus")
    state = names.STATE.full_name(select.prefix)
    if not select.group_by:
        chosen = f'{state}{{job=~"$job"}}'
        return [
            source,
            build_variable("job", "Job", state, "job", ".+"),
            build_variable("instance", "Instance", chosen, "instance", ".+"),
            build_variable("detector", "Detector", select.select_process(state), "detector", ".*"),
        ]
    return [source, *_build_daemon_variables(select), *_build_group_variables(select)]


def _build_daemon_variables(select: Selector) -> list[Any]:
    """Variables for daemons and their detectors, beside those for groups."""
    job, instance = select.target["job"], select.target["instance"]
    titles = {"job": "Job", "daemon_job": "Job of promad", "instance": "Instance"}
    up = names.BUILD_INFO.name
    models = select.select_process(names.MODEL_INFO.name)
    return [
        build_variable(job, titles[job], up, "job", ".+"),
        build_variable(
            instance, titles.get(instance, "promad"), f'{up}{{job=~"${job}"}}', "instance", ".+"
        ),
        build_variable("detector", "Detector", models, "detector", ".*"),
    ]


def _build_group_variables(select: Selector) -> list[Any]:
    """A variable for each label of the groups; it offers what those before it leave."""
    variables, matchers = [], ['detector=~"$detector"']
    for label in select.group_by:
        name = name_variable(label)
        selector = f"{names.STATE.full_name(select.prefix)}{{{', '.join(matchers)}}}"
        everything = ".+" if label in select.target else ".*"
        variables.append(build_variable(name, label.title(), selector, label, everything))
        matchers.append(f'{label}=~"${name}"')
    return variables


def build_variable(
    name: str, title: str, selector: str, label: str, everything: str
) -> dashboard.QueryVariable:
    """A variable over a label's values, at first All, whose pattern is `everything`."""
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


def _mark_events(select: Selector) -> dashboard.AnnotationQuery:
    """Each event as a coloured region on every panel over time."""
    return (
        dashboard.AnnotationQuery()
        .name("Events")
        .datasource(DATASOURCE)
        .enable(True)
        .icon_color("red")
        .expr(f"{select(names.IS_ANOMALY)} == 1")
        .title_format("Anomalous")
        .text_format(LEGEND)
        .step("15s")
    )


def _mark_incidents(select: Selector) -> dashboard.AnnotationQuery:
    """The time of incidents as a coloured region on every panel over time."""
    return (
        dashboard.AnnotationQuery()
        .name("Incidents")
        .datasource(DATASOURCE)
        .enable(True)
        .icon_color("red")
        .expr(f"{select(names.INCIDENT_OPEN)} > 0")
        .title_format("Incident")
        .text_format(LEGEND)
        .step("15s")
    )


def _mark_mutes(select: Selector) -> dashboard.AnnotationQuery:
    """The time in which groups are muted as a coloured region on every panel over time."""
    return (
        dashboard.AnnotationQuery()
        .name("Muted")
        .datasource(DATASOURCE)
        .enable(False)
        .icon_color("blue")
        .expr(f"max by (detector) ({select(names.MUTED)}) == 1")
        .title_format("Muted")
        .text_format("{{detector}}")
        .step("15s")
    )


def _mark_versions(select: Selector) -> dashboard.AnnotationQuery:
    """Each version that was deployed as a line on every panel over time."""
    return (
        dashboard.AnnotationQuery()
        .name("Versions")
        .datasource(DATASOURCE)
        .enable(True)
        .icon_color("purple")
        .expr(f"{select(names.MARKER_AT)} * 1000")
        .title_format("{{marker}} {{version}}")
        .text_format("{{detector}}")
        .step("60s")
        .use_value_for_time(True)
    )


def _list_panels(panels: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows and panels in reading order, with those in collapsed rows."""
    for panel in panels:
        yield panel
        yield from panel.get("panels", ())


def _tidy(document: dict[str, Any]) -> dict[str, Any]:
    """The dashboard with its panels and rows numbered from 1 in reading order.

    Removes what the SDK sets by mistake: settings of interval variables on all variables, a
    placement that hides links and annotations in a menu, and a footer option of tables that newer
    versions of Grafana have elsewhere.
    """
    for number, panel in enumerate(_list_panels(document["panels"]), start=1):
        panel["id"] = number
        panel.get("options", {}).pop("footer", None)
    for variable in document["templating"]["list"]:
        for name in ("auto", "auto_min", "auto_count"):
            variable.pop(name)
    for shown in (*document["annotations"]["list"], *document["links"]):
        shown.pop("placement")
    return document

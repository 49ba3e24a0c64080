"""Writes dashboards/promad.json: `python -m grafana.build`.

The committed file is for promad's default metric names. If yours begin otherwise, or if your
groups are told apart by a label of another name, build your own:

    python -m grafana.build --prefix my_prefix_ --group-label host --output my.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from grafana.looks import DATASOURCE
from grafana.panels import events, rows
from grafana.promql import TARGET, Groups, of_detector, of_process

COMMITTED = Path(__file__).parent / "dashboards" / "promad.json"


def build(groups: Groups) -> str:
    """The dashboard as JSON text."""
    board = _board()
    board.variables(_variables(groups)).annotation(_events(groups))
    for title, panels in rows(groups):
        board.with_row(dashboard.Row(title))
        for panel in panels:
            board.with_panel(panel)
    document = json.loads(json.dumps(board.build(), cls=JSONEncoder))
    return json.dumps(_tidied(document), indent=2, ensure_ascii=False) + "\n"


def _board() -> dashboard.Dashboard:
    return (
        dashboard.Dashboard("promad")
        .uid("promad")
        .description("Anomalies that promad finds, which features are to blame, and its health.")
        .tags(["promad", "anomaly-detection"])
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .time("now-6h", "now")
        .refresh("30s")
        .timezone("browser")
    )


def _variables(groups: Groups) -> list[Any]:
    source = dashboard.DatasourceVariable("datasource").label("Data Source").type("prometheus")
    state = f"{groups.prefix}state"
    return [
        source,
        _labels("job", "Job", state, "job", ".+"),
        _labels("instance", "Instance", f"{state}{{{TARGET[0]}}}", "instance", ".+"),
        _labels("detector", "Detector", of_process(state), "detector", ".*"),
        _labels("group", "Group", of_detector(state), groups.label, ".*"),
        _labels(
            "feature",
            "Feature",
            groups.select("feature_contribution_ratio"),
            "feature_name",
            ".+",
        ),
    ]


def _labels(
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
        .expr(events(groups))
        .title_format("Anomalous")
        .text_format(groups.legend)
        .step("15s")
    )


def _tidied(document: dict[str, Any]) -> dict[str, Any]:
    """The dashboard with its panels and rows numbered from 1 in reading order.

    Variables lose what the SDK gives to all but only interval variables may have, and the events
    what would hide their switch in a menu.
    """
    for number, panel in enumerate(document["panels"], start=1):
        panel["id"] = number
    for variable in document["templating"]["list"]:
        for name in ("auto", "auto_min", "auto_count"):
            variable.pop(name)
    for annotation in document["annotations"]["list"]:
        annotation.pop("placement")
    return document


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prefix", default=Groups.prefix, help="how metric names begin")
    parser.add_argument("--group-label", default=Groups.label, help="what tells groups apart")
    parser.add_argument("--output", type=Path, default=COMMITTED, help="the file to write")
    chosen = parser.parse_args()
    chosen.output.write_text(build(Groups(chosen.prefix, chosen.group_label)), encoding="utf-8")
    print(chosen.output)


if __name__ == "__main__":
    main()

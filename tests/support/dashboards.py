"""The committed dashboards for tests: their panels, their PromQL, and values of variables."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "grafana" / "dashboards"
RECORDING_RULES = ROOT / "deploy" / "prometheus" / "promad-recording.yaml"

NAMES = ("promad", "promad-fleet", "promad-health")
"""Their uids, which are also their files' names."""

EVERYTHING = {
    "job": ".+",
    "instance": ".+",
    "daemon": ".+",
    "detector": ".*",
    "feature": ".+",
    "__rate_interval": "1m",
    "__range": "1h",
}
"""The value of each variable when everything is selected."""


def committed(name: str = "promad", folder: Path = FOLDER) -> dict[str, Any]:
    """A dashboard as shipped, or from the folder of another mixin."""
    document: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return document


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every panel, those in collapsed rows too; rows themselves are left out."""
    for panel in dashboard["panels"]:
        yield from panel.get("panels", ())
        if panel["type"] != "row":
            yield panel


def targets(dashboard: dict[str, Any]) -> list[tuple[str, str]]:
    """Each panel's title with the PromQL of each of its queries, variables still in it."""
    return [
        (panel["title"], target["expr"])
        for panel in panels(dashboard)
        for target in panel["targets"]
    ]


def every_target(folder: Path = FOLDER) -> list[tuple[str, str]]:
    """Each query of all dashboards: its panel, and its PromQL, variables still in it."""
    return [
        (f"{name}: {title}", expr)
        for name in NAMES
        for title, expr in targets(committed(name, folder))
    ]


def list_received(folder: Path = FOLDER) -> set[str]:
    """The panels about remote write, which are empty where a daemon polls."""
    return {where for where, expr in every_target(folder) if "promad_remote_write_" in expr}


def substitute(expr: str, **chosen: str) -> str:
    """The PromQL with every variable replaced: by `chosen`, else so that it selects everything.

    >>> substitute('rate(x{job=~"$job"}[$__rate_interval])', job="promad")
    'rate(x{job=~"promad"}[1m])'
    """
    values = EVERYTHING | chosen
    return re.sub(r"\$\{?(\w+)\}?", lambda found: values[found.group(1)], expr)

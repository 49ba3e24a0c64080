"""The committed dashboard for tests: its panels, their PromQL, and what variables stand for."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

with warnings.catch_warnings():  # the SDK calls the schema that Grafana provisions from files old
    warnings.simplefilter("ignore", DeprecationWarning)
    from grafana import promql
    from grafana.build import COMMITTED, build
    from grafana.looks import STATES
    from grafana.promql import Groups

__all__ = [
    "COMMITTED",
    "FOLDER",
    "STATES",
    "Groups",
    "build",
    "committed",
    "panels",
    "promql",
    "substitute",
    "targets",
]

FOLDER = Path(COMMITTED).parent.parent

EVERYTHING = {
    "job": ".+",
    "instance": ".+",
    "detector": ".*",
    "group": ".*",
    "feature": ".+",
    "__rate_interval": "1m",
    "__range": "1h",
}
"""What each variable stands for when everything is chosen."""


def committed() -> dict[str, Any]:
    """The dashboard as it is shipped."""
    document: dict[str, Any] = json.loads(COMMITTED.read_text(encoding="utf-8"))
    return document


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every panel that shows something: rows are left out, what they hide is not."""
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


def substitute(expr: str, **chosen: str) -> str:
    """The PromQL with every variable replaced: by `chosen`, else so that it means everything.

    >>> substitute('rate(x{job=~"$job"}[$__rate_interval])', job="promad")
    'rate(x{job=~"promad"}[1m])'
    """
    values = EVERYTHING | chosen
    return re.sub(r"\$\{?(\w+)\}?", lambda found: values[found.group(1)], expr)

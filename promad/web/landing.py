"""The landing page: every group's state in plain HTML, refreshed by the browser."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import promad
from promad.config.durations import format_instant
from promad.exporter import GroupStatus, Snapshot
from promad.verdict import FeatureView

_REFRESH_SECONDS = 5

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; }
th, td { padding: .2rem .8rem .2rem 0; text-align: left; font-variant-numeric: tabular-nums; }
.anomalous { color: #d22; font-weight: bold; } .blind { color: #b60; font-weight: bold; }
"""


def landing_page(snapshots: Sequence[Snapshot]) -> str:
    """The page as HTML; whatever comes from configuration or a server is escaped."""
    bodies = "".join(_detector(snapshot) for snapshot in snapshots)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>promad</title>'
        '<meta name="viewport" content="width=device-width">'
        f'<meta http-equiv="refresh" content="{_REFRESH_SECONDS}"><style>{_STYLE}</style></head>'
        f"<body><h1>promad {escape(promad.__version__)}</h1>{bodies}"
        '<p><a href="/metrics">Metrics</a> · <a href="/-/healthy">Healthy</a> · '
        '<a href="/-/ready">Ready</a></p></body></html>'
    )


def _detector(snapshot: Snapshot) -> str:
    failed = "".join(
        f"<li><b>{escape(alias)}</b>: {escape(why)}</li>" for alias, why in snapshot.failed_queries
    )
    problems = f"<p>Failed queries:</p><ul>{failed}</ul>" if failed else ""
    groups = "".join(_group(status) for status in snapshot.groups)
    return f"<h2>{escape(snapshot.detector)}</h2>{groups}{problems}"


def _group(status: GroupStatus) -> str:
    verdict = status.verdict
    name = ", ".join(f"{label}={value}" for label, value in status.group)
    why = f" — {escape(verdict.why)}" if verdict.why else ""
    rows = [
        ("Sample", format_instant(verdict.at)),
        ("Score (above 1 is anomalous)", _number(verdict.score_ratio)),
        ("MSE", _number(verdict.mse)),
        ("Threshold", _number(verdict.threshold)),
        ("Samples in the window", str(status.samples_in_window)),
        ("Events begun", str(status.events_begun)),
    ]
    if status.event is not None:
        rows.append(("Event open since", format_instant(status.event.start)))
    cells = "".join(f"<tr><th>{escape(key)}</th><td>{escape(text)}</td></tr>" for key, text in rows)
    state = f'<p>{escape(name)} <span class="{verdict.state}">{verdict.state}</span>{why}</p>'
    return f"{state}<table>{cells}</table>{_features(verdict.top_features)}"


def _features(views: Sequence[FeatureView]) -> str:
    if not views:
        return ""
    rows = "".join(
        f"<tr><td>{escape(view.name)}</td><td>{view.contribution:.0%}</td>"
        f"<td>{_number(view.observed)}</td><td>{_number(view.expected)}</td>"
        f"<td>{_since(view)}</td></tr>"
        for view in views
    )
    return (
        "<table><thead><tr><th>Feature</th><th>Share of the excess</th><th>Observed</th>"
        f"<th>Expected</th><th>Deviating since</th></tr></thead><tbody>{rows}</tbody></table>"
    )


def _since(view: FeatureView) -> str:
    if view.since is None:
        return "within its usual error"
    return f"{format_instant(view.since)}, {view.direction}, {view.elevation:.3g} times the usual"


def _number(value: float | None) -> str:
    return "unknown" if value is None or not math.isfinite(value) else f"{value:.4g}"

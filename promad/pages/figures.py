"""Plotly figures as plain values: what a page's script passes to `Plotly.newPlot`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

Figure = Mapping[str, Any]
"""A figure: its data and its layout."""


def escape_label(text: str) -> str:
    """Text that plotly shows literally: in labels and titles it interprets tags and entities.

    >>> escape_label("<b>&")
    '&lt;b&gt;&amp;'
    """
    return escape(text, quote=False)


def create_line(
    name: str, x: Sequence[Any], y: Sequence[float | None], **style: Any
) -> dict[str, Any]:
    """A trace of values over `x`; None is a gap."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": list(x),
        "y": list(y),
        "line": style,
    }


def create_heat_map(
    names: Sequence[str], x: Sequence[Any], z: Sequence[Sequence[float | None]], highest: float
) -> dict[str, Any]:
    """A trace of one row of colours for each name, the last on top; colours span 0 to `highest`."""
    return {
        "type": "heatmap",
        "x": list(x),
        "y": [escape_label(name) for name in names],
        "z": [list(row) for row in z],
        "zmin": 0,
        "zmax": highest,
        "colorscale": "Cividis",
    }


def create_band(start: Any, end: Any, colour: str) -> dict[str, Any]:
    """A shape over the whole height from `start` to `end` of the x axis."""
    return {
        "type": "rect",
        "xref": "x",
        "yref": "paper",
        "layer": "below",
        "x0": start,
        "x1": end,
        "y0": 0,
        "y1": 1,
        "fillcolor": colour,
        "line": {"width": 0},
    }


def create_mark(at: Any, text: str, colour: str) -> dict[str, Any]:
    """A dotted line over the whole height at a place of the x axis, with a label."""
    return {
        "type": "line",
        "xref": "x",
        "yref": "paper",
        "x0": at,
        "x1": at,
        "y0": 0,
        "y1": 1,
        "line": {"color": colour, "width": 1.5, "dash": "dot"},
        "label": {"text": escape_label(text), "textposition": "end", "font": {"size": 11}},
    }


def create_layout(x: str, y: str, shapes: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """A layout with titles of the axes, and shapes."""
    return {
        "margin": {"l": 60, "r": 20, "t": 10, "b": 45},
        "xaxis": {"title": {"text": escape_label(x)}},
        "yaxis": {"title": {"text": escape_label(y)}, "automargin": True},
        "shapes": list(shapes),
    }

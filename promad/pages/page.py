"""Pages that need no network and no file beside them, with charts by plotly."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from promad.files import written_whole

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem;
       padding: 0 1rem; color: #1c2128; background: #fff; }
table { border-collapse: collapse; display: block; overflow-x: auto; margin: 0 0 1.5rem; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #d5d9df; text-align: right;
         font-variant-numeric: tabular-nums; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
.chart { height: 20rem; margin-bottom: 1rem; }
"""

Figure = Mapping[str, Any]
"""A plotly figure as plain values: data and layout."""


def write_page(path: Path, title: str, parts: Iterable[str]) -> None:
    """Write a page, plotly's script within it.

    Raises:
        DataError: if it cannot be written.
    """
    from plotly.offline import get_plotlyjs

    with written_whole(path) as aside, aside.open("w", encoding="utf-8") as page:
        page.write('<!doctype html>\n<html lang="en"><head><meta charset="utf-8">')
        page.write('<meta name="viewport" content="width=device-width">')
        page.write(f"<title>{escape(title)}</title><style>{_STYLE}</style>")
        page.write(f"<script>{get_plotlyjs()}</script></head><body>\n<h1>{escape(title)}</h1>\n")
        page.writelines(f"{part}\n" for part in parts)
        page.write("</body></html>\n")


def table(headings: Sequence[str], rows: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """A table whose rows are named in the first column."""
    yield "<table><tr><th></th>" + _cells("th", headings) + "</tr>"
    for row, texts in rows.items():
        yield f"<tr><td>{escape(row)}</td>{_cells('td', texts)}</tr>"
    yield "</table>"


def _cells(tag: str, texts: Iterable[str]) -> str:
    return "".join(f"<{tag}>{escape(text)}</{tag}>" for text in texts)


def chart(name: str, figure: Figure) -> Iterator[str]:
    """A chart; `name` is a word that no other on the page has."""
    yield f'<div class="chart" id="{name}"></div>'
    yield (
        f'<script>Plotly.newPlot("{name}", {in_script(figure["data"])}, '
        f"{in_script(figure['layout'])}, {{responsive: true}});</script>"
    )


def in_script(value: Any) -> str:
    """JSON that nothing in it can end the script."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def line(name: str, x: Sequence[Any], y: Sequence[float | None], **style: Any) -> dict[str, Any]:
    """A trace of values over `x`; None is a gap."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": list(x),
        "y": list(y),
        "line": style,
    }


def band(start: Any, end: Any, colour: str) -> dict[str, Any]:
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


def layout(x: str, y: str, shapes: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """A layout with titles of the axes, and shapes."""
    return {
        "margin": {"l": 60, "r": 20, "t": 10, "b": 45},
        "xaxis": {"title": {"text": x}},
        "yaxis": {"title": {"text": y}},
        "shapes": list(shapes),
    }

"""What an evaluation found as one page: it needs no network, and no file beside it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from promad.evaluation.figures import Figures
from promad.evaluation.ranking import VUS_NARROW_WINDOW, VUS_WINDOW
from promad.files import written_whole
from promad.stages.evaluation_outcome import Evaluation, sequence_figures
from promad.stages.evaluation_rows import Chart

_KEY_FIGURES = {
    "VUS-PR": "vus_pr",
    "VUS-ROC": "vus_roc",
    "AUC-PR": "auc_pr",
    f"VUS-PR, {VUS_NARROW_WINDOW} wide": f"vus_{VUS_NARROW_WINDOW}_pr",
    "event recall": "event_recall",
    "alarm precision": "alarm_precision",
    "false episodes a week": "false_episodes_per_week",
    "median delay, s": "delay_median_seconds",
    "affiliation F1": "affiliation_f1",
    "range F1": "range_f1",
    "Hit@100": "sample_hit_rate_at_100",
    "Hit@150": "sample_hit_rate_at_150",
    "NDCG@100": "sample_ndcg_at_100",
    "NAB standard": "nab_standard",
}

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem;
       padding: 0 1rem; color: #1c2128; background: #fff; }
table { border-collapse: collapse; display: block; overflow-x: auto; margin: 0 0 1.5rem; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #d5d9df; text-align: right;
         font-variant-numeric: tabular-nums; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
.chart { height: 20rem; margin-bottom: 1rem; }
"""

_SCORE, _LIMIT, _LABEL = "#2f6db5", "#8a4b08", "rgba(200, 60, 60, 0.18)"


def write_report(path: Path, found: Evaluation) -> None:
    """Write the page.

    Raises:
        DataError: if it cannot be written.
    """
    from plotly.offline import get_plotlyjs

    with written_whole(path) as aside:
        aside.write_text(_page(found, get_plotlyjs()), encoding="utf-8")


def _page(found: Evaluation, library: str) -> str:
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><title>promad evaluate</title>',
        f"<style>{_STYLE}</style><script>{library}</script></head><body>",
        "<h1>promad evaluate</h1>",
        *_summary(found),
        *_by_entity(found),
        *_charts(found),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _summary(found: Evaluation) -> Iterator[str]:
    yield (
        f"<p>{len(found.found)} entities, {len(found.seeds)} seeds, models: "
        f"{escape(', '.join(found.models))}. VUS over {VUS_WINDOW} samples unless it says "
        "otherwise; recall, precision and false episodes at the threshold that training chose; "
        "no point adjustment.</p>"
    )
    for name, message in found.failed.items():
        yield f"<p><strong>{escape(name)}</strong> failed: {escape(message)}</p>"
    for heading, summed in (("Mean", found.mean), ("Median", found.median)):
        yield f"<h2>{heading} over entities</h2>"
        yield from _figures_table({row: summed(row) for row in found.row_names})
    counted = {row: some for row in found.row_names if (some := found.sequences(row)) is not None}
    if counted:
        yield "<h2>Known sequences, all entities together</h2>"
        rows = {row: sequence_figures(each) for row, each in counted.items()}
        yield from _table([*next(iter(rows.values()))], rows)
    scored = {row: each for row in found.row_names if (each := found.nab(row)) is not None}
    for how in ("optimised", "at_threshold") if scored else ():
        yield f"<h2>NAB score, {how.replace('_', ' ')}</h2>"
        rows = {row: each[how] for row, each in scored.items()}
        yield from _table([*next(iter(rows.values()))], rows)


def _by_entity(found: Evaluation) -> Iterator[str]:
    yield "<h2>Each entity</h2>"
    of_rows = {row: found.entity_figures(row) for row in found.row_names}
    for entity in found.found:
        yield f"<h3>{escape(entity)}</h3>"
        yield from _figures_table({row: of_rows[row][entity] for row in found.row_names})


def _figures_table(rows: Mapping[str, Figures]) -> Iterator[str]:
    """The key figures that any row has."""
    shown = {
        title: name
        for title, name in _KEY_FIGURES.items()
        if any(name in figures for figures in rows.values())
    }
    named = {
        row: {title: figures.get(name, math.nan) for title, name in shown.items()}
        for row, figures in rows.items()
    }
    yield from _table([*shown], named)


def _table(headings: Sequence[str], rows: Mapping[str, Figures]) -> Iterator[str]:
    yield "<table><tr><th></th>" + _cells("th", headings) + "</tr>"
    for row, figures in rows.items():
        values = (_shown(figures[heading]) for heading in headings)
        yield f"<tr><td>{escape(row)}</td>{_cells('td', values)}</tr>"
    yield "</table>"


def _cells(tag: str, texts: Iterable[str]) -> str:
    return "".join(f"<{tag}>{escape(text)}</{tag}>" for text in texts)


def _shown(value: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _charts(found: Evaluation) -> Iterator[str]:
    """A chart for each entity and each row that has one, of the first seed."""
    yield "<h2>Scores and thresholds</h2><p>Of each stretch of samples the worst; labelled "
    yield f"segments are shaded. Seed {found.seeds[0]}.</p>"
    charts = (
        (f"{entity}, {name}", row.chart)
        for entity, by_seed in found.found.items()
        for name, row in by_seed[found.seeds[0]].items()
        if row.chart is not None
    )
    for number, (title, chart) in enumerate(charts):
        figure = chart_figure(chart)
        yield f"<h3>{escape(title)}</h3>"
        yield f'<div class="chart" id="chart-{number}"></div>'
        yield (
            f'<script>Plotly.newPlot("chart-{number}", {_in_script(figure["data"])}, '
            f"{_in_script(figure['layout'])}, {{responsive: true}});</script>"
        )


def chart_figure(chart: Chart) -> dict[str, Any]:
    """A plotly figure as plain values: the score, the threshold, and labelled segments shaded."""
    rows = list(chart.rows)
    return {
        "data": [
            _line("score", rows, chart.scores, {"color": _SCORE, "width": 1}),
            _line("threshold", rows, chart.limits, {"color": _LIMIT, "width": 1.5}),
        ],
        "layout": {
            "margin": {"l": 60, "r": 20, "t": 10, "b": 45},
            "xaxis": {"title": {"text": "row of the test part"}},
            "yaxis": {"title": {"text": "score"}},
            "shapes": [
                {
                    "type": "rect",
                    "xref": "x",
                    "yref": "paper",
                    "layer": "below",
                    "x0": start,
                    "x1": end,
                    "y0": 0,
                    "y1": 1,
                    "fillcolor": _LABEL,
                    "line": {"width": 0},
                }
                for start, end in chart.segments
            ],
        },
    }


def _line(
    name: str, rows: Sequence[int], values: Sequence[float | None], line: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": rows,
        "y": list(values),
        "line": dict(line),
    }


def _in_script(value: Any) -> str:
    """JSON that nothing in it can end the script."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")

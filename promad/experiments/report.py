"""What an evaluation found as one page: it needs no network, and no file beside it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from promad.evaluation.figures import Figures
from promad.evaluation.ranking import VUS_NARROW_WINDOW, VUS_WINDOW
from promad.experiments.outcome import Evaluation, sequence_figures
from promad.experiments.rows import Chart
from promad.pages.page import band, chart, layout, line, table, write_page

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

_SCORE, _LIMIT, _LABEL = "#2f6db5", "#8a4b08", "rgba(200, 60, 60, 0.18)"


def write_report(path: Path, found: Evaluation) -> None:
    """Write the page.

    Raises:
        DataError: if it cannot be written.
    """
    parts = (*_summary(found), *_by_entity(found), *_charts(found))
    write_page(path, "promad evaluate", parts)


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
    shown = {row: [_shown(each[heading]) for heading in headings] for row, each in rows.items()}
    yield from table(headings, shown)


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
    for number, (title, each) in enumerate(charts):
        yield f"<h3>{escape(title)}</h3>"
        yield from chart(f"chart-{number}", chart_figure(each))


def chart_figure(drawn: Chart) -> dict[str, Any]:
    """A plotly figure as plain values: the score, the threshold, and labelled segments shaded."""
    return {
        "data": [
            line("score", drawn.rows, drawn.scores, color=_SCORE, width=1),
            line("threshold", drawn.rows, drawn.limits, color=_LIMIT, width=1.5),
        ],
        "layout": layout(
            "row of the test part",
            "score",
            [band(start, end, _LABEL) for start, end in drawn.segments],
        ),
    }

"""The results of an evaluation as one page that works offline."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from promad.evaluation.figures import Figures
from promad.evaluation.ranking import VUS_NARROW_WINDOW, VUS_WINDOW
from promad.experiments.outcome import Evaluation, sequence_figures
from promad.experiments.rows import Chart
from promad.pages.figures import Figure, create_band, create_layout, create_line
from promad.pages.rendering import write_page

_KEY_FIGURES = {
    "VUS-PR": "vus_pr",
    "VUS-ROC": "vus_roc",
    "AUC-PR": "auc_pr",
    f"VUS-PR, window {VUS_NARROW_WINDOW}": f"vus_{VUS_NARROW_WINDOW}_pr",
    "event recall": "event_recall",
    "alarm precision": "alarm_precision",
    "false episodes per week": "false_episodes_per_week",
    "median delay, s": "delay_median_seconds",
    "median overhang, s": "overhang_median_seconds",
    "overhang p90, s": "overhang_p90_seconds",
    "peak lag p90, s": "peak_lag_p90_seconds",
    "fragments": "fragments_mean",
    "coverage": "coverage_mean",
    "affiliation F1": "affiliation_f1",
    "range F1": "range_f1",
    "Hit@100": "sample_hit_rate_at_100",
    "Hit@150": "sample_hit_rate_at_150",
    "NDCG@100": "sample_ndcg_at_100",
    "NAB standard": "nab_standard",
}

_SCORE, _LIMIT, _LABEL = "#2f6db5", "#8a4b08", "rgba(200, 60, 60, 0.18)"


@dataclass(frozen=True)
class TableSection:
    """A table under a heading; `rows` maps the name of each row to its cells."""

    heading: str
    columns: Sequence[str]
    rows: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class ChartSection:
    """A chart under a heading; `id` is unique on the page."""

    heading: str
    id: str
    figure: Figure


def write_report(path: Path, found: Evaluation) -> None:
    """Write the page.

    Raises:
        DataError: if it cannot be written.
    """
    write_page(
        path,
        "evaluation.html",
        summary=_summarise(found),
        vus_window=VUS_WINDOW,
        failed=found.failed,
        tables=list(_list_tables(found)),
        entities=list(_list_entities(found)),
        seed=found.seeds[0],
        charts=_list_charts(found),
    )


def _summarise(found: Evaluation) -> str:
    entities = f"{len(found.found)} {'entity' if len(found.found) == 1 else 'entities'}"
    seeds = f"{len(found.seeds)} seed{'' if len(found.seeds) == 1 else 's'}"
    return f"{entities}, {seeds}, models: {', '.join(found.models)}."


def _list_tables(found: Evaluation) -> Iterator[TableSection]:
    """The tables over all entities."""
    for name, summarise in (("Mean", found.mean), ("Median", found.median)):
        rows = {row: summarise(row) for row in found.row_names}
        yield _create_key_table(f"{name} over entities", rows)
    sequences = {
        row: sequence_figures(counts)
        for row in found.row_names
        if (counts := found.sequences(row)) is not None
    }
    if sequences:
        yield _create_table("Labelled sequences of all entities", sequences)
    nab = {row: scores for row in found.row_names if (scores := found.nab(row)) is not None}
    for how in ("by_event", "at_threshold", "optimised") if nab else ():
        rows = {row: scores[how] for row, scores in nab.items()}
        yield _create_table(f"NAB score, {how.replace('_', ' ')}", rows)


def _list_entities(found: Evaluation) -> Iterator[TableSection]:
    figures = {row: found.entity_figures(row) for row in found.row_names}
    for entity in found.found:
        yield _create_key_table(entity, {row: figures[row][entity] for row in found.row_names})


def _create_key_table(heading: str, rows: Mapping[str, Figures]) -> TableSection:
    """The key figures that at least one row has."""
    columns = {
        title: name
        for title, name in _KEY_FIGURES.items()
        if any(name in figures for figures in rows.values())
    }
    titled = {
        row: {title: figures.get(name, math.nan) for title, name in columns.items()}
        for row, figures in rows.items()
    }
    return _create_table(heading, titled)


def _create_table(heading: str, rows: Mapping[str, Figures]) -> TableSection:
    columns = list(next(iter(rows.values()), {}))
    cells = {row: [_format(each[column]) for column in columns] for row, each in rows.items()}
    return TableSection(heading, columns, cells)


def _format(value: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _list_charts(found: Evaluation) -> list[ChartSection]:
    """A chart for each entity and each row that has one, of the first seed."""
    charts = [
        (f"{entity}, {name}", row.chart)
        for entity, by_seed in found.found.items()
        for name, row in by_seed[found.seeds[0]].items()
        if row.chart is not None
    ]
    return [
        ChartSection(heading, f"chart-{number}", draw_chart(chart))
        for number, (heading, chart) in enumerate(charts)
    ]


def draw_chart(chart: Chart) -> Figure:
    """The score and the threshold over time, labelled segments shaded."""
    bands = [create_band(start, end, _LABEL) for start, end in chart.segments]
    return {
        "data": [
            create_line("score", chart.rows, chart.scores, color=_SCORE, width=1),
            create_line("threshold", chart.rows, chart.limits, color=_LIMIT, width=1.5),
        ],
        "layout": create_layout("row of the test part", "score", bands),
    }

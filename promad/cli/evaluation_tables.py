"""The tables of an evaluation, and the lines about its finished tasks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from promad.cli.output import format_count
from promad.config.durations import format_duration

if TYPE_CHECKING:
    from promad.experiments.outcome import Evaluation
    from promad.stages.evaluate import Progress

_OPERATING = {
    "recall": "event_recall",
    "precision": "alarm_precision",
    "false/week": "false_episodes_per_week",
    "delay": "delay_median_seconds",
    "delay p90": "delay_p90_seconds",
    "affil. F1": "affiliation_f1",
    "event F1": "event_f1",
    "range F1": "range_f1",
}
_EXTENTS = {
    "overhang": "overhang_median_seconds",
    "p90": "overhang_p90_seconds",
    "samples": "overhang_median_samples",
    "p90 ": "overhang_p90_samples",
    "lag p90": "peak_lag_p90_seconds",
    "fragments": "fragments_mean",
    "coverage": "coverage_mean",
}
_INJECTED = {"shifts": "shifts", "recall": "event_recall", **_EXTENTS}
_CAUSES = {
    f"{short} {title}": f"{unit}_{name}"
    for unit, short in (("sample", "1"), ("segment", "n"))
    for name, title in (
        ("hit_rate_at_100", "Hit@100"),
        ("hit_rate_at_150", "Hit@150"),
        ("ndcg_at_100", "NDCG@100"),
        ("ndcg_at_150", "NDCG@150"),
    )
}
_FOR_PAPERS = {
    "PA-F1": "papers_only_point_adjusted_f1",
    "(random)": "papers_only_point_adjusted_f1_of_random",
    "PA%20-F1": "papers_only_pa_20_f1",
    "(random) ": "papers_only_pa_20_f1_of_random",
}
_NAB = {"standard": "standard", "low FP": "reward_low_fp", "low FN": "reward_low_fn"}


def format_evaluation(found: Evaluation) -> Iterator[str]:
    """Tables of the mean figures, what failed, and what the figures are of."""
    from promad.evaluation.ranking import VUS_WINDOW

    if found.found:
        yield from _format_tables(found)
    for entity, message in found.failed.items():
        yield f"  {entity}: failed: {message}"
    total = format_count(len(found.found) + len(found.failed), "entity", "entities")
    yield (
        f"evaluate: means over {len(found.found)} of {total} and "
        f"{format_count(len(found.seeds), 'seed')}; VUS over {VUS_WINDOW} samples; event recall, "
        "precision and false alarms at the threshold that training chose; no point adjustment "
        "except where stated"
    )


def _format_tables(found: Evaluation) -> Iterator[str]:
    from promad.experiments.outcome import sequence_figures

    means = {row: found.mean(row) for row in found.row_names}
    yield from _format_table("ranking", _ranking_columns(), means)
    yield from _format_table("at the threshold", _OPERATING, means)
    yield from _format_table("events against labels", _EXTENTS, means)
    injected = {row: found.injected(row) for row in found.row_names if found.injected(row)}
    if injected:
        yield from _format_table("injected shifts", _INJECTED, injected)
    for budget in found.budgets:
        yield from _format_budget(found, budget)
    counts = {row: some for row in found.row_names if (some := found.sequences(row)) is not None}
    of_counts = {row: sequence_figures(each) for row, each in counts.items()}
    if of_counts:
        names = ("precision", "recall", "f0.5", "found", "missed", "false")
        columns = dict(zip(names, names, strict=True))
        yield from _format_table("known sequences", columns, of_counts)
    scores = {row: each for row in found.row_names if (each := found.nab(row)) is not None}
    if scores:
        for how in ("by_event", "at_threshold", "optimised"):
            title = f"NAB, {how.replace('_', ' ')}"
            yield from _format_table(title, _NAB, {row: each[how] for row, each in scores.items()})
    if any("sample_hit_rate_at_100" in figures for figures in means.values()):
        yield from _format_table("root causes (1: by sample, n: by segment)", _CAUSES, means)
    yield from _format_table("only to compare with papers", _FOR_PAPERS, means)


def _format_budget(found: Evaluation, budget: float) -> Iterator[str]:
    """Recall and false alarms at one alert budget, with intervals over entities."""
    from promad.experiments.budgets import name_figures

    names = name_figures(budget)
    title = f"alert budget {budget:g} per week"
    width = max(len(name) for name in (title, *found.row_names))
    headings = ("recall", "90 %", "false/week", "90 %", "best limit", "90 %")
    yield f"  {title:{width}}" + "".join(f"{heading:>14}" for heading in headings)
    for row in found.row_names:
        mean, intervals = found.mean(row), found.intervals(row)
        cells = []
        for name in names[:3]:
            cells += [_format_cell(name, mean.get(name, math.nan))]
            cells += ["–".join(_format_cell(name, end) for end in intervals.get(name, ())) or "-"]
        yield f"  {row:{width}}" + "".join(f"{cell:>14}" for cell in cells)
    yield ""


def _ranking_columns() -> Mapping[str, str]:
    from promad.evaluation.ranking import VUS_NARROW_WINDOW

    return {
        "VUS-PR": "vus_pr",
        "VUS-ROC": "vus_roc",
        "AUC-PR": "auc_pr",
        f"VUS{VUS_NARROW_WINDOW}-PR": f"vus_{VUS_NARROW_WINDOW}_pr",
        f"VUS{VUS_NARROW_WINDOW}-ROC": f"vus_{VUS_NARROW_WINDOW}_roc",
        "best F1": "best_f1",
        "blind": "share_blind",
    }


def _format_table(
    title: str, columns: Mapping[str, str], rows: Mapping[str, Mapping[str, float]]
) -> Iterator[str]:
    """A line of headings that begins with the title, then a line for each row."""
    width = max(len(name) for name in (title, *rows))
    yield f"  {title:{width}}" + "".join(f"{heading:>12}" for heading in columns)
    for row, figures in rows.items():
        cells = (_format_cell(name, figures.get(name, math.nan)) for name in columns.values())
        yield f"  {row:{width}}" + "".join(f"{cell:>12}" for cell in cells)
    yield ""


def _format_cell(name: str, value: float) -> str:
    if math.isnan(value):
        return "-"
    if name.endswith("_seconds"):
        return _format_rounded(value)
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _format_rounded(seconds: float) -> str:
    """A duration without what is too small to matter beside the rest."""
    if seconds < 0:
        return f"-{_format_rounded(-seconds)}"
    unit = next((each for each in (3600, 60) if seconds > 24 * each), 1)
    return format_duration(round(seconds / unit) * unit)


class TaskProgress:
    """Formats the result of each task, and the time left at the speed so far.

    `clock` returns seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = clock()
        self._worked = 0

    def format(self, progress: Progress) -> str:
        """A line about a finished task."""
        task = progress.task
        line = f"{progress.number}/{progress.total} {task.entity}, {task.row}, seed {task.seed}"
        if progress.failure is not None:
            line += f": failed: {progress.failure}"
        elif task.row in progress.rows:
            figure = progress.rows[task.row].figures["vus_pr"]
            line += f": VUS-PR {_format_cell('vus_pr', figure)}"
        self._worked += not progress.reused
        left = progress.total - progress.number
        if progress.reused:
            return f"{line} (from an earlier run)"
        if left == 0:
            return line
        seconds = (self._clock() - self._began) / self._worked * left
        return f"{line}; about {_format_rounded(max(1.0, seconds))} left"

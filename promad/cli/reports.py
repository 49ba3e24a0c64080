"""What each stage has to say, in lines for a terminal."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from promad.config.durations import format_duration, format_instant
from promad.errors import BundleError
from promad.evaluation.ranking import VUS_NARROW_WINDOW, VUS_WINDOW

if TYPE_CHECKING:
    from promad.bundle import BundleStore
    from promad.datasets import Fetched
    from promad.experiments.outcome import Evaluation
    from promad.mixin.writing import Written
    from promad.prometheus.checking import QueryCheck
    from promad.stages.collect import Collected
    from promad.stages.evaluate import Progress
    from promad.stages.filter import FilterReport, TrimReport
    from promad.stages.preprocess import Preprocessed
    from promad.stages.train import TrainingReport
    from promad.training.gate import Gate


_SHOWN = 5
"""How many stretches of time are named one by one."""


def collected_lines(report: Collected) -> Iterator[str]:
    """Gaps per feature, then what was written and what it took."""
    shares = {name: f"{share:.2%}" for name, share in report.missing_share.items() if share}
    for share, names in _alike(shares):
        yield f"  {share} of the samples are missing: {names}"
    for expr, stretches in report.marks.items():
        yield f"  to be left out: {_counted(len(stretches), 'stretch', 'stretches')} by {expr}"
    yield (
        f"collect: {report.samples} samples of {len(report.features)} features → {report.path} "
        f"({report.requests} requests, {report.points} points, "
        f"{report.chunks_from_cache} chunks from the cache, {report.seconds:.1f} s)"
    )


def preprocessed_lines(report: Preprocessed) -> Iterator[str]:
    """Per feature what was filled and what was not, then the sum."""
    gaps = {
        name: f"{feature.missing} missing, {feature.filled} filled, "
        f"{feature.in_long_gaps} in gaps too long to fill"
        for name, feature in report.features.items()
        if feature.missing
    }
    for gap, names in _alike(gaps):
        yield f"  {gap}: {names}"
    for name, feature in report.features.items():
        if feature.constant:
            yield f"  {name}: never changes; any change later will count"
    yield from _left_out_lines(report)
    parts = _counted(report.parts, "stretch", "stretches")
    yield (
        f"preprocess: {report.rows} samples, {report.dropped} dropped, {parts} "
        f"without a gap → {report.path} (scaler fitted on the first {report.training_rows})"
    )


def _left_out_lines(report: Preprocessed) -> Iterator[str]:
    """What was left out: the sum, then by reason the first stretches."""
    if not report.excluded:
        return
    share = report.rows_excluded / report.rows
    yield f"  left out by data_settings.exclude: {report.rows_excluded} samples ({share:.2%})"
    for why in dict.fromkeys(stretch.why for stretch in report.excluded):
        own = [stretch for stretch in report.excluded if stretch.why == why]
        spans = [f"{format_instant(each.start)}/{format_instant(each.end)}" for each in own]
        more = f" and {len(own) - _SHOWN} more" if len(own) > _SHOWN else ""
        count = _counted(len(own), "stretch", "stretches")
        yield f"    {why}: {count}, {', '.join(spans[:_SHOWN])}{more}"


def _counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _alike(texts: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Each distinct text with the names that it holds for, in the order of the first."""
    for text in dict.fromkeys(texts.values()):
        yield text, ", ".join(name for name, own in texts.items() if own == text)


def training_lines(report: TrainingReport) -> Iterator[str]:
    """The gate's verdict, the threshold and its reason, then the bundle."""
    yield from _gate_lines(report.gate)
    yield f"  threshold: {report.threshold.why}"
    history = report.history
    yield (
        f"train: {report.training_windows} windows, {len(history.training_loss)} epochs, best "
        f"{history.best_epoch} with validation loss "
        f"{history.validation_loss[history.best_epoch - 1]:.4g} on {report.validation_windows} "
        f"windows → {report.bundle.directory}"
    )


def _gate_lines(gate: Gate) -> Iterator[str]:
    """How the model compares with what learns nothing, then kind by kind."""
    if gate.skipped:
        yield f"  gate: not held to it, {gate.skipped}"
        return
    (row, figure), own = gate.best_naive, gate.rows[gate.model]
    doubt = "" if gate.passed else " — warning: no better than what learns nothing"
    yield (
        f"  gate: injected anomalies are found with VUS-PR {gate.own:.3f}, by {row}, which learns "
        f"nothing, with {figure:.3f}{doubt}"
    )
    kinds = (
        f"{kind} {own[kind]:.2f} ({gate.rows[row][kind]:.2f})" for kind in own if kind != "mean"
    )
    yield f"    {', '.join(kinds)}"


def filter_lines(report: FilterReport) -> Iterator[str]:
    """The worst windows, then the counts; of trimming, what was dropped and what recurs."""
    if report.trimmed is not None:
        yield from _trim_lines(report, report.trimmed)
        return
    for window in report.worst:
        top = ", ".join(f"{name} {share:.0%}" for name, share in window.top_features)
        yield f"  window up to {format_instant(window.end)}: {window.ratio:.1f}x threshold, {top}"
    total = report.normal + report.anomalous
    share = report.anomalous / total if total else 0.0
    yield (
        f"filter: {report.normal} normal and {report.anomalous} anomalous windows ({share:.1%}) "
        f"by threshold {report.threshold:.4g} → {report.normal_path}, {report.anomalous_path}"
    )


def _trim_lines(report: FilterReport, trimmed: TrimReport) -> Iterator[str]:
    for word, stretches in (("dropped", trimmed.dropped), ("recurs, stays", trimmed.recurring)):
        for stretch in stretches:
            top = ", ".join(f"{name} {share:.0%}" for name, share in stretch.top_features)
            yield (
                f"  {word}: {_counted(stretch.windows, 'window', 'windows')} up to "
                f"{format_instant(stretch.first)}/{format_instant(stretch.last)}, "
                f"{stretch.ratio:.1f}x threshold, {top}"
            )
    total = report.normal + report.anomalous
    share = report.anomalous / total if total else 0.0
    yield (
        f"filter: {report.anomalous} of {total} windows dropped ({share:.1%}), "
        f"{_counted(len(trimmed.recurring), 'stretch', 'stretches')} kept that recur "
        f"→ {report.normal_path}, {report.anomalous_path}"
    )


_RANKING = {
    "VUS-PR": "vus_pr",
    "VUS-ROC": "vus_roc",
    "AUC-PR": "auc_pr",
    f"VUS{VUS_NARROW_WINDOW}-PR": f"vus_{VUS_NARROW_WINDOW}_pr",
    f"VUS{VUS_NARROW_WINDOW}-ROC": f"vus_{VUS_NARROW_WINDOW}_roc",
    "best F1": "best_f1",
    "blind": "share_blind",
}
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


def evaluation_lines(found: Evaluation) -> Iterator[str]:
    """Tables of the mean figures, what failed, and what the figures are of."""
    if found.found:
        yield from _evaluation_tables(found)
    for entity, message in found.failed.items():
        yield f"  {entity}: failed: {message}"
    total = len(found.found) + len(found.failed)
    yield (
        f"evaluate: means over {len(found.found)} of {total} entities and {len(found.seeds)} "
        f"seeds; VUS over {VUS_WINDOW} samples; recall, precision and false alarms of events at "
        "the threshold that training chose; no point adjustment, but where it says so"
    )


def _evaluation_tables(found: Evaluation) -> Iterator[str]:
    from promad.experiments.outcome import sequence_figures

    means = {row: found.mean(row) for row in found.row_names}
    yield from _table("ranking", _RANKING, means)
    yield from _table("at the threshold", _OPERATING, means)
    counts = {row: some for row in found.row_names if (some := found.sequences(row)) is not None}
    of_counts = {row: sequence_figures(each) for row, each in counts.items()}
    if of_counts:
        names = ("precision", "recall", "f0.5", "found", "missed", "false")
        yield from _table("known sequences", dict(zip(names, names, strict=True)), of_counts)
    scores = {row: each for row in found.row_names if (each := found.nab(row)) is not None}
    if scores:
        for how, title in (("optimised", "NAB, optimised"), ("at_threshold", "NAB, at threshold")):
            yield from _table(title, _NAB, {row: each[how] for row, each in scores.items()})
    if any("sample_hit_rate_at_100" in figures for figures in means.values()):
        yield from _table("causes, 1 = by sample, n = by segment", _CAUSES, means)
    yield from _table("to compare with papers alone", _FOR_PAPERS, means)


def _table(
    title: str, columns: Mapping[str, str], rows: Mapping[str, Mapping[str, float]]
) -> Iterator[str]:
    """A line of headings that begins with the title, then a line for each row."""
    width = max(len(name) for name in (title, *rows))
    yield f"  {title:{width}}" + "".join(f"{heading:>12}" for heading in columns)
    for row, figures in rows.items():
        cells = (_cell(name, figures.get(name, math.nan)) for name in columns.values())
        yield f"  {row:{width}}" + "".join(f"{cell:>12}" for cell in cells)
    yield ""


def _cell(name: str, value: float) -> str:
    if math.isnan(value):
        return "-"
    if name.endswith("_seconds"):
        return _rounded(value)
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _rounded(seconds: float) -> str:
    """A duration without what is too small to matter beside the rest."""
    unit = next((each for each in (3600, 60) if seconds > 24 * each), 1)
    return format_duration(round(seconds / unit) * unit)


class EvaluationProgress:
    """Tells what came of each task, and when the rest will be through at the speed so far."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = clock()
        self._worked = 0

    def of(self, progress: Progress) -> str:
        """A line about a task that is through."""
        task = progress.task
        line = f"{progress.number}/{progress.total} {task.entity}, {task.row}, seed {task.seed}"
        if progress.failure is not None:
            line += f": failed: {progress.failure}"
        elif task.row in progress.rows:
            figure = progress.rows[task.row].figures["vus_pr"]
            line += f": VUS-PR {_cell('vus_pr', figure)}"
        self._worked += not progress.reused
        left = progress.total - progress.number
        if progress.reused:
            return f"{line} (found before)"
        if left == 0:
            return line
        seconds = (self._clock() - self._began) / self._worked * left
        return f"{line}; about {_rounded(max(1.0, seconds))} left"


def fetched_line(report: Fetched) -> str:
    """What came of one entity of a public data set."""
    how = "was there" if report.was_there else "fetched"
    rows = f"{report.train_rows} rows to train on, {report.test_rows} to test"
    return f"  {report.entity}: {how}, {rows}"


def mixin_line(written: Written) -> str:
    """What a mixin holds, and where it is."""
    return (
        f"mixin: {written.dashboards} dashboards, {written.recordings} recording rules and "
        f"{written.alerts} alerts on {written.prefix}* → {written.directory}"
    )


def query_lines(checks: Sequence[QueryCheck], step: float) -> Iterator[str]:
    """A line for each query that the server was asked about."""
    for check in checks:
        if check.problem is not None:
            yield f"  {check.alias}: {check.problem}"
            continue
        age = format_duration(round(check.newest_age_seconds or 0))
        yield (
            f"  {check.alias}: {check.series} series, newest sample {age} old, "
            f"{check.points} of {check.points_possible} points at {format_duration(step)}"
        )


def bundle_lines(store: BundleStore) -> Iterator[str]:
    """A line for each bundle, the one in use marked, oldest first."""
    current = store.current_id()
    for bundle_id in store.ids():
        mark = "*" if bundle_id == current else " "
        yield f"{mark} {bundle_id}  {_summary(store, bundle_id)}"
    if current is None:
        yield f"no bundle yet in {store.root} — run promad train"


def _summary(store: BundleStore, bundle_id: str) -> str:
    """What a bundle is, or what is wrong with it."""
    try:
        manifest = store.open(bundle_id).manifest
    except BundleError as error:
        return f"unusable: {error}"
    return (
        f"{manifest.model}, {len(manifest.queries)} features, trained on {manifest.trained_on}, "
        f"validation loss {manifest.figures['validation_loss']:.4g}, "
        f"threshold {manifest.threshold['value']:.4g}"
    )

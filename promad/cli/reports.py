"""What each stage has to say, in lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from promad.config.durations import format_duration, format_instant
from promad.errors import BundleError
from promad.evaluation.ranking import VUS_WINDOW

if TYPE_CHECKING:
    from promad.bundle import BundleStore
    from promad.prometheus.checking import QueryCheck
    from promad.stages.collect import Collected
    from promad.stages.evaluate import Evaluation
    from promad.stages.filter import FilterReport
    from promad.stages.preprocess import Preprocessed
    from promad.stages.train import TrainingReport


def collected_lines(report: Collected) -> Iterator[str]:
    """Gaps per feature, then what was written and what it took."""
    shares = {name: f"{share:.2%}" for name, share in report.missing_share.items() if share}
    for share, names in _alike(shares):
        yield f"  {share} of the samples are missing: {names}"
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
    stretches = "stretch" if report.parts == 1 else "stretches"
    yield (
        f"preprocess: {report.rows} samples, {report.dropped} dropped, {report.parts} {stretches} "
        f"without a gap → {report.path} (scaler fitted on the first {report.training_rows})"
    )


def _alike(texts: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Each distinct text with the names that it holds for, in the order of the first."""
    for text in dict.fromkeys(texts.values()):
        yield text, ", ".join(name for name, own in texts.items() if own == text)


def training_lines(report: TrainingReport) -> Iterator[str]:
    """The threshold and its reason, then the bundle."""
    yield f"  threshold: {report.threshold.why}"
    history = report.history
    yield (
        f"train: {report.training_windows} windows, {len(history.training_loss)} epochs, best "
        f"{history.best_epoch} with validation loss "
        f"{history.validation_loss[history.best_epoch - 1]:.4g} on {report.validation_windows} "
        f"windows → {report.bundle.directory}"
    )


def filter_lines(report: FilterReport) -> Iterator[str]:
    """The worst windows, then the counts."""
    for window in report.worst:
        top = ", ".join(f"{name} {share:.0%}" for name, share in window.top_features)
        yield f"  window up to {format_instant(window.end)}: {window.ratio:.1f}x threshold, {top}"
    total = report.normal + report.anomalous
    share = report.anomalous / total if total else 0.0
    yield (
        f"filter: {report.normal} normal and {report.anomalous} anomalous windows ({share:.1%}) "
        f"by threshold {report.threshold:.4g} → {report.normal_path}, {report.anomalous_path}"
    )


_SHOWN = {
    "vus_pr": "VUS-PR",
    "vus_roc": "VUS-ROC",
    "auc_pr": "AUC-PR",
    "event_recall": "recall",
    "alarm_precision": "precision",
    "false_episodes_per_week": "false/week",
    "affiliation_f1": "affil. F1",
}


def evaluation_lines(found: Evaluation) -> Iterator[str]:
    """A table of the mean figures, the model above the naive scores, then what they are of."""
    rows = found.to_json()["rows"]
    width = max(len(row) for row in rows)
    yield "  " + " " * width + "".join(f"{title:>12}" for title in _SHOWN.values())
    for row, figures in rows.items():
        cells = (figures["mean"][name] for name in _SHOWN)
        shown = "".join(f"{'-':>12}" if cell is None else f"{cell:12.3f}" for cell in cells)
        yield f"  {row:{width}}{shown}"
    yield (
        f"evaluate: means over {len(found.found)} entities and {len(found.seeds)} seeds; VUS over "
        f"{VUS_WINDOW} samples; recall, precision and false alarms of events at the threshold that "
        "training chose; no point adjustment"
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

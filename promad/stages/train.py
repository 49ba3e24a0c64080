"""`promad train`: fit a model, choose its threshold, and write both as a bundle."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from promad.bundle import Bundle, BundleStore
from promad.config import Config
from promad.config.training_digests import digest_training
from promad.data.groups import Labels
from promad.data.windows import Windows
from promad.errors import DataError
from promad.models import Progress, TrainingHistory
from promad.parallel.engine import Backend
from promad.thresholds import Threshold
from promad.training.bundling import NativeFiles, Provenance, write_bundle
from promad.training.fitting import FittingOptions, fit_detector
from promad.training.fleet_fitting import fit_fleet, fit_fleet_by_group
from promad.training.fleet_material import FleetMaterial, draw_material, read_filtered_fleet
from promad.training.gate import Gate
from promad.training.group_runs import PROCESSES, name_kept
from promad.training.material import Material, read_filtered, split_material
from promad.training.processed_file import (
    ProcessedFile,
    ProcessedFleet,
    locate_processed,
    read_fleet,
    read_processed,
    read_scaler,
)
from promad.training.processing import ProcessingOptions
from promad.training.threshold_choice import make_threshold_settings

PER_GROUP = frozenset({"linear"})
"""The models that can have weights of each group's own."""

FEWEST_ROWS_SHARE = 0.1
"""The share of the rows with data that must be complete to train on."""


@dataclass(frozen=True)
class TrainingReport:
    """What `train` did.

    Attributes:
        share_above: the share of the training and validation windows above the threshold, 0 to 1.
        blind: the features whose scale is that of sentinel values; the detector ignores them.
        groups_left_out: of each group that has no calibration of its own why.
        groups_failed: those of them that have enough data; the next training tries again.
        removed: the old bundles that were removed, by name.
    """

    bundle: Bundle
    threshold: Threshold
    history: TrainingHistory
    training_windows: int
    validation_windows: int
    gate: Gate
    share_above: float = 0.0
    blind: tuple[str, ...] = ()
    groups_left_out: Mapping[Labels, str] = field(default_factory=dict)
    removed: Sequence[str] = ()
    groups_failed: frozenset[Labels] = frozenset()


def train(
    config: Config,
    progress: Progress,
    *,
    now: Callable[[], float],
    force: bool = False,
    digests: Mapping[str, str] | None = None,
    backend: Backend = PROCESSES,
) -> TrainingReport:
    """Train on the processed data, or on the normal windows of `filter`, and promote the bundle.

    Args:
        force: promote a network even if it fails the gate, or a feature is blind; train on a small
            remainder of the data.
        digests: what the bundle records of the settings; the default is those of `config`.
        backend: where groups with `model_scope: per_group` are fitted.

    Raises:
        DataError: if the data is missing or too little, if the network fails the gate, or if
            sentinel values make a feature blind; also if less than a tenth of the rows is left
            because features are missing.
        BundleError: if the bundle cannot be written; nothing has changed then.
    """
    digests = digest_training(config) if digests is None else digests
    if config.group_by:
        return _train_fleet(config, progress, now, force, digests, backend)
    source = read_processed(locate_processed(config), ProcessingOptions.of(config))
    if not force:
        _require_enough_rows(source)
        if source.blind:
            raise DataError(describe_blind(source.blind))
    files = _read_native_files(config, source)
    material = _read_material(config, source)
    fitted = fit_detector(material, _choose_options(config, force), progress)
    provenance = _describe_provenance(config, source, now(), digests)
    bundle = write_bundle(BundleStore.of(config), material, fitted, provenance, files)
    return TrainingReport(
        bundle,
        fitted.detector.threshold,
        fitted.trained.history,
        len(material.split.training),
        len(material.split.validation),
        fitted.gate,
        float((fitted.scores > fitted.detector.threshold.value).mean()),
        source.blind,
        removed=_remove_old(config),
    )


def _train_fleet(
    config: Config,
    progress: Progress,
    now: Callable[[], float],
    force: bool,
    digests: Mapping[str, str],
    backend: Backend,
) -> TrainingReport:
    """Train on the windows of all groups, or on each group's own, and calibrate to each group."""
    source = read_fleet(locate_processed(config), ProcessingOptions.of(config))
    if source.blind and not force:
        raise DataError(describe_blind(source.blind))
    files = _read_native_files(config, source)
    material = _read_fleet_material(config, source)
    budget = config.real_time_anomaly_detection.alert_budget
    options = _choose_options(config, force)
    kept = None
    if config.training_settings.model_scope == "per_group":
        if config.training_settings.model not in PER_GROUP:
            raise DataError(
                f"model_scope: per_group supports the model {', '.join(sorted(PER_GROUP))} only; "
                f"this is {config.training_settings.model} — set model_scope: pooled"
            )
        dropped = {group: float(times.sum()) for group, times in material.dropped.items()}
        kept = name_kept(
            config.artifacts_dir, source.file.path, options.training, (dropped, config.rules)
        )
        fitted = fit_fleet_by_group(material, options, budget.per, progress, kept, backend)
    else:
        fitted = fit_fleet(material, options, budget.per, progress)
    provenance = _describe_provenance(config, source, now(), digests)
    bundle = write_bundle(BundleStore.of(config), material, fitted, provenance, files)
    if kept is not None:
        shutil.rmtree(kept, ignore_errors=True)
    return TrainingReport(
        bundle,
        fitted.detector.threshold,
        fitted.trained.history,
        len(material.split.training),
        len(material.split.validation),
        fitted.gate,
        float((fitted.scores > fitted.detector.threshold.value).mean()),
        source.blind,
        fitted.left_out,
        _remove_old(config),
        fitted.failed,
    )


def _remove_old(config: Config) -> list[str]:
    """Remove the oldest bundles, as far as the configuration asks for that."""
    most = config.training_settings.keep_bundles
    return [] if most is None else BundleStore.of(config).remove_old(most)


def _read_fleet_material(config: Config, source: ProcessedFleet) -> FleetMaterial:
    """Windows drawn evenly over the groups and time, or those that `filter` found normal."""
    settings, names = config.training_settings, config.data_filtering_settings
    if settings.train_on_filtered_sequences:
        return read_filtered_fleet(
            source,
            settings.sequence_length,
            config.artifacts_dir / names.normal_sequences_output_filename,
            config.artifacts_dir / names.anomalous_sequences_output_filename,
        )
    return draw_material(
        source, settings.sequence_length, settings.max_training_windows, settings.seed
    )


def describe_blind(features: Sequence[str]) -> str:
    """Which features sentinel values make blind, and what to do.

    >>> describe_blind(["b"])
    'sentinel values hide all others of b — set valid_range in queries.b, or exclude the samples'
    """
    keys = " and ".join(f"queries.{name}" for name in features)
    return (
        f"sentinel values hide all others of {', '.join(features)} — set valid_range in {keys}, "
        "or exclude the samples"
    )


def _require_enough_rows(source: ProcessedFile) -> None:
    """Refuse what features that are mostly missing have left of the data."""
    if not source.losses or source.rows >= FEWEST_ROWS_SHARE * source.rows_with_data:
        return
    missing = ", ".join(f"{name} in {share:.0%}" for name, share in source.losses.items())
    raise DataError(
        f"only {source.rows} of {source.rows_with_data} rows have a value for every query; "
        f"missing: {missing} of the rows — append `or vector(0)` to a query if no sample means 0, "
        "or remove it, and run promad collect and preprocess again; --force trains on the rest"
    )


def _read_material(config: Config, source: ProcessedFile) -> Material:
    """All windows of the processed data, or those that `filter` found normal."""
    settings = config.training_settings
    everything = source.build_windows(settings.sequence_length)
    windows: Windows = everything
    if settings.train_on_filtered_sequences:
        name = config.data_filtering_settings.normal_sequences_output_filename
        windows = read_filtered(config.artifacts_dir / name, everything)
    return split_material(windows, source.frames, source.preparation, source.training_ends_at)


def _read_native_files(config: Config, source: ProcessedFile | ProcessedFleet) -> NativeFiles:
    """The scaler's file, and how the model's file in the training library's format is called."""
    settings = config.training_settings
    scaler_name = config.preprocessing_settings.scaler_output_filename
    scaler = read_scaler(config.artifacts_dir / scaler_name, source.scaler_sha256)
    model_name = settings.model_output_filename
    if settings.train_on_filtered_sequences:
        model_name = settings.filtered_model_output_filename
    return NativeFiles(model_name, scaler_name, scaler)


def _choose_options(config: Config, force: bool) -> FittingOptions:
    live = config.real_time_anomaly_detection
    threshold = make_threshold_settings(live, config.data_settings.step)
    return FittingOptions(config.training_settings, live.threshold, threshold, force)


def _describe_provenance(
    config: Config,
    source: ProcessedFile | ProcessedFleet,
    created: float,
    digests: Mapping[str, str],
) -> Provenance:
    settings = config.training_settings
    on_filtered = settings.train_on_filtered_sequences
    return Provenance(
        name=config.name,
        created=created,
        queries=config.promql,
        server=source.server,
        trained_on="normal windows of filter" if on_filtered else "all windows",
        excluded=source.excluded,
        training=settings,
        group_by=config.group_by,
        settings=digests,
    )

"""`promad train`: fit a model, choose its threshold, and write both as a bundle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from promad.bundle import Bundle, BundleStore
from promad.config import Config
from promad.models import Progress, TrainingHistory
from promad.thresholds import Threshold
from promad.training.bundling import NativeFiles, Provenance, write_bundle
from promad.training.fitting import FittingOptions, fit_detector
from promad.training.gate import Gate
from promad.training.material import read_filtered, split_material
from promad.training.processed_file import locate_processed, read_processed, read_scaler
from promad.training.processing import ProcessingOptions
from promad.training.threshold_choice import make_threshold_settings


@dataclass(frozen=True)
class TrainingReport:
    """What `train` did."""

    bundle: Bundle
    threshold: Threshold
    history: TrainingHistory
    training_windows: int
    validation_windows: int
    gate: Gate


def train(
    config: Config, progress: Progress, *, now: Callable[[], float], force: bool = False
) -> TrainingReport:
    """Train on the processed data, or on the normal windows of `filter`, and promote the bundle.

    Args:
        force: promote a network even if it fails the gate.

    Raises:
        DataError: if the data is missing or too little, or if the network fails the gate.
        BundleError: if the bundle cannot be written; nothing has changed then.
    """
    settings, folder = config.training_settings, config.artifacts_dir
    on_filtered = settings.train_on_filtered_sequences
    options = FittingOptions(
        settings,
        config.real_time_anomaly_detection.threshold,
        make_threshold_settings(config.real_time_anomaly_detection, config.data_settings.step),
        force,
    )
    scaler_name = config.preprocessing_settings.scaler_output_filename

    source = read_processed(locate_processed(config), ProcessingOptions.of(config))
    scaler = read_scaler(folder / scaler_name, source.scaler_sha256)
    everything = source.build_windows(settings.sequence_length)
    filtered_path = folder / config.data_filtering_settings.normal_sequences_output_filename
    windows = read_filtered(filtered_path, everything) if on_filtered else everything
    material = split_material(windows, source.frames, source.preparation, source.training_ends_at)
    fitted = fit_detector(material, options, progress)
    bundle = write_bundle(
        BundleStore.of(config),
        material,
        fitted,
        Provenance(
            name=config.name,
            created=now(),
            queries=config.promql,
            server=source.server,
            trained_on="normal windows of filter" if on_filtered else "all windows",
            excluded=source.excluded,
            training=settings,
        ),
        NativeFiles(
            settings.filtered_model_output_filename
            if on_filtered
            else settings.model_output_filename,
            scaler_name,
            scaler,
        ),
    )
    return TrainingReport(
        bundle,
        fitted.detector.threshold,
        fitted.trained.history,
        len(material.split.training),
        len(material.split.validation),
        fitted.gate,
    )

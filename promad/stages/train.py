"""`train`: fit the model, choose the threshold, and put both into a bundle."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import promad
from promad.artifacts import read_array
from promad.bundle import (
    HISTOGRAM_PLOT,
    HISTORY_PLOT,
    PREPARATION_FILE,
    THRESHOLD_FILE,
    Bundle,
    BundleStore,
    Manifest,
    Range,
)
from promad.config import Config
from promad.config.durations import format_instant
from promad.detector import errors_and_expected
from promad.errors import DataError
from promad.models import Progress, Trained, TrainingHistory, model_named
from promad.preparation import Preparation
from promad.stages.plots import draw_histogram, draw_history
from promad.stages.preprocess import read_processed
from promad.thresholds import THRESHOLDS, Threshold, ThresholdSettings
from promad.windows import Split, StoredWindows, Windows, split_at

_FORMAT = 1


@dataclass(frozen=True)
class TrainingReport:
    """What `train` did."""

    bundle: Bundle
    threshold: Threshold
    history: TrainingHistory
    training_windows: int
    validation_windows: int


@dataclass(frozen=True)
class _Material:
    """What a model is trained on, and where it came from."""

    split: Split
    preparation: Preparation
    metadata: Mapping[str, str]
    native_file: str
    trained_on: str


def train(config: Config, progress: Progress, *, now: Callable[[], float]) -> TrainingReport:
    """Train on the processed data, or on filter's normal windows, and promote the outcome.

    Raises:
        DataError: if the data is missing, or too little to train and validate on.
        BundleError: if the bundle cannot be written; nothing has changed then.
    """
    settings = config.training_settings
    material = _filtered(config) if settings.train_on_filtered_sequences else _processed(config)
    features = len(material.preparation.features)
    model = model_named(settings.model)
    trained: Trained = model.fit(material.split, features, settings, settings.seed, progress)
    errors, _ = errors_and_expected(trained.model, material.split.validation, features)
    scores = errors.mean(axis=1)
    threshold = choose_threshold(scores, config)
    bundle = _write(config, material, trained, scores, threshold, now())
    return TrainingReport(
        bundle,
        threshold,
        trained.history,
        len(material.split.training),
        len(material.split.validation),
    )


def _processed(config: Config) -> _Material:
    frames, preparation, metadata = read_processed(config)
    windows = preparation.windows(frames, config.training_settings.sequence_length)
    split = _split(windows, preparation, metadata, config)
    return _Material(
        split, preparation, metadata, config.training_settings.model_output_filename, "all windows"
    )


def _filtered(config: Config) -> _Material:
    _, preparation, metadata = read_processed(config)
    names, length = config.data_filtering_settings, config.training_settings.sequence_length
    path = config.artifacts_dir / names.normal_sequences_output_filename
    array, times = read_array(path, "filter"), read_array(end_times_path(path), "filter")
    width = len(preparation.features) + 2 * len(preparation.time_features)
    if array.shape[1:] != (length, width) or len(array) != len(times):
        raise DataError(
            f"{path}: holds windows of shape {array.shape[1:]}, the configuration asks for "
            f"{(length, width)} — run promad filter again"
        )
    windows = StoredWindows(
        array.view(np.float32), times.astype("datetime64[ms]").astype(np.float64) / 1000
    )
    split = _split(windows, preparation, metadata, config)
    name = config.training_settings.filtered_model_output_filename
    return _Material(split, preparation, metadata, name, "normal windows of filter")


def end_times_path(path: Path) -> Path:
    """Where the end times of the windows in a .npy file stand: datetime64[ms], UTC."""
    return path.with_name(f"{path.stem}_end_times.npy")


def _split(
    windows: Windows, preparation: Preparation, metadata: Mapping[str, str], config: Config
) -> Split:
    split = split_at(windows, float(metadata["training_ends_at"]), preparation.step)
    if len(split.training) == 0 or len(split.validation) == 0:
        length = config.training_settings.sequence_length
        raise DataError(
            f"{len(windows)} windows of {length} samples leave {len(split.training)} to train on "
            f"and {len(split.validation)} to validate with (a gap of one window lies between) — "
            "collect a longer period, or lower sequence_length or train_split_ratio"
        )
    return split


def choose_threshold(scores: NDArray[np.float64], config: Config) -> Threshold:
    """The threshold that the configuration asks for: by the alert budget, or as given."""
    live = config.real_time_anomaly_detection
    given = None if live.anomaly_threshold_mse == "auto" else live.anomaly_threshold_mse
    settings = ThresholdSettings(
        step=config.data_settings.step,
        false_alarms_per_week=live.alert_budget.false_alarms_per_week,
        enter_after=live.enter_after_samples,
        leave_after=live.leave_after_samples,
        value=given,
    )
    return THRESHOLDS["quantile" if given is None else "fixed"](scores, settings)


def _write(
    config: Config,
    material: _Material,
    trained: Trained,
    scores: NDArray[np.float64],
    threshold: Threshold,
    now: float,
) -> Bundle:
    store = BundleStore.of(config)
    with store.writing() as directory:
        trained.save(directory, material.native_file)
        _copy_scaler(config, material.metadata, directory)
        _write_json(directory / PREPARATION_FILE, material.preparation.to_json())
        _write_json(directory / THRESHOLD_FILE, threshold.to_json())
        draw_history(trained.history, directory / HISTORY_PLOT)
        draw_histogram(scores, threshold.value, directory / HISTOGRAM_PLOT)
        manifest = _manifest(config, material, trained, scores, threshold, now)
        return store.keep(directory, manifest)


def _copy_scaler(config: Config, metadata: Mapping[str, str], directory: Path) -> None:
    import hashlib

    name = config.preprocessing_settings.scaler_output_filename
    source = config.artifacts_dir / name
    if not source.exists():
        raise DataError(f"{source}: no such file — run promad preprocess again")
    if hashlib.sha256(source.read_bytes()).hexdigest() != metadata["scaler_sha256"]:
        raise DataError(
            f"{source}: is not the scaler that the processed data was made with "
            "— run promad preprocess again"
        )
    shutil.copyfile(source, directory / name)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def _manifest(
    config: Config,
    material: _Material,
    trained: Trained,
    scores: NDArray[np.float64],
    threshold: Threshold,
    now: float,
) -> Manifest:
    preparation, history = material.preparation, trained.history
    created = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
    return Manifest(
        format=_FORMAT,
        created=created,
        name=config.name,
        model=config.training_settings.model,
        trained_on=material.trained_on,
        server=material.metadata.get("server", ""),
        queries=config.promql,
        step_seconds=preparation.step,
        sequence_length=config.training_settings.sequence_length,
        scaler=preparation.scaler.kind,
        threshold=threshold.to_json(),
        training=_range(material.split.training, preparation.step),
        validation=_range(material.split.validation, preparation.step),
        seed=config.training_settings.seed,
        versions={
            "promad": promad.__version__,
            "python": sys.version.split()[0],
            "numpy": np.__version__,
            **trained.versions,
        },
        figures=_figures(history, scores),
    )


def _range(windows: Windows, step: float) -> Range:
    first = windows.times[0] - step * (windows.length - 1)
    return Range(
        start=format_instant(first), end=format_instant(windows.times[-1]), windows=len(windows)
    )


def _figures(history: TrainingHistory, scores: NDArray[np.float64]) -> dict[str, Any]:
    """What a person wants to know of a training, as plain numbers."""
    levels = (0.5, 0.9, 0.99, 0.999, 1.0)
    return {
        "epochs": len(history.training_loss),
        "best_epoch": history.best_epoch,
        "training_loss": history.training_loss[history.best_epoch - 1],
        "validation_loss": history.validation_loss[history.best_epoch - 1],
        "validation_mse_quantiles": {
            f"{level:g}": float(np.quantile(scores, level)) for level in levels
        },
    }

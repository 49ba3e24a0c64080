"""`train`: fit the model, choose the threshold, and put both into a bundle."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import promad
from promad.artifacts import end_times_path, read_array
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
from promad.windows import SampleWindows, Split, StoredWindows, Windows, split_at

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
    scaler: bytes


def train(config: Config, progress: Progress, *, now: Callable[[], float]) -> TrainingReport:
    """Train on the processed data, or on filter's normal windows, and promote the outcome.

    Raises:
        DataError: if the data is missing, or too little to train and validate on.
        BundleError: if the bundle cannot be written; nothing has changed then.
    """
    settings = config.training_settings
    material = _filtered(config) if settings.train_on_filtered_sequences else _processed(config)
    choose_threshold(np.ones(len(material.split.validation)), config)  # too few? not after hours
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
    name = config.training_settings.model_output_filename
    scaler = _scaler(config, metadata)
    return _Material(split, preparation, metadata, name, "all windows", scaler)


def _filtered(config: Config) -> _Material:
    frames, preparation, metadata = read_processed(config)
    everything = preparation.windows(frames, config.training_settings.sequence_length)
    path = config.artifacts_dir / config.data_filtering_settings.normal_sequences_output_filename
    windows = _stored(path)
    if not _come_from(windows, everything):
        raise DataError(
            f"{path}: was not made from the processed data of {windows.length} samples a window "
            "that there is now — run promad filter again"
        )
    split = _split(windows, preparation, metadata, config)
    name = config.training_settings.filtered_model_output_filename
    scaler = _scaler(config, metadata)
    return _Material(split, preparation, metadata, name, "normal windows of filter", scaler)


def _stored(path: Path) -> StoredWindows:
    """The windows that `filter` wrote, with their end times."""
    array, times = read_array(path, "filter"), read_array(end_times_path(path), "filter")
    if array.ndim != 3 or array.dtype != np.float32 or times.shape != array.shape[:1]:
        raise DataError(f"{path}: holds no windows with an end time each — run promad filter again")
    return StoredWindows(
        array.view(np.float32), times.astype("datetime64[ms]").astype(np.float64) / 1000
    )


def _come_from(stored: StoredWindows, everything: SampleWindows) -> bool:
    """Whether a hundred of the stored windows are found, unchanged, among all that there are."""
    if (stored.length, stored.width) != (everything.length, everything.width):
        return False
    probes = np.unique(np.linspace(0, len(stored) - 1, min(100, len(stored))).astype(np.int64))
    ends = np.round(everything.times * 1000)
    wanted = np.round(stored.times[probes] * 1000)
    places = np.searchsorted(ends, wanted)
    return bool(
        np.isin(wanted, ends).all()
        and np.array_equal(stored.take(probes), everything.take(places.astype(np.int64)))
    )


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
        scaler_file = config.preprocessing_settings.scaler_output_filename
        (directory / scaler_file).write_bytes(material.scaler)
        _write_json(directory / PREPARATION_FILE, material.preparation.to_json())
        _write_json(directory / THRESHOLD_FILE, threshold.to_json())
        draw_history(trained.history, directory / HISTORY_PLOT)
        draw_histogram(scores, threshold.value, directory / HISTOGRAM_PLOT)
        manifest = _manifest(config, material, trained, scores, threshold, now)
        return store.keep(directory, manifest)


def _scaler(config: Config, metadata: Mapping[str, str]) -> bytes:
    """The scikit-learn scaler's file, once it is known to belong to the processed data."""
    path = config.artifacts_dir / config.preprocessing_settings.scaler_output_filename
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}) — run promad preprocess again"
        ) from error
    if hashlib.sha256(content).hexdigest() != metadata.get("scaler_sha256"):
        raise DataError(
            f"{path}: is not the scaler that the processed data was made with "
            "— run promad preprocess again"
        )
    return content


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

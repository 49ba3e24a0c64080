"""`train`: fit the model, choose the threshold, and put both into a bundle."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import promad
from promad.bundle import (
    FORMAT,
    HISTOGRAM_PLOT,
    HISTORY_PLOT,
    PREPARATION_FILE,
    SCORING_FILE,
    THRESHOLD_FILE,
    Bundle,
    BundleStore,
    Manifest,
    Range,
)
from promad.config import Config, ScoringSettings
from promad.config.durations import format_instant
from promad.data.artifacts import end_times_path, read_array
from promad.data.frame import MetricFrame
from promad.data.preparation import Preparation
from promad.data.windows import (
    SampleWindows,
    Split,
    StoredWindows,
    Windows,
    sample_numbers,
    split_at,
)
from promad.errors import DataError
from promad.models import Model, Progress, Trained, TrainingHistory, find_model
from promad.scoring.detector import applied, scored_errors
from promad.scoring.scoring import Scoring, fit_scoring
from promad.stages.preprocess import read_processed
from promad.thresholds import Threshold
from promad.training.gate import Gate, gate, skipped
from promad.training.plots import draw_histogram, draw_history
from promad.training.threshold_choice import choose_threshold

BASELINE = "linear"
"""The model that the gate lets through in any case: what a network is to be replaced by."""


@dataclass(frozen=True)
class TrainingReport:
    """What `train` did."""

    bundle: Bundle
    threshold: Threshold
    history: TrainingHistory
    training_windows: int
    validation_windows: int
    gate: Gate


@dataclass(frozen=True)
class _Material:
    """What a model is trained on, and where it came from."""

    windows: Windows
    split: Split
    frames: Sequence[MetricFrame]
    preparation: Preparation
    metadata: Mapping[str, str]
    native_file: str
    trained_on: str
    scaler: bytes

    @property
    def step(self) -> float:
        """Seconds between samples."""
        return self.preparation.step


@dataclass(frozen=True)
class _Fitted:
    """What training came to; `scores` are those of the training and the validation part."""

    trained: Trained
    scoring: Scoring
    scores: NDArray[np.float64]
    threshold: Threshold
    gate: Gate


def train(
    config: Config, progress: Progress, *, now: Callable[[], float], force: bool = False
) -> TrainingReport:
    """Train on the processed data, or on filter's normal windows, and promote the outcome.

    Args:
        force: promote a network that the gate would refuse all the same.

    Raises:
        DataError: if the data is missing, or too little to train and validate on; or if the gate
            refuses the network.
        BundleError: if the bundle cannot be written; nothing has changed then.
    """
    settings = config.training_settings
    material = _filtered(config) if settings.train_on_filtered_sequences else _processed(config)
    choose_threshold(np.ones(len(material.split.validation)), config)  # too few? not after hours
    features = material.preparation.scored
    model = find_model(settings.model)
    trained: Trained = model.fit(material.split, features, settings, settings.seed, progress)
    scoring, scores = _scored(trained.model, material, settings.scoring)
    verdict = _through_the_gate(config, material, trained.model, scoring, force)
    threshold = choose_threshold(scores, config)
    final = trained.refit(material.windows)
    if final is not trained:
        errors = scored_errors(applied(final.model, material.windows), settings.scoring.method)
        scoring = _fit_scoring(errors, material.windows, material, settings.scoring)
    fitted = _Fitted(final, scoring, scores, threshold, verdict)
    bundle = _write(config, material, fitted, now())
    return TrainingReport(
        bundle,
        threshold,
        trained.history,
        len(material.split.training),
        len(material.split.validation),
        verdict,
    )


def _through_the_gate(
    config: Config, material: _Material, model: Model, scoring: Scoring, force: bool
) -> Gate:
    """The gate's verdict; one that refuses is an error, but for a linear model or by force."""
    settings = config.training_settings
    if not settings.gate:
        return skipped(settings.model, "training_settings.gate is false")
    verdict = gate(
        settings.model,
        model,
        scoring,
        material.preparation,
        material.frames,
        float(material.metadata["training_ends_at"]),
        settings.sequence_length,
    )
    if verdict.passed or settings.model == BASELINE:
        return verdict
    if force:
        return replace(verdict, forced=True)
    row, figure = verdict.best_naive
    raise DataError(
        f"{settings.model} finds injected anomalies with VUS-PR {verdict.own:.3f}, no better than "
        f"{row}, which learns nothing, with {figure:.3f}; nothing was promoted — collect a longer "
        "period, leave incidents out by data_settings.exclude, choose other queries, "
        f"set model: {BASELINE}, or train with --force"
    )


def _scored(
    model: Model, material: _Material, settings: ScoringSettings
) -> tuple[Scoring, NDArray[np.float64]]:
    """Scoring as the training part has it, and the scores of both parts, in chronological order."""
    training, validation = material.split.training, material.split.validation
    errors = scored_errors(applied(model, training), settings.method)
    scoring = _fit_scoring(errors, training, material, settings)
    held_out = scored_errors(applied(model, validation), settings.method)
    at = sample_numbers(np.concatenate([training.times, validation.times]), material.step)
    return scoring, scoring.score(scoring.smoothed(np.concatenate([errors, held_out]), at))


def _fit_scoring(
    errors: NDArray[np.float64], windows: Windows, material: _Material, settings: ScoringSettings
) -> Scoring:
    members = errors.shape[1] // material.preparation.scored
    return fit_scoring(errors, sample_numbers(windows.times, material.step), members, settings)


def _processed(config: Config) -> _Material:
    frames, preparation, metadata = read_processed(config)
    windows = preparation.windows(frames, config.training_settings.sequence_length)
    split = _split(windows, preparation, metadata, config)
    name = config.training_settings.model_output_filename
    scaler = _scaler(config, metadata)
    return _Material(windows, split, frames, preparation, metadata, name, "all windows", scaler)


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
    return _Material(
        windows, split, frames, preparation, metadata, name, "normal windows of filter", scaler
    )


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


def _write(
    config: Config,
    material: _Material,
    fitted: _Fitted,
    now: float,
) -> Bundle:
    store = BundleStore.of(config)
    with store.writing() as directory:
        fitted.trained.save(directory, material.native_file)
        scaler_file = config.preprocessing_settings.scaler_output_filename
        (directory / scaler_file).write_bytes(material.scaler)
        _write_json(directory / PREPARATION_FILE, material.preparation.to_json())
        _write_json(directory / SCORING_FILE, fitted.scoring.to_json())
        _write_json(directory / THRESHOLD_FILE, fitted.threshold.to_json())
        draw_history(fitted.trained.history, directory / HISTORY_PLOT)
        draw_histogram(fitted.scores, fitted.threshold.value, directory / HISTOGRAM_PLOT)
        manifest = _manifest(config, material, fitted, now)
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
    fitted: _Fitted,
    now: float,
) -> Manifest:
    preparation, history = material.preparation, fitted.trained.history
    created = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
    return Manifest(
        format=FORMAT,
        created=created,
        name=config.name,
        model=config.training_settings.model,
        preset=config.training_settings.preset,
        trained_on=material.trained_on,
        server=material.metadata.get("server", ""),
        queries=config.promql,
        step_seconds=preparation.step,
        sequence_length=config.training_settings.sequence_length,
        scaler=preparation.scaler.kind,
        scoring=fitted.scoring.method,
        threshold=replace(fitted.threshold, parameters={}).to_json(),
        training=_range(material.split.training, preparation.step),
        validation=_range(material.split.validation, preparation.step),
        seed=config.training_settings.seed,
        versions={
            "promad": promad.__version__,
            "python": sys.version.split()[0],
            "numpy": np.__version__,
            **fitted.trained.versions,
        },
        figures=_figures(history, fitted.scores),
        excluded=json.loads(material.metadata.get("left_out", "[]")),
        gate=fitted.gate.to_json(),
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
        "validation_score_quantiles": {
            f"{level:g}": float(np.quantile(scores, level)) for level in levels
        },
    }

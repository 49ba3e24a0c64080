"""`preprocess`: fill short gaps, split at long ones, fit the scaler on the training part."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promad.config import Config
from promad.config.durations import format_instant
from promad.data.artifacts import read_frames, write_frames
from promad.data.filling import fill
from promad.data.frame import MetricFrame
from promad.data.gaps import find_long_gaps
from promad.data.preparation import Preparation, usable_parts
from promad.data.scaling import fit_scaler
from promad.errors import DataError
from promad.files import written_whole
from promad.training.exclusion import Stretch, described, outside, stretches


@dataclass(frozen=True)
class FeatureReport:
    """What became of one feature's missing values, in samples."""

    missing: int
    filled: int
    in_long_gaps: int
    constant: bool


@dataclass(frozen=True)
class Preprocessed:
    """What `preprocess` did.

    Attributes:
        path: the processed file.
        scaler_path: the scikit-learn scaler.
        rows: samples collected, and of these `dropped` because something stayed missing.
        parts: the stretches left; no window spans two of them.
        training_rows: how many of the rows kept belong to the training part.
        features: by name, in order.
        left_out: the stretches that `data_settings.exclude` names, entry by entry.
        rows_left_out: how many of the rows lie in any of them; they are not among those dropped.
    """

    path: Path
    scaler_path: Path
    rows: int
    dropped: int
    parts: int
    training_rows: int
    features: dict[str, FeatureReport]
    left_out: tuple[Stretch, ...]
    rows_left_out: int


def preprocess(config: Config) -> Preprocessed:
    """Make the processed file and the scaler from the collected file.

    Raises:
        DataError: if there is too little data, or a feature is missing throughout.
    """
    settings, length = config.preprocessing_settings, config.training_settings.sequence_length
    source = config.artifacts_dir / (
        settings.input_filename or config.data_settings.output_filename
    )
    collected, metadata = read_frames(source, "collect")
    _insist_on_origin(metadata, collected[0].features, config, source)
    left_out = stretches(config, metadata, collected, source)
    frames = outside(collected, left_out)
    _insist_on_values(frames, source)
    boundary = _training_boundary(frames, config)
    preparation, estimator = _fit(frames, boundary, config)
    scaled = [preparation.scale(frame) for frame in frames]
    parts = [part for frame in scaled for part in usable_parts(frame)]
    _insist_on_two_windows(parts, length, source)

    features = _report(frames, preparation)
    rows, considered = (sum(f.samples for f in each) for each in (collected, frames))
    usable = sum(part.samples for part in parts)
    scaler_path = config.artifacts_dir / settings.scaler_output_filename
    digest = _write_scaler(scaler_path, estimator)
    path = config.artifacts_dir / settings.processed_output_filename
    training_rows = sum(int((part.times <= boundary + part.step / 2).sum()) for part in parts)
    report = Preprocessed(
        path,
        scaler_path,
        rows,
        considered - usable,
        len(parts),
        training_rows,
        features,
        left_out,
        rows - considered,
    )
    kept = scaled if settings.nan_fill_strategy == "none" else parts
    write_frames(
        path,
        kept,
        {
            **metadata,
            "preparation": json.dumps(preparation.to_json()),
            "training_ends_at": repr(boundary),
            "train_split_ratio": repr(config.training_settings.train_split_ratio),
            "filled_dropped_split": json.dumps(_counts(report)),
            "exclude": described(config),
            "left_out": json.dumps([stretch.line for stretch in left_out]),
            "scaler_sha256": digest,
        },
    )
    return report


def _insist_on_origin(
    metadata: Mapping[str, str], found: Sequence[str], config: Config, path: Path
) -> None:
    """Refuse data that was collected for other queries or with another step."""
    wanted, step = config.promql, config.data_settings.step
    again = "— run promad collect again"
    if tuple(found) != config.features:
        raise DataError(
            f"{path}: holds {', '.join(found)}; the configuration asks for {', '.join(wanted)} "
            f"{again}"
        )
    for alias, collected in json.loads(metadata.get("queries", "{}")).items():
        if collected != wanted.get(alias):
            raise DataError(
                f"{path}: {alias} was collected as {collected}; the configuration asks for "
                f"{wanted.get(alias)} {again}"
            )
    if float(metadata["step_seconds"]) != step:
        raise DataError(
            f"{path}: was collected with a step of {float(metadata['step_seconds']):g} s; the "
            f"configuration has {step:g} s {again}"
        )


def _insist_on_values(frames: Sequence[MetricFrame], source: Path) -> None:
    if not frames:
        raise DataError(
            f"{source}: data_settings.exclude leaves nothing of it — narrow it, "
            "or collect a longer period"
        )
    for column, feature in enumerate(frames[0].features):
        if all(np.isnan(frame.values[0, :, column]).all() for frame in frames):
            raise DataError(
                f"{source}: {feature} is missing throughout — check its query, or remove it"
            )


def _insist_on_two_windows(parts: Sequence[MetricFrame], length: int, source: Path) -> None:
    usable = sum(part.samples for part in parts)
    longest = max((part.samples for part in parts), default=0)
    if usable < 2 * length or longest < length:
        raise DataError(
            f"{source}: {usable} complete rows, the longest stretch {longest}, are fewer than two "
            f"windows of {length} — collect a longer period, raise max_fill_steps, "
            "or lower sequence_length"
        )


def _training_boundary(frames: Sequence[MetricFrame], config: Config) -> float:
    """The last time that training may see: `train_split_ratio` of the complete rows lie before."""
    settings = config.preprocessing_settings
    substitutes = np.zeros(len(frames[0].features))
    usable = [
        frame.times[
            fill(
                frame.values[0], settings.nan_fill_strategy, settings.max_fill_steps, substitutes
            ).usable
        ]
        for frame in frames
    ]
    times = np.concatenate(usable)
    if len(times) == 0:
        raise DataError(
            "no sample has a value for every query — check which queries overlap in time, "
            "or raise max_fill_steps"
        )
    last = max(1, int(len(times) * config.training_settings.train_split_ratio))
    return float(times[last - 1])


def _fit(frames: Sequence[MetricFrame], boundary: float, config: Config) -> tuple[Preparation, Any]:
    """Learn what filling and scaling need, from what lies before the boundary."""
    settings = config.preprocessing_settings
    training = [_before(frame, boundary) for frame in frames if frame.start <= boundary]
    _insist_on_training_values(np.concatenate(training), boundary, config)
    substitutes = _substitutes(training, settings.nan_fill_strategy)
    filled = [
        fill(values, settings.nan_fill_strategy, settings.max_fill_steps, substitutes)
        for values in training
    ]
    rows = np.concatenate([part.values[part.usable] for part in filled])
    scaler, estimator = fit_scaler(settings.scaler_type, rows, config.features)
    preparation = Preparation(
        features=config.features,
        scored=config.scored,
        step=frames[0].step,
        fill_strategy=settings.nan_fill_strategy,
        max_fill_steps=settings.max_fill_steps,
        substitutes=substitutes,
        scaler=scaler,
        time_features=settings.time_features,
        time_zone=settings.time_zone,
    )
    return preparation, estimator


def _insist_on_training_values(
    values: NDArray[np.float64], boundary: float, config: Config
) -> None:
    for column, feature in enumerate(config.features):
        if np.isnan(values[:, column]).all():
            raise DataError(
                f"{feature} has no value in the training part, up to {format_instant(boundary)} "
                "— raise train_split_ratio, or collect a longer period"
            )


def _before(frame: MetricFrame, boundary: float) -> NDArray[np.float64]:
    return np.asarray(frame.values[0][frame.times <= boundary + frame.step / 2], np.float64)


def _substitutes(training: Sequence[NDArray[np.float64]], strategy: str) -> NDArray[np.float64]:
    """The mean or median of each feature before the boundary: float64 (features,)."""
    values = np.concatenate(training)
    of_feature = np.nanmedian if strategy == "median" else np.nanmean
    return np.asarray(of_feature(values, axis=0), np.float64)


def _report(frames: Sequence[MetricFrame], preparation: Preparation) -> dict[str, FeatureReport]:
    missing = [np.isnan(frame.values[0]) for frame in frames]
    counts = np.sum([mask.sum(axis=0) for mask in missing], axis=0)
    filled = np.sum([preparation.fill(frame).filled for frame in frames], axis=0)
    long = [find_long_gaps(mask, preparation.max_fill_steps).sum(axis=0) for mask in missing]
    in_long = np.sum(long, axis=0)
    everything = np.concatenate([frame.values[0] for frame in frames])
    constant = np.nanmin(everything, axis=0) == np.nanmax(everything, axis=0)
    return {
        feature: FeatureReport(
            missing=int(counts[column]),
            filled=int(filled[column]),
            in_long_gaps=int(in_long[column]),
            constant=bool(constant[column]),
        )
        for column, feature in enumerate(preparation.features)
    }


def _write_scaler(path: Path, estimator: Any) -> str:
    """Write the scikit-learn scaler and return the file's sha256."""
    import joblib

    with written_whole(path) as aside:
        joblib.dump(estimator, aside)
        return hashlib.sha256(aside.read_bytes()).hexdigest()


def _counts(report: Preprocessed) -> dict[str, Any]:
    """The figures of a report that are kept with the data."""
    return {
        "rows": report.rows,
        "dropped": report.dropped,
        "left_out": report.rows_left_out,
        "parts": report.parts,
        "features": {name: asdict(feature) for name, feature in report.features.items()},
    }


def read_processed(config: Config) -> tuple[list[MetricFrame], Preparation, dict[str, str]]:
    """What `preprocess` left: scaled frames, the preparation that made them, and the metadata.

    Raises:
        DataError: if the file is missing, or was made for other queries or with other settings.
    """
    settings = config.training_settings
    name = (
        settings.input_processed_filename or config.preprocessing_settings.processed_output_filename
    )
    path = config.artifacts_dir / name
    frames, metadata = read_frames(path, "preprocess")
    try:
        preparation = Preparation.from_json(json.loads(metadata["preparation"]))
        split_ratio = float(metadata["train_split_ratio"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: was not written by this version of promad preprocess ({error}) — run it again"
        ) from error
    _insist_on_origin(metadata, preparation.features, config, path)
    _insist_on_settings(preparation, split_ratio, config, path)
    if metadata.get("exclude", "[]") != described(config):
        raise DataError(
            f"{path}: was made with another data_settings.exclude — run promad preprocess again"
        )
    return frames, preparation, metadata


def _insist_on_settings(
    preparation: Preparation, split_ratio: float, config: Config, path: Path
) -> None:
    """Refuse data that was prepared otherwise than the configuration now asks for."""
    wanted = config.preprocessing_settings
    for key, made_with, asked_for in (
        ("nan_fill_strategy", preparation.fill_strategy, wanted.nan_fill_strategy),
        ("max_fill_steps", preparation.max_fill_steps, wanted.max_fill_steps),
        ("scaler_type", preparation.scaler.kind, wanted.scaler_type),
        ("the number of scored features", preparation.scored, config.scored),
        ("time_features", preparation.time_features, wanted.time_features),
        ("time_zone", preparation.time_zone, wanted.time_zone),
        ("train_split_ratio", split_ratio, config.training_settings.train_split_ratio),
    ):
        if made_with != asked_for:
            raise DataError(
                f"{path}: was made with {key} {_shown(made_with)}; the configuration has "
                f"{_shown(asked_for)} — run promad preprocess again"
            )


def _shown(value: object) -> str:
    return ", ".join(value) or "none" if isinstance(value, tuple) else str(value)

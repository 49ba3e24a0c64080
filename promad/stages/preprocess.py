"""`promad preprocess`: fill short gaps, split at long ones, scale by the training part."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from promad.config import Config
from promad.data.artifacts import open_groups, read_frames, write_frames, write_groups
from promad.data.groups import THE_ONLY_GROUP, Labels
from promad.data.losses import Loss, count_rows_with_data, find_large_losses
from promad.errors import DataError
from promad.files import write_whole
from promad.training.exclusion import Excluded, cut_excluded, find_excluded
from promad.training.fleet_processing import (
    FleetProcessed,
    find_end_of_fleet,
    process_groups,
)
from promad.training.muted_time import MutedTime, read_marks
from promad.training.processed_file import (
    build_fleet_metadata,
    build_metadata,
    read_json_object,
    require_labels,
    require_origin,
    require_wider_ranges,
)
from promad.training.processing import FeatureReport, ProcessingOptions, process

__all__ = ["FeatureReport", "Preprocessed", "preprocess"]


@dataclass(frozen=True)
class Preprocessed:
    """What `preprocess` did.

    Attributes:
        path: the processed file.
        scaler_path: the scikit-learn scaler; None without scikit-learn.
        rows: samples collected, and of these `dropped` because something stayed missing.
        parts: the stretches left; no window spans two of them.
        training_rows: how many of the remaining rows belong to the training part.
        features: by name, in order.
        excluded: the samples that `data_settings.exclude` and `mute` exclude, entry by entry.
        rows_excluded: how many rows these are; they are not among those dropped.
        rows_with_data: in how many of the remaining rows any feature has a value.
        losses: the features that cost more than a tenth of these rows.
        groups: how many groups there are; 0 without `group_by`.
        groups_left_out: of each group that has too little data why; it is scored with the pooled
            calibration.
    """

    path: Path
    scaler_path: Path | None
    rows: int
    dropped: int
    parts: int
    training_rows: int
    features: Mapping[str, FeatureReport]
    excluded: tuple[Excluded, ...]
    rows_excluded: int
    rows_with_data: int
    losses: tuple[Loss, ...]
    groups: int = 0
    groups_left_out: Mapping[Labels, str] = field(default_factory=dict)


def preprocess(config: Config) -> Preprocessed:
    """Make the processed file and the scaler from the collected file.

    Raises:
        DataError: if there is too little data, or a feature has no value.
    """
    if config.group_by:
        return _preprocess_groups(config)
    options, settings = ProcessingOptions.of(config), config.preprocessing_settings
    folder = config.artifacts_dir
    source = folder / (settings.input_filename or config.data_settings.output_filename)
    collected, metadata = read_frames(source, "collect")
    require_origin(metadata, collected[0].features, options, source)
    require_wider_ranges(metadata, options, source)
    marks = read_json_object(metadata, "marks", source)
    with _naming(source):
        muted = MutedTime(options.mute, read_marks(metadata))
        excluded = find_excluded(options.exclude, marks, collected)
        excluded += muted.find(THE_ONLY_GROUP, collected)
        frames = cut_excluded(collected, excluded)
        processed = process(frames, options)
    rows, remaining = (sum(frame.samples for frame in each) for each in (collected, frames))
    scaler_path = folder / settings.scaler_output_filename
    report = Preprocessed(
        path=folder / settings.processed_output_filename,
        scaler_path=scaler_path if processed.estimator is not None else None,
        rows=rows,
        dropped=remaining - sum(part.samples for part in processed.parts),
        parts=len(processed.parts),
        training_rows=processed.training_rows,
        features=processed.features,
        excluded=excluded,
        rows_excluded=rows - remaining,
        rows_with_data=count_rows_with_data(frames),
        losses=find_large_losses(frames, settings.nan_fill_strategy, settings.max_fill_steps),
    )
    digest = _write_scaler(scaler_path, processed.estimator)
    kept = processed.scaled if settings.nan_fill_strategy == "none" else processed.parts
    own = build_metadata(processed, options, excluded, digest, metadata)
    counts = {"filled_dropped_split": json.dumps(_counts(report))}
    write_frames(report.path, kept, {**metadata, **own, **counts})
    return report


def _preprocess_groups(config: Config) -> Preprocessed:
    """Make the processed file of a fleet, one group after the other."""
    options, settings = ProcessingOptions.of(config), config.preprocessing_settings
    folder = config.artifacts_dir
    path = folder / (settings.input_filename or config.data_settings.output_filename)
    source = open_groups(path, "collect")
    require_origin(source.metadata, source.features, options, path)
    require_wider_ranges(source.metadata, options, path)
    require_labels(source.groups, config.group_by, path)
    marks = read_json_object(source.metadata, "marks", path)
    scaler_path = folder / settings.scaler_output_filename
    with _naming(path):
        muted = MutedTime(options.mute, read_marks(source.metadata))
        report = FleetProcessed(find_end_of_fleet(source, options))

        def describe() -> dict[str, str]:
            pooled, estimator = report.fit_pooled(options)
            own = build_fleet_metadata(
                pooled, report.preparations, report.training_ends_at, options, source.metadata
            )
            excluded = json.dumps([each.line for each in report.excluded])
            digest = _write_scaler(scaler_path, estimator)
            return {**source.metadata, **own, "left_out": excluded, "scaler_sha256": digest}

        write_groups(
            folder / settings.processed_output_filename,
            source.step,
            sorted(config.group_by),
            process_groups(source, options, marks, report, muted),
            describe,
        )
    return Preprocessed(
        path=folder / settings.processed_output_filename,
        scaler_path=scaler_path if scaler_path.exists() else None,
        rows=report.rows,
        dropped=report.dropped,
        parts=report.parts,
        training_rows=report.training_rows,
        features=report.features,
        excluded=tuple(report.excluded),
        rows_excluded=report.rows_excluded,
        rows_with_data=report.rows,
        losses=(),
        groups=len(report.groups),
        groups_left_out=report.left_out,
    )


@contextmanager
def _naming(source: Path) -> Iterator[None]:
    """Let a DataError name the file that it is about."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{source}: {error}") from error


def _write_scaler(path: Path, estimator: Any) -> str:
    """Write the scikit-learn scaler and return the file's sha256.

    Without one, no file of other data is left in its place, and the digest is empty.
    """
    if estimator is None:
        path.unlink(missing_ok=True)
        return ""
    import joblib

    with write_whole(path) as aside:
        joblib.dump(estimator, aside)
        return hashlib.sha256(aside.read_bytes()).hexdigest()


def _counts(report: Preprocessed) -> dict[str, Any]:
    """The numbers that are stored with the data."""
    return {
        "rows": report.rows,
        "dropped": report.dropped,
        "left_out": report.rows_excluded,
        "with_data": report.rows_with_data,
        "losses": {loss.feature: loss.share for loss in report.losses},
        "parts": report.parts,
        "features": {name: _describe(feature) for name, feature in report.features.items()},
    }


def _describe(feature: FeatureReport) -> dict[str, Any]:
    """The numbers of one feature; of what is rare only what there is."""
    rare = {"outside", "sentinels", "blind"}
    return {key: value for key, value in asdict(feature).items() if value or key not in rare}

"""The file that `preprocess` writes: its metadata, and whether it fits the configuration."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from promad.config import Config
from promad.data.artifacts import read_frames
from promad.data.frame import MetricFrame
from promad.data.preparation import Preparation
from promad.data.valid_range import contains_range, format_ranges, read_ranges
from promad.data.windows import SampleWindows
from promad.errors import DataError
from promad.training.exclusion import Excluded, serialize_exclusions
from promad.training.processing import Processed, ProcessingOptions


@dataclass(frozen=True)
class ProcessedFile:
    """What `preprocess` has written.

    Attributes:
        frames: scaled, NaN where missing.
        preparation: what made them.
        training_ends_at: unix seconds of the last sample of the training part.
        server: the URL of the server that the values come from.
        excluded: a line for each range of samples that was excluded.
        scaler_sha256: the digest of the scikit-learn scaler's file.
        blind: the features whose scale is that of sentinel values.
        rows_with_data: in how many rows, of those not excluded, any feature had a value.
        losses: by feature, the share of these rows that were dropped for it, if it is large.
    """

    frames: Sequence[MetricFrame]
    preparation: Preparation
    training_ends_at: float
    server: str
    excluded: tuple[str, ...]
    scaler_sha256: str
    blind: tuple[str, ...] = ()
    rows_with_data: int = 0
    losses: Mapping[str, float] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many rows are complete."""
        return sum(int((~np.isnan(frame.values[0])).all(axis=1).sum()) for frame in self.frames)

    def build_windows(self, length: int) -> SampleWindows:
        """All windows of the frames."""
        return self.preparation.windows(self.frames, length)


def build_metadata(
    processed: Processed,
    options: ProcessingOptions,
    excluded: Iterable[Excluded],
    scaler_sha256: str,
) -> dict[str, str]:
    """The metadata from which `read_processed` learns how the data was made."""
    return {
        "preparation": json.dumps(processed.preparation.to_json()),
        "training_ends_at": repr(processed.training_ends_at),
        "train_split_ratio": repr(options.train_split_ratio),
        "exclude": serialize_exclusions(options.exclude),
        "left_out": json.dumps([each.line for each in excluded]),
        "scaler_sha256": scaler_sha256,
        "blind": json.dumps([name for name, each in processed.features.items() if each.blind]),
    }


def locate_processed(config: Config) -> Path:
    """Where the processed data is that the configuration means."""
    name = config.training_settings.input_processed_filename
    return config.artifacts_dir / (name or config.preprocessing_settings.processed_output_filename)


def read_processed(path: Path, options: ProcessingOptions) -> ProcessedFile:
    """What `preprocess` has written.

    Raises:
        DataError: if the file is missing or damaged, or was made with other options.
    """
    frames, metadata = read_frames(path, "preprocess")
    counts = read_json_object(metadata, "filled_dropped_split", path)
    try:
        preparation = Preparation.from_json(json.loads(metadata["preparation"]))
        split_ratio = float(metadata["train_split_ratio"])
        processed = ProcessedFile(
            frames,
            preparation,
            float(metadata["training_ends_at"]),
            metadata.get("server", ""),
            tuple(json.loads(metadata.get("left_out", "[]"))),
            metadata.get("scaler_sha256", ""),
            tuple(map(str, json.loads(metadata.get("blind", "[]")))),
            int(counts.get("with_data", 0)),
            {str(name): float(share) for name, share in counts.get("losses", {}).items()},
        )
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: was not written by this version of promad preprocess ({error}) — run it again"
        ) from error
    require_origin(metadata, preparation.features, options, path)
    _require_settings(preparation, split_ratio, options, path)
    if metadata.get("exclude", "[]") != serialize_exclusions(options.exclude):
        raise DataError(
            f"{path}: was made with another data_settings.exclude — run promad preprocess again"
        )
    return processed


def require_origin(
    metadata: Mapping[str, str],
    features: Sequence[str],
    options: ProcessingOptions,
    path: Path,
) -> None:
    """Refuse data that was collected for other queries or with another step.

    Args:
        metadata: that of the file.
        features: the columns of the file.

    Raises:
        DataError: naming what differs.
    """
    wanted, again = options.queries, "— run promad collect again"
    if tuple(features) != options.features:
        raise DataError(
            f"{path}: has the features {', '.join(features)}; the configuration has "
            f"{', '.join(wanted)} {again}"
        )
    for alias, collected in read_json_object(metadata, "queries", path).items():
        if collected != wanted.get(alias):
            raise DataError(
                f"{path}: {alias} was collected with the query {collected}; the configuration has "
                f"{wanted.get(alias)} {again}"
            )
    if float(metadata["step_seconds"]) != options.step:
        raise DataError(
            f"{path}: was collected with a step of {float(metadata['step_seconds']):g} s; the "
            f"configuration has {options.step:g} s {again}"
        )


def require_wider_ranges(
    metadata: Mapping[str, str], options: ProcessingOptions, path: Path
) -> None:
    """Refuse data from which values were dropped that the configuration calls valid.

    Args:
        metadata: that of the collected file.

    Raises:
        DataError: naming the feature.
    """
    features = options.features
    try:
        collected = read_ranges(json.loads(metadata.get("valid_ranges", "[]")), len(features))
    except (RecursionError, TypeError, ValueError):
        raise DataError(
            f"{path}: its metadata valid_ranges is damaged — run promad collect again"
        ) from None
    wanted = options.valid_ranges or ((None, None),) * len(features)
    for name, own, new in zip(features, collected, wanted, strict=False):
        if not contains_range(own, new):
            raise DataError(
                f"{path}: {name} was collected with valid_range {format_ranges([own])}; the "
                f"configuration has {format_ranges([new])} — run promad collect again"
            )


def read_json_object(metadata: Mapping[str, str], key: str, path: Path) -> dict[str, Any]:
    """An object in the metadata of a file; empty if there is none.

    Raises:
        DataError: if it is not JSON, or no object.
    """
    try:
        found = json.loads(metadata.get(key, "{}"))
    except (RecursionError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise DataError(f"{path}: its metadata {key} is damaged — run promad collect again")
    return found


def _require_settings(
    preparation: Preparation, split_ratio: float, options: ProcessingOptions, path: Path
) -> None:
    """Refuse data that was prepared otherwise than the configuration now asks for."""
    wanted = options.settings
    for key, made_with, asked_for in (
        ("nan_fill_strategy", preparation.fill_strategy, wanted.nan_fill_strategy),
        ("max_fill_steps", preparation.max_fill_steps, wanted.max_fill_steps),
        ("scaler_type", preparation.scaler.kind, wanted.scaler_type),
        ("number of scored features", preparation.scored, options.scored),
        ("time_features", preparation.time_features, wanted.time_features),
        ("time_zone", preparation.time_zone, wanted.time_zone),
        ("valid_range", *map(format_ranges, (preparation.valid_ranges, options.valid_ranges))),
        ("train_split_ratio", split_ratio, options.train_split_ratio),
    ):
        if made_with != asked_for:
            raise DataError(
                f"{path}: was made with {key} {_show(made_with)}; the configuration has "
                f"{_show(asked_for)} — run promad preprocess again"
            )


def _show(value: object) -> str:
    return ", ".join(value) or "none" if isinstance(value, tuple) else str(value)


def read_scaler(path: Path, sha256: str) -> bytes:
    """The scikit-learn scaler's file, if it has the digest that the processed data asks for.

    Raises:
        DataError: if it cannot be read, or belongs to other data.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}) — run promad preprocess again"
        ) from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DataError(
            f"{path}: is not the scaler of the processed data — run promad preprocess again"
        )
    return content

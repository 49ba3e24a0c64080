"""The file that `preprocess` writes: its metadata, and whether it fits the configuration."""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promad.config import Config
from promad.data.artifacts import GroupFile, open_groups, read_frames
from promad.data.frame import MetricFrame
from promad.data.groups import Labels
from promad.data.possible_range import NO_RANGE
from promad.data.preparation import Preparation
from promad.data.scaling import Scaler
from promad.data.valid_range import contains_range, format_ranges, read_ranges
from promad.data.windows import SampleWindows
from promad.errors import DataError
from promad.files import DAMAGED
from promad.training.exclusion import Excluded, serialize_exclusions
from promad.training.muted_time import describe_mute
from promad.training.processing import Processed, ProcessingOptions

Values = NDArray[np.float64]


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


@dataclass(frozen=True)
class ProcessedFleet:
    """What `preprocess` has written of a fleet; read one group at a time.

    Attributes:
        file: the scaled values of each group.
        preparation: that of a group which is not among these; its scaler is fitted to all of them.
        center, scale, substitutes: each group's own, float64 (groups, features).
        possible: what is expected of each group, float64 (groups, 2, features), see `Preparation`;
            infinite in data that was processed before it was kept.
        training_ends_at, server, excluded, scaler_sha256, blind: as in `ProcessedFile`.
    """

    file: GroupFile
    preparation: Preparation
    center: Values
    scale: Values
    substitutes: Values
    possible: Values
    training_ends_at: float
    server: str
    excluded: tuple[str, ...]
    scaler_sha256: str
    blind: tuple[str, ...] = ()

    @property
    def groups(self) -> tuple[Labels, ...]:
        """The labels of the groups."""
        return self.file.groups

    def read(self, group: int) -> list[MetricFrame]:
        """The scaled frames of one group.

        Raises:
            DataError: if the file is damaged.
        """
        return self.file.read(group)

    def prepare(self, group: int) -> Preparation:
        """What made the values of one group."""
        scaler = Scaler(self.preparation.scaler.kind, self.center[group], self.scale[group])
        return replace(
            self.preparation,
            scaler=scaler,
            substitutes=self.substitutes[group],
            possible=self.possible[group],
        )

    def read_as_new(self, group: int) -> list[MetricFrame]:
        """The same, scaled as if the group had no scaler of its own.

        Raises:
            DataError: if the file is damaged.
        """
        pooled = self.preparation.scaler
        factor = self.scale[group] / pooled.scale
        shift = (self.center[group] - pooled.center) / pooled.scale
        return [frame.with_values(frame.values * factor + shift) for frame in self.read(group)]


def build_fleet_metadata(
    preparation: Preparation,
    own: Sequence[Preparation],
    training_ends_at: float,
    options: ProcessingOptions,
    collected: Mapping[str, str],
) -> dict[str, str]:
    """The metadata from which `read_fleet` learns how the data of a fleet was made.

    Args:
        collected: the metadata of the collected file.
        preparation: that of all groups.
        own: each group's, in the order of the file.
    """
    numbers = {
        "center": [each.scaler.center for each in own],
        "scale": [each.scaler.scale for each in own],
        "substitutes": [each.substitutes for each in own],
        "possible": [each.limits for each in own],
    }
    return {
        "preparation": json.dumps(preparation.to_json()),
        "group_preparations": _pack(numbers),
        "training_ends_at": repr(training_ends_at),
        "train_split_ratio": repr(options.train_split_ratio),
        "exclude": serialize_exclusions(options.exclude),
        "mute": describe_mute(options.mute, collected),
    }


def _pack(numbers: Mapping[str, Sequence[Values]]) -> str:
    """Arrays of numbers as text."""
    file = BytesIO()
    np.savez_compressed(
        file, allow_pickle=False, **{key: np.array(numbers[key]) for key in numbers}
    )
    return b64encode(file.getvalue()).decode()


def _unpack(text: str, groups: int, features: int) -> tuple[Values, Values, Values, Values]:
    with np.load(BytesIO(b64decode(text)), allow_pickle=False) as stored:
        found = tuple(np.asarray(stored[key], np.float64) for key in _GROUP_NUMBERS)
        possible = np.broadcast_to(NO_RANGE, (groups, 2, features))
        if "possible" in stored:
            possible = np.asarray(stored["possible"], np.float64)
    if (
        any(each.shape != (groups, features) or not np.isfinite(each).all() for each in found)
        or possible.shape != (groups, 2, features)
        or not (possible[:, 0] <= possible[:, 1]).all()
    ):
        raise ValueError("preparations are not of these groups")
    return found[0], found[1], found[2], possible


_GROUP_NUMBERS = ("center", "scale", "substitutes")


def read_fleet(path: Path, options: ProcessingOptions) -> ProcessedFleet:
    """What `preprocess` has written of a fleet.

    Raises:
        DataError: if the file is missing or damaged, or was made with other options.
    """
    file = open_groups(path, "preprocess")
    metadata = file.metadata
    try:
        preparation = Preparation.from_json(json.loads(metadata["preparation"]))
        preparation = replace(preparation, rules=options.rules)
        split_ratio = float(metadata["train_split_ratio"])
        center, scale, substitutes, possible = _unpack(
            metadata["group_preparations"], len(file.groups), len(file.features)
        )
        fleet = ProcessedFleet(
            file,
            preparation,
            center,
            scale,
            substitutes,
            possible,
            float(metadata["training_ends_at"]),
            metadata.get("server", ""),
            tuple(json.loads(metadata.get("left_out", "[]"))),
            metadata.get("scaler_sha256", ""),
            tuple(map(str, json.loads(metadata.get("blind", "[]")))),
        )
    except DAMAGED as error:
        raise DataError(
            f"{path}: was not written by this version of promad preprocess ({error}) — run it again"
        ) from error
    _require_same_options(metadata, preparation, split_ratio, options, path)
    return fleet


def build_metadata(
    processed: Processed,
    options: ProcessingOptions,
    excluded: Iterable[Excluded],
    scaler_sha256: str,
    collected: Mapping[str, str],
) -> dict[str, str]:
    """The metadata from which `read_processed` learns how the data was made.

    Args:
        collected: the metadata of the collected file.
    """
    return {
        "preparation": json.dumps(processed.preparation.to_json()),
        "training_ends_at": repr(processed.training_ends_at),
        "train_split_ratio": repr(options.train_split_ratio),
        "exclude": serialize_exclusions(options.exclude),
        "mute": describe_mute(options.mute, collected),
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
        preparation = replace(preparation, rules=options.rules)
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
    _require_same_options(metadata, preparation, split_ratio, options, path)
    return processed


def _require_same_options(
    metadata: Mapping[str, str],
    preparation: Preparation,
    split_ratio: float,
    options: ProcessingOptions,
    path: Path,
) -> None:
    require_origin(metadata, preparation.features, options, path)
    _require_settings(preparation, split_ratio, options, path)
    if metadata.get("exclude", "[]") != serialize_exclusions(options.exclude):
        raise DataError(
            f"{path}: was made with another data_settings.exclude — run promad preprocess again"
        )
    if metadata.get("mute", "[]") != describe_mute(options.mute, metadata):
        raise DataError(
            f"{path}: was made with another mute of its time — run promad preprocess again"
        )


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


def require_labels(groups: Sequence[Labels], by: Sequence[str], path: Path) -> None:
    """Refuse data that was collected for other groups.

    Raises:
        DataError: naming both label names.
    """
    names = {name for labels in groups for name, _ in labels}
    if not names <= set(by) or (not names and len(groups) > 1):
        raise DataError(
            f"{path}: was collected with group_by {', '.join(sorted(names)) or 'nothing'}; the "
            f"configuration has {', '.join(by)} — run promad collect again"
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


def read_scaler(path: Path, sha256: str) -> bytes | None:
    """The scikit-learn scaler's file, if it has the digest that the processed data asks for.

    None if the data has no such file.

    Raises:
        DataError: if it cannot be read, or belongs to other data.
    """
    if not sha256:
        return None
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

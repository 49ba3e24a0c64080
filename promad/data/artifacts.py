"""Parquet and .npy files that one stage writes and the next one reads.

Every file is written beside its final name and then renamed, so a stage that fails or is
interrupted leaves the previous file in place.
"""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from promad.data.frame import MetricFrame
from promad.data.groups import Labels, sort_labels
from promad.errors import DataError
from promad.files import DAMAGED, explain_damage, remove_abandoned, write_whole

_TIME = "timestamp"
_GROUP_PREFIX = "group:"
_METADATA_PREFIX = b"promad:"


@contextmanager
def open_scratch(path: Path) -> Iterator[Path]:
    """A directory beside a file for what is needed to write it; gone afterwards.

    Raises:
        DataError: if it cannot be made.
    """
    directory = path.with_name(f".{path.name}.chunks.{os.getpid()}.partial")
    remove_abandoned(path.parent)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error})") from error
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def write_frames(path: Path, frames: Sequence[MetricFrame], metadata: Mapping[str, str]) -> None:
    """Write frames of one step and one set of features as a parquet file; see `write_groups`.

    Args:
        frames: in order of time, and of one group no two that overlap. A frame holds some of the
            groups or all of them; where a group has a gap, it has no rows or empty ones.

    Raises:
        DataError: if the file cannot be written.
    """
    by_group: defaultdict[Labels, list[MetricFrame]] = defaultdict(list)
    for frame in frames:
        for group, labels in enumerate(frame.groups):
            by_group[labels].append(frame.of_group(group))
    names = sorted({name for labels in by_group for name, _ in labels})
    write_groups(path, frames[0].step, names, by_group.values(), lambda: metadata)


def write_groups(
    path: Path,
    step: float,
    labels: Sequence[str],
    groups: Iterable[Sequence[MetricFrame]],
    describe: Callable[[], Mapping[str, str]],
) -> None:
    """Write the frames of one group after the other as a parquet file.

    A row is one sample of one group: `timestamp` (UTC, milliseconds), a `group:<label>` column for
    each label that tells groups apart (empty where a group does not have it), and a float64 column
    per feature in which null means missing. All samples of a group come together, in order of time,
    in row groups of their own: only one group is in memory at a time.

    Args:
        labels: the label names of all groups.
        groups: of each group its frames, in order of time; at least one group.
        describe: the metadata, asked for once all groups are written.

    Raises:
        DataError: if the file cannot be written.
    """
    texts: Any = [_GROUP_PREFIX + name for name in labels]
    with write_whole(path) as aside, ExitStack() as closing:
        writer: pq.ParquetWriter | None = None
        for frames in groups:
            table = pa.concat_tables([_table(frame, labels) for frame in frames])
            if writer is None:
                options = {"use_dictionary": texts, "write_statistics": texts}
                writer = closing.enter_context(pq.ParquetWriter(aside, table.schema, **options))
            writer.write_table(table)
        if writer is None:
            raise ValueError("there is no group to write")
        kept = {**describe(), "step_seconds": repr(step)}
        writer.add_key_value_metadata(
            {_METADATA_PREFIX + key.encode(): value.encode() for key, value in kept.items()}
        )


def _table(frame: MetricFrame, labels: Sequence[str]) -> pa.Table:
    """The rows of a frame of one group."""
    milliseconds = np.round(frame.times * 1000).astype("datetime64[ms]")
    columns = {_TIME: pa.array(milliseconds, pa.timestamp("ms", tz="UTC"))}
    own = dict(frame.groups[0])
    for name in labels:
        values = pa.array([own.get(name, "")], pa.string())
        columns[_GROUP_PREFIX + name] = values.take(pa.array(np.zeros(frame.samples, np.int64)))
    for index, feature in enumerate(frame.features):
        columns[feature] = pa.array(frame.values[0, :, index], pa.float64(), from_pandas=True)
    return pa.table(columns)


@dataclass(frozen=True)
class GroupFile:
    """A file of groups, read one group at a time.

    Attributes:
        groups: their labels, in the order of the file.
        features: the names of the columns.
        step: seconds between samples.
        metadata: of all groups.
    """

    path: Path
    made_by: str
    groups: tuple[Labels, ...]
    features: tuple[str, ...]
    step: float
    metadata: Mapping[str, str]
    _row_groups: tuple[tuple[int, ...], ...]
    _about: pq.FileMetaData
    """Read once: it describes each column of each group, so it is long."""

    def read(self, group: int) -> list[MetricFrame]:
        """The frames of one group, which end where it has no sample for the next step.

        Raises:
            DataError: if the file is damaged.
        """
        with _name_damage(self.path, self.made_by):
            with pq.ParquetFile(self.path, metadata=self._about) as file:
                table = file.read_row_groups(self._row_groups[group])
            return list(_frames(table, self.step))


def open_groups(path: Path, made_by: str) -> GroupFile:
    """A file that `write_groups` wrote, of which nothing but the labels is read yet.

    Args:
        made_by: the command that writes the file, for messages.

    Raises:
        DataError: if the file is missing, damaged, empty, or not promad's.
    """
    _require_file(path, made_by)
    with _name_damage(path, made_by):
        with pq.ParquetFile(path) as file:
            metadata = _metadata(file.schema_arrow.metadata or {}, file.metadata.metadata or {})
            step = _read_step(file.schema_arrow, metadata)
            if step is None:
                raise DataError(f"{path}: was not written by promad — run promad {made_by}")
            names = [name for name in file.schema_arrow.names if name.startswith(_GROUP_PREFIX)]
            rows: defaultdict[Labels, list[int]] = defaultdict(list)
            for number in range(file.num_row_groups):
                rows[_read_labels(file, number, names)].append(number)
        if not rows:
            raise DataError(f"{path}: holds no rows — run promad {made_by} over a longer period")
        features = tuple(
            name for name in file.schema_arrow.names if name != _TIME and name not in names
        )
        places = tuple(tuple(numbers) for numbers in rows.values())
        about = file.metadata
        return GroupFile(path, made_by, tuple(rows), features, step, metadata, places, about)


def _read_labels(file: pq.ParquetFile, row_group: int, names: Sequence[str]) -> Labels:
    """The labels of the one group whose rows these are.

    Raises:
        ValueError: if they are of several groups.
    """
    found = {}
    about = file.metadata.row_group(row_group)
    for column in map(about.column, range(about.num_columns)):
        if column.path_in_schema in names:
            value = _read_only_value(file, row_group, column)
            found[column.path_in_schema.removeprefix(_GROUP_PREFIX)] = value
    return sort_labels({name: value for name, value in found.items() if value})


def _read_only_value(file: pq.ParquetFile, row_group: int, column: Any) -> str:
    """The value that all rows of a column have; long ones are not among its statistics."""
    bounds = column.statistics
    values = {bounds.min, bounds.max} if bounds is not None and bounds.has_min_max else None
    if values is None:
        read = file.read_row_group(row_group, columns=[column.path_in_schema])
        values = set(read.column(0).unique().to_pylist())
    if len(values) != 1:
        raise ValueError("rows of several groups are mixed")
    return str(values.pop())


@contextmanager
def _name_damage(path: Path, made_by: str) -> Iterator[None]:
    """Let an error that damaged content causes name the file, and say what to do."""
    try:
        yield
    except (*DAMAGED, pa.ArrowException) as error:
        raise DataError(
            f"{path}: cannot be read ({explain_damage(error)}) — run promad {made_by} again"
        ) from error


def read_frames(path: Path, made_by: str) -> tuple[list[MetricFrame], dict[str, str]]:
    """The frames and the metadata of a file that `write_frames` wrote.

    Each frame holds every group. It ends where no group has a sample for the next step; where only
    some have none, theirs are NaN.

    Args:
        made_by: the command that writes the file, for messages.

    Raises:
        DataError: if the file is missing, damaged, empty, or not promad's.
    """
    _require_file(path, made_by)
    with _name_damage(path, made_by):
        table = pq.read_table(path, partitioning=None)
        about = pq.read_metadata(path).metadata or {}
        metadata = _metadata(table.schema.metadata or {}, about)
        step = _read_step(table.schema, metadata)
        groups = [name for name in table.column_names if name.startswith(_GROUP_PREFIX)]
        if step is not None and any(table[name].null_count for name in (_TIME, *groups)):
            step = None
        if step is None:
            raise DataError(f"{path}: was not written by promad — run promad {made_by}")
        if table.num_rows == 0:
            raise DataError(f"{path}: holds no rows — run promad {made_by} over a longer period")
        return list(_frames(table, step)), metadata


def _require_file(path: Path, made_by: str) -> None:
    if not path.exists():
        raise DataError(f"{path}: no such file — run promad {made_by} first")
    if not path.is_file():
        raise DataError(f"{path}: is not a regular file — remove it and run promad {made_by}")


def _read_step(schema: pa.Schema, metadata: Mapping[str, str]) -> float | None:
    """Seconds between samples, if the table has the columns that `write_groups` writes."""
    types = {field.name: field.type for field in schema}
    time = types.pop(_TIME, None)
    if "step_seconds" not in metadata or len(types) + 1 != len(schema) or time is None:
        return None
    groups = {name for name in types if name.startswith(_GROUP_PREFIX)}
    ours = (
        pa.types.is_timestamp(time)
        and all(pa.types.is_string(types[name]) for name in groups)
        and all(pa.types.is_float64(types[name]) for name in types.keys() - groups)
        and types.keys() > groups
    )
    step = float(metadata["step_seconds"])
    return step if ours and 0 < step < float("inf") else None


def _metadata(*sources: Mapping[bytes, bytes]) -> dict[str, str]:
    return {
        key.removeprefix(_METADATA_PREFIX).decode(): value.decode()
        for source in sources
        for key, value in source.items()
        if key.startswith(_METADATA_PREFIX)
    }


def _frames(table: pa.Table, step: float) -> Iterator[MetricFrame]:
    label_columns = [name for name in table.column_names if name.startswith(_GROUP_PREFIX)]
    features = tuple(name for name in table.column_names if name not in {_TIME, *label_columns})
    groups, group_of = _groups(table, label_columns)
    milliseconds, time_of = np.unique(table[_TIME].cast(pa.int64()).to_numpy(), return_inverse=True)
    values = np.full((len(groups), len(milliseconds), len(features)), np.nan)
    values[group_of, time_of] = np.column_stack([table[name].to_numpy() for name in features])
    times = milliseconds / 1000
    for first, last in pairwise(_bounds(times, step)):
        yield MetricFrame(float(times[first]), step, features, groups, values[:, first:last])


def _groups(
    table: pa.Table, label_columns: Sequence[str]
) -> tuple[tuple[Labels, ...], NDArray[np.int64]]:
    """The groups in the order of their first rows, and which one each row is of: (rows,)."""
    labels = [table[name].combine_chunks().dictionary_encode() for name in label_columns]
    codes = np.zeros(table.num_rows, np.int64)
    for column in labels:
        pairs = codes * len(column.dictionary) + column.indices.to_numpy()
        _, codes = np.unique(pairs, return_inverse=True)
    _, first_rows, group_of = np.unique(codes, return_index=True, return_inverse=True)
    order = np.argsort(first_rows)
    names = [name.removeprefix(_GROUP_PREFIX) for name in label_columns]
    groups = tuple(
        sort_labels(
            {
                name: value
                for name, column in zip(names, labels, strict=True)
                if (value := column[row].as_py())
            }
        )
        for row in first_rows[order].tolist()
    )
    return groups, np.argsort(order)[group_of]


def _bounds(times: NDArray[np.float64], step: float) -> list[int]:
    """Where a new run of regular times begins, and how many times there are."""
    jumps = np.flatnonzero(np.abs(np.diff(times) - step) > step * 1e-3) + 1
    return [0, *jumps.tolist(), len(times)]


def write_array(path: Path, shape: tuple[int, ...], parts: Iterable[NDArray[np.float32]]) -> None:
    """Write a float32 .npy of `shape` from consecutive `parts` along its first axis.

    Only one part is in memory at a time.

    Raises:
        DataError: if the file cannot be written.
    """
    with write_whole(path) as aside, aside.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_2_0(file, header)
        for part in parts:
            file.write(np.ascontiguousarray(part, "<f4").tobytes())


def write_small_array(path: Path, array: NDArray[np.generic]) -> None:
    """Write an array of plain numbers or times as .npy (no pickle inside).

    Raises:
        DataError: if the file cannot be written.
    """
    with write_whole(path) as aside, aside.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def read_array(path: Path, made_by: str) -> NDArray[np.generic]:
    """A .npy file, mapped into memory rather than read; pickled content is an error.

    Raises:
        DataError: if it is missing or is no plain array.
    """
    _require_file(path, made_by)
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise ValueError("holds more than one array")
    except DAMAGED as error:
        raise DataError(
            f"{path}: cannot be read ({explain_damage(error)}) — run promad {made_by} again"
        ) from error
    return array


def end_times_path(path: Path) -> Path:
    """The file of the end times, datetime64[ms] UTC, of the windows in a .npy file."""
    return path.with_name(f"{path.stem}_end_times.npy")

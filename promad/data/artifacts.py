"""Parquet and .npy files that one stage writes and the next one reads.

Every file is written beside its final name and then renamed, so a stage that fails or is
interrupted leaves the previous file in place.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from promad.data.frame import MetricFrame
from promad.data.groups import Labels
from promad.errors import DataError
from promad.files import DAMAGED, explain_damage, write_whole

_TIME = "timestamp"
_GROUP_PREFIX = "group:"
_METADATA_PREFIX = b"promad:"


def write_frames(path: Path, frames: Sequence[MetricFrame], metadata: Mapping[str, str]) -> None:
    """Write frames of one step and one set of features as a parquet file.

    A row is one sample of one group: `timestamp` (UTC, milliseconds), a `group:<label>` column for
    each label that tells groups apart, and a float64 column per feature in which null means
    missing. All samples of a group come together, in order of time.

    Args:
        frames: in order of time, and of one group no two that overlap. A frame holds some of the
            groups or all of them; where a group has a gap, it has no rows or empty ones.

    Raises:
        DataError: if the file cannot be written.
    """
    by_group: defaultdict[Labels, list[pa.Table]] = defaultdict(list)
    for frame in frames:
        for group, labels in enumerate(frame.groups):
            by_group[labels].append(_table(frame, group))
    kept = {**metadata, "step_seconds": repr(frames[0].step)}
    table = pa.concat_tables(chain.from_iterable(by_group.values())).replace_schema_metadata(
        {_METADATA_PREFIX + key.encode(): value.encode() for key, value in kept.items()}
    )
    with write_whole(path) as aside:
        pq.write_table(table, aside)


def _table(frame: MetricFrame, group: int) -> pa.Table:
    milliseconds = np.round(frame.times * 1000).astype("datetime64[ms]")
    columns = {_TIME: pa.array(milliseconds, pa.timestamp("ms", tz="UTC"))}
    for name, value in frame.groups[group]:
        columns[_GROUP_PREFIX + name] = pa.array([value] * frame.samples, pa.string())
    for index, feature in enumerate(frame.features):
        columns[feature] = pa.array(frame.values[group, :, index], pa.float64(), from_pandas=True)
    return pa.table(columns)


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
    try:
        table = pq.read_table(path, partitioning=None)
        metadata = _metadata(table.schema.metadata or {})
        step = _read_step(table, metadata)
        if step is None:
            raise DataError(f"{path}: was not written by promad — run promad {made_by}")
        if table.num_rows == 0:
            raise DataError(f"{path}: holds no rows — run promad {made_by} over a longer period")
        return list(_frames(table, step)), metadata
    except (*DAMAGED, pa.ArrowException) as error:
        raise DataError(
            f"{path}: cannot be read ({explain_damage(error)}) — run promad {made_by} again"
        ) from error


def _require_file(path: Path, made_by: str) -> None:
    if not path.exists():
        raise DataError(f"{path}: no such file — run promad {made_by} first")
    if not path.is_file():
        raise DataError(f"{path}: is not a regular file — remove it and run promad {made_by}")


def _read_step(table: pa.Table, metadata: Mapping[str, str]) -> float | None:
    """Seconds between samples, if the table has the columns that `write_frames` writes."""
    types = {field.name: field.type for field in table.schema}
    time = types.pop(_TIME, None)
    if "step_seconds" not in metadata or len(types) + 1 != table.num_columns or time is None:
        return None
    groups = {name for name in types if name.startswith(_GROUP_PREFIX)}
    ours = (
        pa.types.is_timestamp(time)
        and all(pa.types.is_string(types[name]) for name in groups)
        and all(pa.types.is_float64(types[name]) for name in types.keys() - groups)
        and types.keys() > groups
        and not any(table[name].null_count for name in (_TIME, *groups))
    )
    step = float(metadata["step_seconds"])
    return step if ours and 0 < step < float("inf") else None


def _metadata(raw: Mapping[bytes, bytes]) -> dict[str, str]:
    return {
        key.removeprefix(_METADATA_PREFIX).decode(): value.decode()
        for key, value in raw.items()
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
        tuple((name, column[row].as_py()) for name, column in zip(names, labels, strict=True))
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

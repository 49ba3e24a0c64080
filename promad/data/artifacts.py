"""Parquet and .npy files that stages leave for each other: whole or not at all.

Every file is written beside its final name and then renamed, so a stage that fails or is
interrupted leaves what was there before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from promad.data.frame import Labels, MetricFrame
from promad.errors import DataError
from promad.files import written_whole

_TIME = "timestamp"
_GROUP_PREFIX = "group:"
_METADATA_PREFIX = b"promad:"


def write_frames(path: Path, frames: Sequence[MetricFrame], metadata: Mapping[str, str]) -> None:
    """Write frames of one step, one set of features and one set of groups as a parquet file.

    A row is one sample of one group: `timestamp` (UTC, milliseconds), a `group:<label>` column for
    each label that tells groups apart, and a float64 column per feature in which null means
    missing. Rows where a new frame begins are told by the jump in time.

    Raises:
        DataError: if the file cannot be written.
    """
    first = frames[0]
    tables = [_table(frame, group) for group in range(len(first.groups)) for frame in frames]
    kept = {**metadata, "step_seconds": repr(first.step)}
    table = pa.concat_tables(tables).replace_schema_metadata(
        {_METADATA_PREFIX + key.encode(): value.encode() for key, value in kept.items()}
    )
    with written_whole(path) as aside:
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

    A frame ends where the time jumps. `made_by` is the command to run when there is no file.

    Raises:
        DataError: if the file is missing, damaged, empty, or not promad's.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file — run promad {made_by} first")
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read ({error}) — run promad {made_by} again") from error
    metadata = _metadata(table.schema.metadata or {})
    if "step_seconds" not in metadata or _TIME not in table.column_names:
        raise DataError(f"{path}: was not written by promad — run promad {made_by}")
    if table.num_rows == 0:
        raise DataError(f"{path}: holds no rows — run promad {made_by} over a longer period")
    return list(_frames(table, float(metadata["step_seconds"]))), metadata


def _metadata(raw: Mapping[bytes, bytes]) -> dict[str, str]:
    return {
        key.removeprefix(_METADATA_PREFIX).decode(): value.decode()
        for key, value in raw.items()
        if key.startswith(_METADATA_PREFIX)
    }


def _frames(table: pa.Table, step: float) -> Iterator[MetricFrame]:
    label_columns = [name for name in table.column_names if name.startswith(_GROUP_PREFIX)]
    features = tuple(name for name in table.column_names if name not in {_TIME, *label_columns})
    times = table[_TIME].cast(pa.int64()).to_numpy() / 1000
    values = np.column_stack([table[name].to_numpy() for name in features])
    rows_of = _rows_by_group(table, label_columns)
    pieces = [_pieces(times[rows], step) + rows.start for rows in rows_of.values()]
    for part in range(len(pieces[0]) - 1):
        blocks = [values[cuts[part] : cuts[part + 1]] for cuts in pieces]
        start = float(times[pieces[0][part]])
        yield MetricFrame(start, step, features, tuple(rows_of), np.stack(blocks))


def _rows_by_group(table: pa.Table, label_columns: Sequence[str]) -> dict[Labels, slice]:
    if not label_columns:
        return {(): slice(0, table.num_rows)}
    names = [name.removeprefix(_GROUP_PREFIX) for name in label_columns]
    keys = list(zip(*(table[name].to_pylist() for name in label_columns), strict=True))
    starts = [row for row in range(len(keys)) if row == 0 or keys[row] != keys[row - 1]]
    ends = [*starts[1:], len(keys)]
    return {
        tuple(zip(names, keys[start], strict=True)): slice(start, end)
        for start, end in zip(starts, ends, strict=True)
    }


def _pieces(times: NDArray[np.float64], step: float) -> NDArray[np.int64]:
    """Row numbers at which a new run of regular samples begins, and the number of rows."""
    jumps = np.flatnonzero(np.abs(np.diff(times) - step) > step * 1e-3) + 1
    return np.concatenate([[0], jumps, [len(times)]])


def write_array(path: Path, shape: tuple[int, ...], parts: Iterable[NDArray[np.float32]]) -> None:
    """Write a float32 .npy of `shape` from consecutive `parts` along its first axis.

    Only one part is in memory at a time.

    Raises:
        DataError: if the file cannot be written.
    """
    with written_whole(path) as aside, aside.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_2_0(file, header)
        for part in parts:
            file.write(np.ascontiguousarray(part, "<f4").tobytes())


def write_small_array(path: Path, array: NDArray[np.generic]) -> None:
    """Write an array of plain numbers or times as .npy (no pickle inside).

    Raises:
        DataError: if the file cannot be written.
    """
    with written_whole(path) as aside, aside.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def read_array(path: Path, made_by: str) -> NDArray[np.generic]:
    """A .npy file, mapped into memory rather than read; pickled content is refused.

    Raises:
        DataError: if it is missing or is no plain array.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise ValueError("holds more than one array")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file — run promad {made_by} first") from None
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}) — run promad {made_by} again") from error
    return array


def end_times_path(path: Path) -> Path:
    """Where the end times of the windows in a .npy file stand: datetime64[ms], UTC."""
    return path.with_name(f"{path.stem}_end_times.npy")

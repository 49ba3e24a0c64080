"""Labelled data: a directory with one folder for each monitored thing (an entity).

    DIR/<entity>/train.parquet        one column per feature, in time order
    DIR/<entity>/test.parquet         the same columns
    DIR/<entity>/test_label.parquet   the column `label`, 0 or 1, one row per row of test.parquet

and, where the data set has them, what the publishers know beyond that:

    interpretation.txt        `start-end:feature,feature,...`, features counted from 1 (SMD, ASD)
    labels.csv                `start,end,class`, end included (the telemanom data), or
                              `kind,...,test_start,test_end`, end included (NAB windows)
    train_timestamp.parquet   the column `timestamp`, seconds; the same for test
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from promad.errors import DataError
from promad.evaluation.agreement import Flags, Reals, segments
from promad.evaluation.explanations import Causes
from promad.files import DAMAGED, explain_damage

TRAIN, TEST, LABEL = "train.parquet", "test.parquet", "test_label.parquet"
TRAIN_TIMES, TEST_TIMES = "train_timestamp.parquet", "test_timestamp.parquet"
INTERPRETATION, ANOMALIES = "interpretation.txt", "labels.csv"

Counting = Literal["segments", "sequences", "windows"]
"""How publishers count anomalies: as runs of labels, as the Telemanom paper does, or as NAB."""

_LINE = re.compile(r"(\d+)-(\d+):(\d+(?:,\d+)*)")


@dataclass(frozen=True)
class KnownAnomaly:
    """One anomaly as its publishers count them: rows `start` to `end - 1` of the test part.

    `kind` is their word for it (`point`, `contextual`, `window`), empty where they have none.
    """

    start: int
    end: int
    kind: str


@dataclass(frozen=True)
class LabelledData:
    """One entity.

    Attributes:
        entity: the name of its folder.
        features: the column names.
        train, test: float64 (samples, features), NaN where missing, in time order.
        labels: bool (samples of test,).
        known_anomalies: as in labels.csv, or else the segments of `labels`.
        counting: how those are counted. With `sequences` the first feature is the telemetry that
            the labels are about, and the others are commands sent meanwhile.
        causes: which features were to blame, where that is known.
        train_times, test_times: unix seconds, float64 (samples,), where they are known.
    """

    entity: str
    features: tuple[str, ...]
    train: Reals
    test: Reals
    labels: Flags
    known_anomalies: tuple[KnownAnomaly, ...]
    counting: Counting
    causes: Causes | None
    train_times: Reals | None
    test_times: Reals | None

    def with_first(self, features: int) -> LabelledData:
        """The same with the first few features alone; if that leaves any out, without causes."""
        if features == len(self.features):
            return self
        return replace(
            self,
            features=self.features[:features],
            train=self.train[:, :features],
            test=self.test[:, :features],
            causes=None,
        )


def entities_in(directory: Path) -> list[Path]:
    """The folders of the entities in a directory, by name; or itself, if it is one.

    Raises:
        DataError: if there are none.
    """
    if not directory.is_dir():
        raise DataError(f"{directory}: no such directory")
    if (directory / TEST).exists():
        return [directory]
    found = sorted(path.parent for path in directory.glob(f"*/{TEST}"))
    if not found:
        raise DataError(
            f"{directory}: no labelled data — give a directory with one folder for each entity, "
            f"each with {TRAIN}, {TEST} and {LABEL}"
        )
    return found


def read_labelled(folder: Path) -> LabelledData:
    """The entity in a folder.

    Raises:
        DataError: if a file is missing or damaged, or if the files contradict each other.
    """
    train_table, test_table = _table(folder / TRAIN), _table(folder / TEST)
    if test_table.column_names != train_table.column_names:
        raise DataError(f"{folder / TEST}: its columns differ from those of {TRAIN}")
    train, test = _values(train_table, folder / TRAIN), _values(test_table, folder / TEST)
    labels = _labels(folder / LABEL, len(test))
    known, counting = _known_anomalies(folder / ANOMALIES, labels)
    return LabelledData(
        entity=folder.resolve().name,
        features=tuple(test_table.column_names),
        train=train,
        test=test,
        labels=labels,
        known_anomalies=known,
        counting=counting,
        causes=_causes(folder / INTERPRETATION, labels, test.shape[1]),
        train_times=_times(folder / TRAIN_TIMES, len(train)),
        test_times=_times(folder / TEST_TIMES, len(test)),
    )


def _table(path: Path) -> pa.Table:
    if not path.exists():
        raise DataError(f"{path}: no such file — an entity needs {TRAIN}, {TEST} and {LABEL}")
    try:
        table = pq.read_table(path, partitioning=None)
    except (*DAMAGED, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read as Parquet ({explain_damage(error)})") from error
    if table.num_rows == 0 or table.num_columns == 0:
        raise DataError(f"{path}: no rows or no columns")
    return table


def _values(table: pa.Table, path: Path) -> Reals:
    """All columns: float64 (rows, columns), NaN for null and for what is not finite."""
    columns = []
    for name in table.column_names:
        try:
            column = table[name].cast(pa.float64()).to_numpy()
        except pa.ArrowException as error:
            raise DataError(f"{path}: column {name} is not numeric") from error
        columns.append(np.where(np.isfinite(column), column, np.nan))
    return np.column_stack(columns)


def _labels(path: Path, samples: int) -> Flags:
    values = _column(path, "label", samples)
    if not np.isin(values, (0, 1)).all():
        raise DataError(f"{path}: labels must be 0 or 1")
    return np.asarray(values == 1, np.bool_)


def _times(path: Path, samples: int) -> Reals | None:
    """The unix seconds in a file, if there is one; a few may stand still or jump, as upstream."""
    if not path.exists():
        return None
    times = _column(path, "timestamp", samples)
    if np.isnan(times).any() or (samples > 1 and np.median(np.diff(times)) <= 0):
        raise DataError(f"{path}: timestamps must increase from row to row")
    return times


def _column(path: Path, name: str, samples: int) -> Reals:
    table = _table(path)
    if name not in table.column_names:
        raise DataError(f"{path}: no column {name}")
    if table.num_rows != samples:
        raise DataError(f"{path}: {table.num_rows} rows, but {samples} samples")
    return _values(table.select([name]), path)[:, 0]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def _known_anomalies(path: Path, labels: Flags) -> tuple[tuple[KnownAnomaly, ...], Counting]:
    if not path.exists():
        bounds = zip(*segments(labels), strict=True)
        return tuple(KnownAnomaly(int(start), int(end), "") for start, end in bounds), "segments"
    rows = csv.DictReader(_lines(path))
    columns = {"start", "end"} if "start" in (rows.fieldnames or ()) else {"test_start", "test_end"}
    if not columns <= set(rows.fieldnames or ()):
        raise DataError(f"{path}: neither columns start and end nor test_start and test_end")
    end, start = sorted(columns)
    known = tuple(_each(path, rows, lambda row: _known_anomaly(row, start, end, len(labels))))
    return known, "sequences" if start == "start" else "windows"


def _known_anomaly(row: dict[str, str], start: str, end: str, samples: int) -> KnownAnomaly:
    first, last = int(row[start]), int(row[end])
    if not 0 <= first <= last < samples:
        raise ValueError
    return KnownAnomaly(first, last + 1, row.get("kind") or row.get("class") or "")


def _each[Row, Made](path: Path, rows: Iterator[Row], make: Callable[[Row], Made]) -> list[Made]:
    """What `make` makes of each row; it raises ValueError for one that means nothing."""
    made = []
    for number, row in enumerate(rows, 1):
        try:
            made.append(make(row))
        except (ValueError, TypeError) as error:
            raise DataError(
                f"{path}: entry {number} does not name rows or features of {TEST}"
            ) from error
    return made


def _causes(path: Path, labels: Flags, features: int) -> Causes | None:
    """The stretches of interpretation.txt, if there is one.

    Its publishers do not agree on whether the end is included, and say so nowhere: it is, if most
    of the rows given as ends are labelled themselves.
    """
    if not path.exists():
        return None
    lines = (line.strip() for line in _lines(path) if line.strip())
    found = _each(path, lines, lambda line: _cause(line, len(labels), features))
    starts = np.array([start for start, _, _ in found], np.int64)
    ends = np.array([end for _, end, _ in found], np.int64)
    blamed = np.zeros((len(found), features), np.bool_)
    for row, (_, _, columns) in enumerate(found):
        blamed[row, columns] = True
    included = len(ends) > 0 and np.append(labels, False)[ends].mean() > 0.5
    ends = np.minimum(ends + included, len(labels))
    return Causes(starts, np.maximum(ends, starts + 1), blamed)


def _cause(line: str, samples: int, features: int) -> tuple[int, int, NDArray[np.int64]]:
    """Start and end as written, and the features to blame, counted from 0."""
    parts = _LINE.fullmatch(line)
    if parts is None:
        raise ValueError
    start, end = int(parts[1]), int(parts[2])
    columns = np.array(parts[3].split(","), np.int64) - 1
    if not (start <= end <= samples and start < samples and columns.min() >= 0):
        raise ValueError
    if columns.max() >= features:
        raise ValueError
    return start, end, columns

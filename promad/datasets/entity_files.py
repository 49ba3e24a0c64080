"""What an entity of a public data set holds, and how it is written for `promad evaluate`."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from promad.errors import DataError
from promad.evaluation.labelled import ANOMALIES, INTERPRETATION, LABEL, TEST, TRAIN

Values = NDArray[np.floating[Any]]

Get = Callable[[str, str | None], bytes]
"""The content of a file, by its path on the server and its checksum, where one is known."""


@dataclass(frozen=True)
class Content:
    """One entity.

    Attributes:
        train, test: (samples, features), in time order.
        labels: bool (samples of test,).
        interpretation: as published, where it is.
        anomalies: the lines of labels.csv, the headings first, where the publishers count them.
        train_times, test_times: unix seconds, int64 (samples,), where they are known.
    """

    train: Values
    test: Values
    labels: NDArray[np.bool_]
    interpretation: bytes | None = None
    anomalies: Sequence[Sequence[str]] = ()
    train_times: NDArray[np.int64] | None = None
    test_times: NDArray[np.int64] | None = None

    def digest(self) -> str:
        """A digest of every value, however the files that hold them are written."""
        whole = hashlib.sha256()
        for values in (self.train, self.test, self.labels, self.train_times, self.test_times):
            if values is not None:
                whole.update(f"{values.shape}".encode())
                whole.update(np.ascontiguousarray(values, "<f8").tobytes())
        whole.update(repr([list(line) for line in self.anomalies]).encode())
        return f"content:{whole.hexdigest()}"


@cache
def read_checksums(data_set: str) -> Mapping[tuple[str, str], str]:
    """The known checksums of a data set, by entity and file (or `content`)."""
    text = resources.files("promad.datasets").joinpath("checksums.csv").read_text("utf-8")
    return {
        (row["entity"], row["file"]): row["checksum"]
        for row in csv.DictReader(text.splitlines())
        if row["data_set"] == data_set
    }


def check_content(data_set: str, entity: str, content: Content) -> Content:
    """The content itself, if it has the entity's known digest, or none is known.

    Raises:
        DataError: if it has another.
    """
    expected = read_checksums(data_set).get((entity, "content"))
    if expected is not None and content.digest() != expected:
        raise DataError(
            f"{data_set}: {entity} does not have its known digest, {expected} — run it again, and "
            "check whether a proxy changes downloads"
        )
    return content


def write_entity(folder: Path, content: Content) -> None:
    """Write the folder of an entity, whole or not at all.

    Raises:
        DataError: if it cannot be written.
    """
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        aside.mkdir(parents=True)
        _write(aside, content)
        os.replace(aside, folder)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write(folder: Path, content: Content) -> None:
    for name, values in ((TRAIN, content.train), (TEST, content.test)):
        columns = {f"feature_{at:02d}": column for at, column in enumerate(values.T)}
        _write_table(folder / name, columns)
    _write_table(folder / LABEL, {"label": content.labels.astype(np.int8)})
    for part, times in (("train", content.train_times), ("test", content.test_times)):
        if times is not None:
            _write_table(folder / f"{part}_timestamp.parquet", {"timestamp": times})
    if content.interpretation is not None:
        (folder / INTERPRETATION).write_bytes(content.interpretation)
    if content.anomalies:
        lines = io.StringIO()
        csv.writer(lines, lineterminator="\n").writerows(content.anomalies)
        (folder / ANOMALIES).write_text(lines.getvalue())


def _write_table(path: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    table = pa.table({name: pa.array(column) for name, column in columns.items()})
    pq.write_table(table, path, compression="zstd")

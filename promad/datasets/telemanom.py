"""SMAP and MSL: telemetry of two spacecraft, one channel and the commands beside it per entity.

Hundman et al. 2018, "Detecting spacecraft anomalies using LSTMs and nonparametric dynamic
thresholding", KDD. The labels are telemanom's own. The address that it names for the values needs
a login now, so these are from the copy in TranAD's repository.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promad.datasets.entity_files import Content, Get, check_content
from promad.errors import DataError

_LABELS = "khundman/telemanom/2e6c5b6c3558e7835601519b7bdef37c649bdbdc/labeled_anomalies.csv"
_VALUES = "imperial-qore/TranAD/7ffb98d0c18189cc3d9ab732b4cb0278200a0af0/data/SMAP_MSL"
SHARED = (_LABELS,)


def entities(get: Get) -> Sequence[str]:
    """The channels, each below the name of its spacecraft: `SMAP/P-1`."""
    return sorted({f"{line['spacecraft']}/{line['chan_id']}" for line in _lines(get)})


def read(entity: str, get: Get) -> Content:
    """One channel; the table of labels may name it twice.

    Raises:
        DataError: if its files do not hold what they should.
    """
    spacecraft, _, channel = entity.partition("/")
    own = [
        line
        for line in _lines(get)
        if (line["spacecraft"], line["chan_id"]) == (spacecraft, channel)
    ]
    train, test = (
        _array(get(f"{_VALUES}/{part}/{channel}.npy", None), entity) for part in ("train", "test")
    )
    if train.shape[1] != test.shape[1] or len(test) != int(own[0]["num_values"]):
        raise DataError(
            f"smap-msl: {entity} has {len(test)} test rows, its labels are for "
            f"{own[0]['num_values']} — values and labels are of different versions"
        )
    labels, anomalies = np.zeros(len(test), np.bool_), [("start", "end", "class")]
    for start, end, kind in (sequence for line in own for sequence in _sequences(line)):
        labels[start : end + 1] = True
        anomalies.append((str(start), str(end), kind))
    return check_content("smap-msl", entity, Content(train, test, labels, anomalies=anomalies))


def _lines(get: Get) -> list[dict[str, str]]:
    lines = csv.DictReader(get(_LABELS, None).decode(errors="replace").splitlines())
    if not {"spacecraft", "chan_id", "num_values"} <= set(lines.fieldnames or ()):
        raise DataError(f"smap-msl: {_LABELS}: not the table of labels (columns are missing)")
    return list(lines)


def _sequences(line: dict[str, str]) -> Iterator[tuple[int, int, str]]:
    """First row, last row and class of each anomaly in a line."""
    kinds = line["class"].strip("[] ").split(", ")
    for (start, end), kind in zip(json.loads(line["anomaly_sequences"]), kinds, strict=True):
        yield int(start), int(end), kind


def _array(content: bytes, entity: str) -> NDArray[Any]:
    try:
        values: NDArray[Any] = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"smap-msl: {entity}: not a table of numbers ({error})") from error
    return values.astype(np.float64)

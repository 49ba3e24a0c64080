"""SMD, the Server Machine Dataset: 28 servers, 38 metrics each, minute by minute for five weeks.

Su et al. 2019, "Robust anomaly detection for multivariate time series through stochastic recurrent
neural network", KDD. MIT licence.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promad.datasets.entity_files import Content, Get, read_checksums
from promad.errors import DataError

_FOLDER = "NetManAIOps/OmniAnomaly/7fb0e0acf89ea49908896bcc9f9e80fcfff6baf4/ServerMachineDataset"
SHARED = ()
_MACHINES = {1: 8, 2: 9, 3: 11}


def entities(get: Get) -> Sequence[str]:
    """The machines."""
    return [
        f"machine-{group}-{number}"
        for group, count in _MACHINES.items()
        for number in range(1, count + 1)
    ]


def read(entity: str, get: Get) -> Content:
    """One machine.

    Raises:
        DataError: if its files do not hold what they should.
    """

    def file(kind: str) -> bytes:
        return get(f"{_FOLDER}/{kind}/{entity}.txt", read_checksums("smd")[entity, kind])

    return Content(
        train=_table(file("train"), entity, np.float32),
        test=_table(file("test"), entity, np.float32),
        labels=_table(file("test_label"), entity, np.int8)[:, 0] == 1,
        interpretation=file("interpretation_label"),
    )


def _table(content: bytes, entity: str, kind: type[np.generic]) -> NDArray[Any]:
    """Numbers between commas: (lines, numbers)."""
    try:
        return np.loadtxt(io.BytesIO(content), kind, delimiter=",", ndmin=2)
    except ValueError as error:
        raise DataError(f"smd: {entity}: not a table of numbers ({error})") from error

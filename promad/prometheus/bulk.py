"""Points of range answers, read in bulk as CSV."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from pyarrow import csv

from promad.prometheus.numbers import Numbers, check_numbers

_BETWEEN_POINTS = b"],["
_POINT_TO_LINE = bytes.maketrans(b"[", b"\n")
_MISSING = ("NaN", "+Inf", "-Inf", "Inf")


def read_blocks(blocks: Sequence[bytes]) -> list[Numbers]:
    """Each block's numbers; a block reads `1763784000,"0.5"],[1763784015,"NaN"`."""
    if not blocks:
        return []
    times, values = _read_points(_BETWEEN_POINTS.join(blocks))
    bounds = np.cumsum([block.count(b"[") + 1 for block in blocks[:-1]], dtype=np.int64)
    return list(zip(np.split(times, bounds), np.split(values, bounds), strict=True))


def _read_points(points: bytes) -> Numbers:
    """Numbers of `1763784000,"0.5"],[1763784015,"NaN"`, as lines of `1763784000,"0.5",`."""
    lines = points.translate(_POINT_TO_LINE, b"]") + b","
    table = csv.read_csv(
        pa.BufferReader(lines),
        read_options=csv.ReadOptions(
            use_threads=False, column_names=["time", "value", "nothing"], block_size=len(lines) + 1
        ),
        parse_options=csv.ParseOptions(double_quote=False),
        convert_options=csv.ConvertOptions(
            column_types={"time": pa.float64(), "value": pa.float64()},
            include_columns=["time", "value"],
            null_values=list(_MISSING),
        ),
    )
    brackets_gone = len(points) + 1 - len(lines)
    if table.num_rows != brackets_gone + 1:
        raise ValueError("a sample is not a time and a value")
    return check_numbers(table["time"].to_numpy(), table["value"].to_numpy())

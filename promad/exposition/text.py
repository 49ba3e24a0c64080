"""Series in the text format, many at a time, as `prometheus_client` would write each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import compress

import msgspec
import numpy as np
from numpy.typing import NDArray
from prometheus_client.utils import floatToGoString

from promad.data.groups import escape_label_value, sort_labels
from promad.exposition.names import MetricSpec, MetricType

Values = NDArray[np.float64]

_PLAIN_FROM, _PLAIN_BELOW = 1e-4, 1e6
"""Between these, JSON and the text format have the same digits; beyond, exponents differ."""


def write_values(values: Values) -> list[bytes]:
    """The text of each of these finite numbers.

    >>> write_values(np.array([0.25, 1700000000.0]))
    [b'0.25', b'1.7e+09']
    """
    if not values.size:
        return []
    texts = msgspec.json.encode(values.tolist())[1:-1].split(b",")
    size = np.abs(values)
    rows = np.flatnonzero((size >= _PLAIN_BELOW) | ((size < _PLAIN_FROM) & (values != 0)))
    beyond = values[rows].tolist()
    written = {value: _write_value(value) for value in set(beyond)}
    for row, value in zip(rows.tolist(), beyond, strict=True):
        texts[row] = written[value]
    return texts


def _write_value(value: float) -> bytes:
    text: str = floatToGoString(value)  # type: ignore[no-untyped-call]
    return text.encode()


def write_labels(labels: Mapping[str, str]) -> bytes:
    """The labels of a series and the space after them.

    >>> write_labels({"detector": "web", "code": "200"})
    b'{code="200",detector="web"} '
    """
    pairs = (f'{name}="{escape_label_value(value)}"' for name, value in sort_labels(labels))
    return f"{{{','.join(pairs)}}} ".encode()


def write_lines(name: str, labels: Sequence[bytes], values: Values) -> bytes:
    """A line for each series whose value is finite.

    Args:
        labels: of each series, as `write_labels` returns them.
        values: (series,).
    """
    known = np.isfinite(values)
    if not known.all():
        labels, values = list(compress(labels, known.tolist())), values[known]
    if not values.size:
        return b""
    parts = [f"\n{name}".encode()] * (3 * len(labels) + 1)
    parts[0], parts[-1] = name.encode(), b"\n"
    parts[1::3], parts[2::3] = labels, write_values(values)
    return b"".join(parts)


def write_header(spec: MetricSpec, name: str, openmetrics: bool) -> bytes:
    """The HELP and TYPE lines of a metric with this whole name."""
    meaning = spec.help.replace("\\", "\\\\").replace("\n", "\\n")
    if openmetrics:
        meaning = meaning.replace('"', '\\"')
        if spec.type is MetricType.COUNTER:
            name = name.removesuffix("_total")
    return f"# HELP {name} {meaning}\n# TYPE {name} {spec.type}\n".encode()

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

_POINT_MOVES_AT = 1e6
"""From here on, the text format has an exponent where JSON has none."""
_SAME_FROM, _SAME_BELOW = 1e-4, 1e16
"""Between these, the text format has the digits that JSON has."""


def write_values(values: Values) -> list[bytes]:
    """The text of each of these finite numbers.

    >>> write_values(np.array([0.25, 1700000000.0]))
    [b'0.25', b'1.7e+09']
    """
    if not values.size:
        return []
    texts = msgspec.json.encode(values.tolist())[1:-1].split(b",")
    size = np.abs(values)
    moved = np.flatnonzero((values >= _POINT_MOVES_AT) & (size < _SAME_BELOW)).tolist()
    written = {text: _move_point(text) for text in {texts[row] for row in moved}}
    for row in moved:
        texts[row] = written[texts[row]]
    differs = (size >= _SAME_BELOW) | ((size < _SAME_FROM) & (values != 0))
    for row in np.flatnonzero(differs).tolist():
        text: str = floatToGoString(values[row])  # type: ignore[no-untyped-call]
        texts[row] = text.encode()
    return texts


def _move_point(text: bytes) -> bytes:
    """A number of at least a million, with an exponent."""
    whole, _, rest = text.partition(b".")
    digits = (whole[:1] + b"." + whole[1:] + rest).rstrip(b"0.")
    return b"%be+%02d" % (digits, len(whole) - 1)


def write_labels(labels: Mapping[str, str]) -> bytes:
    """The labels of a series and the space after them.

    >>> write_labels({"detector": "web", "code": "200"})
    b'{code="200",detector="web"} '
    """
    pairs = (f'{name}="{escape_label_value(value)}"' for name, value in sort_labels(labels))
    return f"{{{','.join(pairs)}}} ".encode()


def write_variants(labels: Mapping[str, str], name: str, values: Sequence[str]) -> list[bytes]:
    """The labels of series that differ in the value of one more label.

    >>> write_variants({"detector": "web", "zone": "a"}, "state", ["ok"])
    [b'{detector="web",state="ok",zone="a"} ']
    """
    before = {other: value for other, value in labels.items() if other < name}
    after = {other: value for other, value in labels.items() if other > name}
    head = write_labels(before).removesuffix(b"} ") + b"," * bool(before) + f'{name}="'.encode()
    tail = b'"' + b"," * bool(after) + write_labels(after).removeprefix(b"{")
    return [b"".join((head, escape_label_value(value).encode(), tail)) for value in values]


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

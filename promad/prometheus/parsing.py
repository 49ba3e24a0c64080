"""From the bytes of an answer to arrays, without a Python object for each point.

The numbers of a range answer are cut out of the JSON and read in bulk as CSV; what is left, a
small document in which each block of numbers is replaced by its position, is read as JSON. The
cut is safe because the bytes `"values":[[` cannot occur within a JSON string, where every quote is
escaped. Anything unusual (white space, other spellings of numbers) is read the slow way instead,
with the same result.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promad.data.groups import Labels, sort_labels
from promad.prometheus.numbers import Numbers, check_numbers

_INFO = "PromQL info:"
"""Prometheus up to 2.53, and Thanos, send infos among the warnings."""
_OPENING = b'"values":[['
_CLOSING = b'"]]'
_SMALL_BYTES = 8192
"""Below this size the whole answer is read as JSON in less time than the CSV reader starts."""


@dataclass(frozen=True, eq=False)
class Series:
    """The samples of one label set, in the order of the answer.

    Attributes:
        labels: the label set, sorted by name.
        times: unix seconds, float64 (samples,).
        values: float64 (samples,); NaN where the server said NaN or an infinity.
    """

    labels: Labels
    times: NDArray[np.float64]
    values: NDArray[np.float64]


@dataclass(frozen=True)
class Answer:
    """The series of a matrix, vector or scalar, and what the server warned of.

    A server that says its answer is partial is taken to have warned of it. `infos` are hints about
    the expression; the series are complete in spite of them.
    """

    series: tuple[Series, ...]
    warnings: tuple[str, ...]
    infos: tuple[str, ...] = ()


def parse_answer(body: bytes) -> Answer:
    """The answer to a query in Prometheus's HTTP API.

    Raises:
        ValueError: if it is incomplete or unusable; with the reason.
    """
    if len(body) >= _SMALL_BYTES:
        try:
            return _parse_cut(body)
        except (ValueError, KeyError, RecursionError):  # pyarrow's errors are ValueErrors
            pass  # unusual or broken: the slow way tells which
    return _read_answer(_load(body), {})


def _parse_cut(body: bytes) -> Answer:
    from promad.prometheus.bulk import read_blocks  # heavy, and small answers do without

    skeleton, blocks = _cut(body)
    return _read_answer(json.loads(skeleton), dict(enumerate(read_blocks(blocks))))


def _cut(body: bytes) -> tuple[bytes, list[bytes]]:
    """The body with each block of points replaced by its position, and the blocks."""
    pieces: list[bytes] = []
    blocks: list[bytes] = []
    done = 0
    while (at := body.find(_OPENING, done)) >= 0:
        begin = at + len(_OPENING)
        end = body.index(_CLOSING, begin)
        pieces += [body[done:at], b'"values":%d' % len(blocks)]
        blocks.append(body[begin : end + 1])
        done = end + len(_CLOSING)
    pieces.append(body[done:])
    return b"".join(pieces), blocks


def _load(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        start = body[:60].decode("utf-8", "replace")
        raise ValueError(f"incomplete or not JSON (it starts with {start!r})") from None


def _read_answer(document: Any, blocks: Mapping[int, Numbers]) -> Answer:
    if not isinstance(document, dict) or document.get("status") != "success":
        raise ValueError(f"status is not success: {_read_error(document)}")
    series = _read_result(document.get("data"), blocks)
    warnings = _read_texts(document, "warnings")
    partial = ("the response is partial",) if document.get("isPartial") else ()
    return Answer(
        series,
        (*(text for text in warnings if not text.startswith(_INFO)), *partial),
        (
            *(text for text in warnings if text.startswith(_INFO)),
            *_read_texts(document, "infos"),
        ),
    )


def _read_result(data: Any, blocks: Mapping[int, Numbers]) -> tuple[Series, ...]:
    """The series; none where a server writes null, or no type, instead of an empty list."""
    if not isinstance(data, dict):
        raise ValueError(f"unexpected data {data!r}, expected an object with a result")
    kind, result = data.get("resultType"), data.get("result", 0)
    if result is None or (result == [] and not kind):
        return ()
    if not isinstance(kind, str) or kind not in _RESULT_TYPES:
        raise ValueError(f"unexpected result type {kind!r}, expected matrix, vector or scalar")
    try:
        return _RESULT_TYPES[kind](result, blocks)
    except (KeyError, IndexError, TypeError, AttributeError, OverflowError):
        raise ValueError("series not in the format of the Prometheus HTTP API") from None


def _read_error(document: Any) -> str:
    if isinstance(document, dict) and document.get("error"):
        return str(document["error"])
    return "not in the format of the Prometheus HTTP API"


def _read_texts(document: Mapping[str, Any], key: str) -> tuple[str, ...]:
    found = document.get(key) or ()
    return tuple(map(str, found if isinstance(found, list) else [found] if found else ()))


def _read_matrix(result: Any, blocks: Mapping[int, Numbers]) -> tuple[Series, ...]:
    return tuple(_read_series(item, "values", "histograms", blocks) for item in result)


def _read_vector(result: Any, blocks: Mapping[int, Numbers]) -> tuple[Series, ...]:
    return tuple(_read_series(item, "value", "histogram", blocks) for item in result)


def _read_scalar(result: Any, blocks: Mapping[int, Numbers]) -> tuple[Series, ...]:
    return (Series((), *_read_numbers([result])),)


_RESULT_TYPES = {"matrix": _read_matrix, "vector": _read_vector, "scalar": _read_scalar}


def _read_series(
    item: Mapping[str, Any], key: str, histogram_key: str, blocks: Mapping[int, Numbers]
) -> Series:
    if item.get(histogram_key):
        raise ValueError(
            "native histograms are not supported — "
            "use histogram_quantile(), histogram_avg() or histogram_count()"
        )
    found = item[key]
    metric = item["metric"] or {}
    labels = sort_labels({str(name): str(value) for name, value in metric.items()})
    if isinstance(found, int):
        return Series(labels, *blocks[found])
    return Series(labels, *_read_numbers(found or () if key == "values" else [found]))


def _read_numbers(points: Sequence[Sequence[Any]]) -> Numbers:
    times = np.array([float(time) for time, _ in points], np.float64)
    return check_numbers(times, np.array([float(value) for _, value in points], np.float64))

"""From the bytes of an answer to arrays, without a Python object for each point.

The document is read in one pass that leaves the labels and the points of each series as they are;
`bulk` reads the points of all series at once. A document of another form than a list of series is
read step by step, to find what is wrong with it. Neither builds what it does not need, so the
memory that an answer takes is bounded by its length.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET, Raw, Struct, UnsetType
from numpy.typing import NDArray

from promad.data.groups import Labels, sort_labels
from promad.prometheus.bulk import read_blocks

MOST_SERIES = 20_000
"""Series that are read at most."""
_INFO = "PromQL info:"
"""Prometheus up to 2.53, and Thanos, send infos among the warnings."""
_LONGEST_TEXTS_BYTES = 2**18
_LONGEST_LABELS_BYTES = 2**16
_METRIC_KEY = b'"metric"'
_METRIC = re.compile(rb'"metric"\s*:\s*(\{(?:[^"{}]++|"(?:[^"\\]++|\\.)*+")*+\})', re.DOTALL)
_MOST_SHOWN = 5
_MOST_KNOWN_LABELS = 500
"""Labels that the series of an answer share, as long as they are no more."""
_SHOWN_BYTES = 300
_EMPTY = {b"", b"null", b"false", b"0", b'""', b"[]", b"{}"}
_LONGEST_EMPTY_BYTES = 8
_ABSENT = Raw()
_NO_LABELS = Raw(b"{}")
_NO_SERIES = "series not in the format of the Prometheus HTTP API"


@dataclass(frozen=True, eq=False, slots=True)
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


@dataclass(frozen=True, eq=False)
class Table:
    """The samples of all series, one series after the other.

    Attributes:
        metrics: the labels of each series as JSON.
        counts: how many samples each series has, int64 (series,).
        times: unix seconds, float64 (samples,).
        values: float64 (samples,); NaN where the server said NaN or an infinity.
    """

    metrics: Sequence[Raw]
    counts: NDArray[np.int64]
    times: NDArray[np.float64]
    values: NDArray[np.float64]


class TooManySeriesError(ValueError):
    """An answer has more series than can be used; `labels` are those of the first."""

    def __init__(self, most: int, labels: Sequence[Labels]) -> None:
        super().__init__(
            f"more than {most} series — aggregate the expression so that it returns fewer series"
        )
        self.labels = tuple(labels)


class _Item(Struct, gc=False):
    metric: Raw
    values: Raw = _ABSENT
    value: Raw = _ABSENT
    histograms: Raw = _ABSENT
    histogram: Raw = _ABSENT


class _Data[T](Struct):
    result: T | UnsetType = UNSET
    resultType: Raw = _ABSENT  # noqa: N815


class _Document[T](Struct):
    data: T | UnsetType = UNSET
    status: Raw = _ABSENT
    error: Raw = _ABSENT
    warnings: Raw = _ABSENT
    infos: Raw = _ABSENT
    isPartial: Raw = _ABSENT  # noqa: N815


_Items = list[_Item]
_LabelValue = str | float | int | bool | None

_decode_series = msgspec.json.Decoder(_Document[_Data[_Items]]).decode
_decode_document = msgspec.json.Decoder(_Document[Raw]).decode
_decode_data = msgspec.json.Decoder(_Data[Raw]).decode
_decode_items = msgspec.json.Decoder(_Items).decode
_decode_labels = msgspec.json.Decoder(dict[str, _LabelValue]).decode
_decode_any = msgspec.json.Decoder().decode


@dataclass(frozen=True)
class TableAnswer:
    """The samples of an answer, and what the server warned of; see `Answer`."""

    table: Table
    warnings: tuple[str, ...]
    infos: tuple[str, ...]


def parse_answer(body: bytes, most_series: int = MOST_SERIES) -> Answer:
    """The answer to a query in Prometheus's HTTP API.

    Raises:
        TooManySeriesError: if it has more than `most_series` series; their samples are not read.
        ValueError: if it is incomplete or unusable; with the reason.
    """
    found = parse_table(body, most_series)
    return Answer(tuple(_list_series(found.table)), found.warnings, found.infos)


def parse_table(body: bytes, most_series: int = MOST_SERIES) -> TableAnswer:
    """The same as `parse_answer` yields, with all samples in one table and labels unread.

    Raises:
        TooManySeriesError, ValueError: as `parse_answer`.
    """
    try:
        text = _to_utf8(body)
        check_series(text, most_series)
        document, table = read_table(text)
        warnings, infos = _read_texts(document.warnings), _read_texts(document.infos)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        start = body[:60].decode("utf-8", "replace")
        raise ValueError(f"incomplete or not JSON (it starts with {start!r})") from None
    partial = () if _is_empty(document.isPartial) else ("the response is partial",)
    return TableAnswer(
        table,
        (*(text for text in warnings if not text.startswith(_INFO)), *partial),
        (*(text for text in warnings if text.startswith(_INFO)), *infos),
    )


def check_series(body: bytes, most: int) -> None:
    """Raise TooManySeriesError if an answer has more than `most` series."""
    if body.count(b"{") <= most:  # each series is an object; these are counted in no time
        return
    if body.count(_METRIC_KEY) > most:  # it may be the name of a label as well
        count, labels = find_series(body, most + 1)
        if count > most:
            raise TooManySeriesError(most, labels)


def find_series(body: bytes, most: int | None = None) -> tuple[int, list[Labels]]:
    """How many series, up to `most`, an answer has, and the labels of the first five.

    The answer may break off anywhere.
    """
    found = islice(_METRIC.finditer(body), most)
    first = [match[1] for match in islice(found, _MOST_SHOWN)]
    return len(first) + sum(1 for _ in found), list(map(read_labels, first))


def _to_utf8(body: bytes) -> bytes:
    encoding = json.detect_encoding(body)
    return body if encoding == "utf-8" else body.decode(encoding).encode()


def read_table(body: bytes) -> tuple[_Document[Any], Table]:
    """The document with its warnings, and its samples.

    It is read step by step where it is no list of series.
    """
    try:
        document: _Document[Any] = _decode_series(body)
        data = document.data
    except msgspec.ValidationError:
        document, data = _read_data(body)
    if _show(document.status) != '"success"':
        raise ValueError(f"status is not success: {_read_error(document)}")
    if data is UNSET:
        raise _build_data_error(_ABSENT)
    return document, _read_result(data)


def _read_data(body: bytes) -> tuple[_Document[Any], _Data[Any] | UnsetType]:
    try:
        document = _decode_document(body)
    except msgspec.ValidationError:
        return _Document(), UNSET
    if _show(document.status) != '"success"' or document.data is UNSET:
        return document, UNSET
    try:
        return document, _decode_data(document.data)
    except msgspec.ValidationError:
        raise _build_data_error(document.data) from None


def _build_data_error(data: Raw) -> ValueError:
    shown = _show(data) or "null"
    return ValueError(f"unexpected data {shown}, expected an object with a result")


def _read_error(document: _Document[Any]) -> str:
    said = "" if _is_empty(document.error) else _read_texts(document.error)[0]
    return said or "not in the format of the Prometheus HTTP API"


def _read_texts(found: Raw) -> tuple[str, ...]:
    """The texts of a list, or of anything else that is there; what is too long is cut off."""
    if _is_empty(found):
        return ()
    if len(found) > _LONGEST_TEXTS_BYTES:
        return (_show(found),)
    texts = _decode_any(found)
    return tuple(map(str, texts if isinstance(texts, list) else [texts]))


def _read_result(data: _Data[Any]) -> Table:
    """The samples; none where a server writes null, or no type, instead of an empty list."""
    kind, result = data.resultType, data.result
    if _is_null(result) or (result == [] and _is_empty(kind)):
        return _build_table((), ())
    read = _RESULT_TYPES.get(_show(kind))
    if read is None:
        shown = _show(kind) or "null"
        raise ValueError(f"unexpected result type {shown}, expected matrix, vector or scalar")
    if result is UNSET:
        raise ValueError(_NO_SERIES)
    return read(result)


def _read_matrix(result: _Items | Raw) -> Table:
    items = _read_items(result)
    _refuse_histograms([item.histograms for item in items])
    return _build_table(
        [item.metric for item in items],
        [
            item.values if len(item.values) > _LONGEST_EMPTY_BYTES else _read_short(item.values)
            for item in items
        ],
    )


def _read_short(values: Raw) -> bytes:
    """A list of points that may be null."""
    if values is _ABSENT:
        raise ValueError(_NO_SERIES)
    return b"[]" if _is_empty(values) else values


def _read_vector(result: _Items | Raw) -> Table:
    items = _read_items(result)
    _refuse_histograms([item.histogram for item in items])
    if any(item.value is _ABSENT for item in items):
        raise ValueError(_NO_SERIES)
    table = _build_table((), [b"[%s]" % b",".join([item.value for item in items])])
    ones = np.ones(len(items), np.int64)
    return Table([item.metric for item in items], ones, table.times, table.values)


def _read_scalar(result: Raw) -> Table:
    return _build_table([_NO_LABELS], [b"[%s]" % result])


_RESULT_TYPES: dict[str, Callable[[Any], Table]] = {
    '"matrix"': _read_matrix,
    '"vector"': _read_vector,
    '"scalar"': _read_scalar,
}


def _read_items(result: _Items | Raw) -> _Items:
    if isinstance(result, list):
        return result
    try:
        return _decode_items(result)
    except msgspec.ValidationError:
        raise ValueError(_NO_SERIES) from None


def _refuse_histograms(found: list[Raw]) -> None:
    if found.count(_ABSENT) == len(found):
        return
    if any(each is not _ABSENT and not _is_empty(each) for each in found):
        raise ValueError(
            "native histograms are not supported — "
            "use histogram_quantile(), histogram_avg() or histogram_count()"
        )


def _build_table(metrics: Sequence[Raw], blocks: Sequence[bytes]) -> Table:
    counts, (times, values) = read_blocks(blocks)
    return Table(metrics, counts, times, values)


def _list_series(table: Table) -> Iterator[Series]:
    """The series; labels and times that several have in common are kept once."""
    ends = np.cumsum(table.counts)
    known: dict[tuple[str, str], tuple[str, str]] = {}
    times = table.times[:0]
    for metric, start, end in zip(table.metrics, ends - table.counts, ends, strict=True):
        labels = tuple([known.setdefault(pair, pair) for pair in read_labels(metric)])
        if len(known) > _MOST_KNOWN_LABELS:  # mostly values that no other series has
            known.clear()
        own = table.times[start:end]
        if len(times) != len(own) or (times != own).any():
            times = own
        yield Series(labels, times, table.values[start:end])


def read_labels(metric: bytes) -> Labels:
    """The labels of a series, from their JSON.

    Raises:
        ValueError: if they are none, or too long.
    """
    if len(metric) > _LONGEST_LABELS_BYTES:
        raise ValueError(f"labels of one series longer than {_LONGEST_LABELS_BYTES >> 10} KiB")
    if _is_empty(metric):
        return ()
    try:
        found = _decode_labels(metric)
    except msgspec.ValidationError:
        raise ValueError(_NO_SERIES) from None
    return sort_labels({name: str(value) for name, value in found.items()})


def _is_null(found: object) -> bool:
    return isinstance(found, Raw) and len(found) == 4 and bytes(found) == b"null"


def _is_empty(found: bytes) -> bool:
    """Whether JSON is false, null, zero or without content, or there is none."""
    if not len(found):  # nearly always
        return True
    return len(found) <= _LONGEST_EMPTY_BYTES and b"".join(bytes(found).split()) in _EMPTY


def _show(found: bytes) -> str:
    """The beginning of a piece of JSON."""
    return bytes(memoryview(found)[:_SHOWN_BYTES]).decode("utf-8", "replace")

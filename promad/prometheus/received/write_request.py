"""Requests of remote write 1.0: `prometheus.WriteRequest`.

    WriteRequest{1: TimeSeries, 3: MetricMetadata}
    TimeSeries{1: Label, 2: Sample, 3: Exemplar, 4: Histogram}
    Label{1: name, 2: value}
    Sample{1: double value, 2: int64 unix milliseconds}

https://prometheus.io/docs/specs/prw/remote_write_spec/

Nearly every series has been sent before, and has one sample. Its labels, as bytes, are found in a
dictionary, and the samples of all such series are read at once (`tails`). What looks otherwise is
read field by field.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from promad.prometheus.received.decoded import (
    EXEMPLARS,
    HISTOGRAMS,
    METADATA,
    Decoded,
    Pending,
    check_sample_count,
    check_series_count,
)
from promad.prometheus.received.directory import MOST_LABELS, Labelled, SeriesDirectory
from promad.prometheus.received.tails import WITH_VALUE, WITHOUT_VALUE, read_tails
from promad.prometheus.received.wire import (
    BYTES,
    expect_bytes,
    find_content,
    list_few_fields,
    list_fields,
    read_sample,
    refuse_version,
)

_SERIES_KEY = 1 << 3 | BYTES
_METADATA_FIELD = 3
_OTHER_VERSION = frozenset({4, 5})
"""Fields of version 2.0, which this one will never have; read as this one, all would be lost."""
_IGNORED = {3: EXEMPLARS, 4: HISTOGRAMS}
_KINDS = {1, 2, *_IGNORED}


def decode_write_request(body: bytes, directory: SeriesDirectory) -> Decoded:
    """The samples of a request.

    Raises:
        MalformedError: if it cannot be read.
        OversizedError: if it has too many series or samples.
    """
    pending = Pending()
    framed = _frame(body, directory, pending)
    read, others = [], framed.others
    for known in framed.known:
        codes, ends = np.array(known.codes, np.int64), np.array(known.ends, np.int64)
        read.append(read_tails(body, known.width, codes, ends))
        unread = read[-1].unread.tolist()
        others += [(known.starts[each], known.ends[each]) for each in unread]
    for start, end in others:
        _read_series(body, start, end, directory, pending)
    return pending.finish(read)


@dataclass
class _Known:
    """Series with labels that are known, if all after these is one sample of `width` bytes.

    Attributes:
        codes: of the series.
        starts, ends: where each begins and ends.
    """

    width: int
    codes: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)


class _Framed(NamedTuple):
    known: tuple[_Known, _Known]
    others: list[tuple[int, int]]


def _frame(body: bytes, directory: SeriesDirectory, pending: Pending) -> _Framed:
    """Where each series begins and ends."""
    with_value, without = _Known(WITH_VALUE), _Known(WITHOUT_VALUE)
    find, others, at, size = directory.codes.get, [], 0, len(body)
    while at < size:
        if body[at] != _SERIES_KEY:
            number, kind, _, at = next(list_fields(body, at, size))
            if number == 1:
                expect_bytes(kind, "a series")
            refuse_version(number, _OTHER_VERSION, "2.0")
            pending.count_field()
            pending.ignored[METADATA] += number == _METADATA_FIELD
            continue
        start, at = find_content(body, at + 1, size)
        length, own = at - start, with_value
        code = find(body[start : at - WITH_VALUE]) if length > WITH_VALUE else None
        if code is None and length > WITHOUT_VALUE:
            code, own = find(body[start : at - WITHOUT_VALUE]), without
        if code is None:
            others.append((start, at))
            check_series_count(len(others))
            continue
        own.codes.append(code)
        own.starts.append(start)
        own.ends.append(at)
    check_series_count(len(with_value.codes) + len(without.codes) + len(others))
    return _Framed((with_value, without), others)


def _read_series(
    body: bytes, start: int, end: int, directory: SeriesDirectory, pending: Pending
) -> None:
    """Read a series field by field."""
    key: list[bytes] = []
    pairs: list[tuple[bytes, bytes]] = []
    samples: list[tuple[int, float]] = []
    at = start
    for number, kind, begin, stop in list_fields(body, start, end):
        pending.count_field()
        if number in _KINDS:
            expect_bytes(kind, f"field {number} of a series")
        if number == 1 and len(pairs) <= MOST_LABELS:
            key.append(body[at:stop])
            pairs.append(_read_label(body, begin, stop))
        elif number == 2:
            samples.append(read_sample(body, begin, stop))
            check_sample_count(len(samples))
        elif number in _IGNORED:
            pending.ignored[_IGNORED[number]] += 1
        at = stop
    pending.add_series(directory, directory.codes, Labelled(b"".join(key), pairs), samples)


def _read_label(body: bytes, start: int, end: int) -> tuple[bytes, bytes]:
    found = {1: b"", 2: b""}
    for number, kind, begin, stop in list_few_fields(body, start, end):
        if number in found:
            expect_bytes(kind, f"field {number} of a label")
            found[number] = body[begin:stop]
    return found[1], found[2]

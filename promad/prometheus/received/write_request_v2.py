"""Requests of remote write 2.0: `io.prometheus.write.v2.Request`.

    Request{4: symbols, 5: TimeSeries}
    TimeSeries{1: labels_refs, 2: Sample, 3: Histogram, 4: Exemplar, 5: Metadata}
    Sample{1: double value, 2: int64 unix milliseconds}

https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/

Names and values of labels are in `symbols`; a series refers to them by number.

Of nearly every series all is known but the sample, as in version 1.0: its texts have numbers that
are the same in each request, and those of a series, as bytes, are found in a dictionary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

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
    VARINT,
    MalformedError,
    expect_bytes,
    find_content,
    list_fields,
    read_sample,
    read_varint,
    refuse_version,
)

_SYMBOLS, _SERIES = 4, 5
_SYMBOL_KEY, _SERIES_KEY = _SYMBOLS << 3 | BYTES, _SERIES << 3 | BYTES
_REFS_KEY, _SAMPLE_KEY, _METADATA_KEY = 0x0A, 0x12, 0x2A
_WIDTHS = {16: WITH_VALUE, 7: WITHOUT_VALUE}
"""Bytes of the field of a sample, by those of its content."""
_IGNORED = {3: HISTOGRAMS, 4: EXEMPLARS, 5: METADATA}
_OTHER_VERSION = frozenset({1, 2, 3})
"""Fields of version 1.0, which this one will never have; read as this one, all would be lost."""
_LONGEST_REF = 4
_MOST_REFS = 2 * (MOST_LABELS + 1)
"""That are read of a series, so one label more than it may have."""
_MISSING = -2

Numbers = NDArray[np.int64]
Span = tuple[int, int]


class _Symbols(NamedTuple):
    """The texts of a request, and their numbers: int32 (symbols,)."""

    texts: list[bytes]
    numbers: NDArray[np.int32]


@dataclass
class _Likely:
    """Series of references to labels, one sample and perhaps metadata, by where these are.

    Attributes:
        spans: where each series begins and ends.
        begins, ends: where its references begin and end.
        widths: bytes of the field of its sample.
        metadata: 1 if there is some, else 0.
    """

    spans: list[Span] = field(default_factory=list)
    begins: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)
    metadata: list[int] = field(default_factory=list)


def decode_write_request_v2(body: bytes, directory: SeriesDirectory) -> Decoded:
    """The samples of a request.

    Raises:
        MalformedError: if it cannot be read.
        OversizedError: if it has too many series or samples.
    """
    pending = Pending()
    texts, spans = _frame(body, pending)
    symbols = _Symbols(texts, directory.number_symbols(texts))
    likely, others = _recognise(body, spans)
    codes = _find_codes(body, likely, symbols, directory)
    widths, ends = np.array(likely.widths, np.int64), np.array(likely.ends, np.int64)
    metadata = np.array(likely.metadata, np.int64)
    read = []
    unread = [np.flatnonzero(codes == _MISSING)]
    for width in (WITH_VALUE, WITHOUT_VALUE):
        own = np.flatnonzero((codes != _MISSING) & (widths == width))
        read.append(read_tails(body, width, codes[own], ends[own] + width))
        unread.append(own[read[-1].unread])
        pending.ignored[METADATA] += int(metadata[own].sum() - metadata[unread[-1]].sum())
    for span in [*others, *(likely.spans[each] for part in unread for each in part.tolist())]:
        _read_series(body, span, symbols, directory, pending)
    return pending.finish(read)


def _frame(body: bytes, pending: Pending) -> tuple[list[bytes], list[Span]]:
    """The texts of a request, and where each series begins and ends."""
    texts: list[bytes] = []
    spans: list[Span] = []
    at, size = 0, len(body)
    while at < size:
        key = body[at]
        if key in {_SYMBOL_KEY, _SERIES_KEY}:
            begin, at = find_content(body, at + 1, size)
            if key == _SERIES_KEY:
                spans.append((begin, at))
                check_series_count(len(spans))
            else:
                texts.append(body[begin:at])
                check_series_count(len(texts) // 8)  # 4 labels of their own for each series
            continue
        pending.count_field()
        number, kind, _, at = next(list_fields(body, at, size))
        refuse_version(number, _OTHER_VERSION, "1.0")
        if number in {_SYMBOLS, _SERIES}:
            expect_bytes(kind, f"field {number} of a request")
    return texts, spans


def _recognise(body: bytes, spans: Sequence[Span]) -> tuple[_Likely, list[Span]]:
    """The series in the usual form, by their keys and lengths, and those in another."""
    likely, others, size = _Likely(), [], len(body)
    for span in spans:
        begin, end = span
        first = begin + 2
        sample = first + body[begin + 1] if first < size else size
        width = _WIDTHS.get(body[sample + 1], 0) if sample + 1 < end else 0
        rest = sample + width
        has_more = rest != end
        if (
            not width
            or body[begin] != _REFS_KEY
            or not first < sample < first + 0x80
            or body[sample] != _SAMPLE_KEY
            or (has_more and not _is_metadata(body, rest, end))
        ):
            others.append(span)
            continue
        likely.spans.append(span)
        likely.begins.append(first)
        likely.ends.append(sample)
        likely.widths.append(width)
        likely.metadata.append(has_more)
    return likely, others


def _is_metadata(body: bytes, at: int, end: int) -> bool:
    return at + 1 < end and body[at] == _METADATA_KEY and at + 2 + body[at + 1] == end


def _find_codes(
    body: bytes, likely: _Likely, symbols: _Symbols, directory: SeriesDirectory
) -> Numbers:
    """The code of each series, `_MISSING` if it is not known: int64 (series,)."""
    if not likely.spans:
        return np.zeros(0, np.int64)
    bounds = np.array([likely.begins, likely.ends])
    lengths = bounds[1] - bounds[0]
    stops = lengths.cumsum()
    places = np.repeat(bounds[0] - stops + lengths, lengths) + np.arange(stops[-1])
    data = np.frombuffer(body, np.uint8)[places].astype(np.int64)
    is_last = data < 0x80
    last = np.flatnonzero(is_last)
    first = np.r_[0, last[:-1] + 1]
    counts = is_last.cumsum()[stops - 1]
    refs = np.zeros(len(last), np.int64)
    for digit in range(_LONGEST_REF):
        there = first + digit <= last
        refs[there] |= (data[(first + digit)[there]] & 0x7F) << 7 * digit
    unusual = (last - first >= _LONGEST_REF).any() or not is_last[stops - 1].all()
    if unusual or refs.max() >= len(symbols.texts):
        return np.full(len(likely.spans), _MISSING)
    keys = symbols.numbers[refs].tobytes()
    ends = (counts * symbols.numbers.itemsize).tolist()
    get = directory.symbol_codes.get
    found = [get(keys[begin:end], _MISSING) for begin, end in pairwise([0, *ends])]
    return np.array(found, np.int64)


def _read_series(
    body: bytes, span: Span, symbols: _Symbols, directory: SeriesDirectory, pending: Pending
) -> None:
    """Read a series field by field."""
    refs: list[int] = []
    samples: list[tuple[int, float]] = []
    for number, kind, begin, stop in list_fields(body, *span):
        pending.count_field()
        if number == 1:
            refs += _read_refs(body, kind, begin, stop, _MOST_REFS - len(refs))
        elif number == 2:
            expect_bytes(kind, "a sample")
            samples.append(read_sample(body, begin, stop))
            check_sample_count(len(samples))
        elif number in _IGNORED:
            pending.ignored[_IGNORED[number]] += 1
    key = symbols.numbers[_check_refs(refs, len(symbols.texts))].tobytes()
    texts = [symbols.texts[ref] for ref in refs]
    pairs = list(zip(texts[::2], texts[1::2], strict=True))
    pending.add_series(directory, directory.symbol_codes, Labelled(key, pairs), samples)


def _check_refs(refs: list[int], symbols: int) -> list[int]:
    """The references, if they are pairs and lead to symbols.

    Raises:
        MalformedError: if not.
    """
    if len(refs) % 2:
        raise MalformedError(f"{len(refs)} references to labels; send names and values in pairs")
    if refs and max(refs) >= symbols:
        raise MalformedError(f"a reference to symbol {max(refs)}, of {symbols}")
    return refs


def _read_refs(body: bytes, kind: int, at: int, end: int, most: int) -> list[int]:
    """Numbers of symbols, packed or single; the first `most` of them."""
    if kind not in {BYTES, VARINT}:
        raise MalformedError(f"references to labels have wire type {kind}")
    found: list[int] = []
    while at < end and len(found) < most:
        ref, at = read_varint(body, at, end)
        found.append(ref)
    return found

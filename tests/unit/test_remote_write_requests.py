"""Remote-write requests of both versions: what is read of them, and what is refused."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable, Sequence
from itertools import permutations

import cramjam
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promad.data.groups import Grouping
from promad.prometheus.received import decoded as limits
from promad.prometheus.received.compression import decompress
from promad.prometheus.received.decoded import Decoded
from promad.prometheus.received.directory import (
    MOST_LABELS,
    MOST_VALUE_BYTES,
    UNKNOWN,
    Labelled,
    SeriesDirectory,
)
from promad.prometheus.received.store import SampleStore, StoreOptions
from promad.prometheus.received.wire import MalformedError, OversizedError
from promad.prometheus.received.write_request import decode_write_request
from promad.prometheus.received.write_request_v2 import decode_write_request_v2
from tests.support.remote_write_messages import (
    Sent,
    compress,
    encode_version_1,
    encode_version_2,
    feature,
    message,
)

AT = 1_795_000_000_000
STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]

VERSIONS = pytest.mark.parametrize(
    ("encode", "decode"),
    [(encode_version_1, decode_write_request), (encode_version_2, decode_write_request_v2)],
    ids=["1.0", "2.0"],
)
Encode = Callable[..., bytes]
Decode = Callable[[bytes, SeriesDirectory], Decoded]


def directory() -> SeriesDirectory:
    options = StoreOptions(("cpu", "load"), Grouping(("instance",)), 15.0, 120.0, 100)
    return SeriesDirectory({"web": SampleStore(options)})


def list_samples(found: Decoded) -> list[tuple[int, int, bytes]]:
    """Codes, times and the bits of values."""
    values = [struct.pack("<d", value) for value in found.values.tolist()]
    return sorted(zip(found.codes.tolist(), found.times.tolist(), values, strict=True))


def expect(series: Sequence[Sent], known: SeriesDirectory) -> list[tuple[int, int, bytes]]:
    """What decoding should yield, series by series."""
    codes = {}
    for labels, _ in series:
        pairs = [(name.encode(), value.encode()) for name, value in sorted(labels.items())]
        codes[tuple(pairs)] = known.find({}, Labelled(b"", pairs))
    return sorted(
        (
            codes[tuple((n.encode(), v.encode()) for n, v in sorted(labels.items()))],
            at,
            struct.pack("<d", value),
        )
        for labels, samples in series
        for at, value in samples
    )


def test_both_versions_have_the_same_content() -> None:
    series: list[Sent] = [
        (feature("web", "cpu", instance="a"), [(AT, 1.5), (AT + 15_000, STALE)]),
        (feature("web", "load", instance="a"), [(AT, 0.0)]),
        (feature("other", "load", instance="a"), [(AT, 7.0)]),
        ({"__name__": "up"}, [(AT, 1.0)]),
    ]
    both = [
        decode(encode(series), directory())
        for encode, decode in (
            (encode_version_1, decode_write_request),
            (encode_version_2, decode_write_request_v2),
        )
    ]
    assert list_samples(both[0]) == list_samples(both[1])
    assert both[0].codes.tolist() == [0, 0, 1, UNKNOWN, UNKNOWN]


label_text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
one_series = st.tuples(
    st.builds(
        lambda alias, instance, more: {**feature("web", alias, instance=instance), **more},
        st.sampled_from(["cpu", "load", "none"]),
        label_text,
        st.dictionaries(st.sampled_from(["job", "zone"]), label_text, max_size=2),
    ),
    st.lists(
        st.tuples(
            st.one_of(
                st.integers(AT - 10**6, AT + 10**6), st.integers(-(2**63), 2**63 - 1), st.just(0)
            ),
            st.one_of(st.just(0.0), st.just(-0.0), st.just(STALE), st.floats(width=64)),
        ),
        max_size=3,
    ),
)


@VERSIONS
@settings(max_examples=40, deadline=None)
@given(series=st.lists(one_series, max_size=8))
def test_samples_are_read_as_the_library_wrote_them(
    encode: Encode, decode: Decode, series: list[Sent]
) -> None:
    known = directory()
    body = encode(series)
    new = list_samples(decode(body, known))
    expected = expect(series, known)  # which series has which code is not said
    assert new == expected
    assert list_samples(decode(body, known)) == expected  # series that are known


@VERSIONS
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_no_bytes_make_the_reader_trip(encode: Encode, decode: Decode, data: st.DataObject) -> None:
    known = directory()
    body = encode([(feature("web", "cpu", instance=f"{n}"), [(AT, 1.0 * n)]) for n in range(3)])
    decode(body, known)
    at = data.draw(st.integers(0, len(body)))
    upto = data.draw(st.integers(at, len(body)))
    spoilt = body[:at] + data.draw(st.binary(max_size=12)) + body[upto:]
    for sent in (spoilt, data.draw(st.binary(max_size=60))):
        try:
            found = decode(sent, known)
        except (MalformedError, OversizedError):
            continue
        assert len(found.codes) == len(found.times) == len(found.values)


@VERSIONS
def test_a_request_cut_at_any_byte_is_refused_or_has_whole_series(
    encode: Encode, decode: Decode
) -> None:
    known = directory()
    body = encode([(feature("web", "cpu", instance=f"{n}"), [(AT, 1.0 + n)]) for n in range(3)])
    whole = list_samples(decode(body, known))
    for size in range(len(body)):
        try:
            found = list_samples(decode(body[:size], known))
        except MalformedError:
            continue
        assert found == whole[: len(found)]


@VERSIONS
@pytest.mark.parametrize(
    "body",
    [
        b"\xff" * 11,  # a key without end
        b"\x0a" + b"\xff" * 9 + b"\x7f",  # a length above 64 bits
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",  # a length beyond every memory
        b"\x2a\xff\xff\xff\xff\x0f",
        b"\x00\x00",  # field 0
        b"\x0b",  # a group
        b"\x08",  # a number that is cut off
        b"\x2d\x01",
    ],
)
def test_numbers_and_keys_that_are_none_are_refused(
    encode: Encode, decode: Decode, body: bytes
) -> None:
    with pytest.raises(MalformedError):
        decode(body, directory())


def test_references_that_lead_nowhere_are_refused() -> None:
    for refs in ([1, 2, 3], [1, 99], [0, 2**32 - 1]):
        request = message("io.prometheus.write.v2.Request")(symbols=["", "a"])
        request.timeseries.add().labels_refs.extend(refs)
        with pytest.raises(MalformedError):
            decode_write_request_v2(request.SerializeToString(), directory())


@pytest.mark.parametrize(
    ("encode", "decode", "version"),
    [
        (encode_version_1, decode_write_request_v2, "1.0"),
        (encode_version_2, decode_write_request, "2.0"),
    ],
)
def test_a_request_of_the_other_version_is_refused_and_not_taken_for_empty(
    encode: Encode, decode: Decode, version: str
) -> None:
    body = encode([(feature("web", "cpu", instance="a"), [(AT, 1.0)])])
    with pytest.raises(MalformedError, match=f"belongs to version {version}"):
        decode(body, directory())


@VERSIONS
def test_what_is_not_used_is_counted(encode: Encode, decode: Decode) -> None:
    series = [(feature("web", "cpu", instance="a"), [(AT, 1.0)])]
    body = encode(series, exemplars=2, histograms=3, metadata=1)
    for known in [directory()] * 2:
        found = decode(body, known)
        assert dict(found.ignored) == {"exemplar": 2, "histogram": 3, "metadata": 1}
        assert found.values.tolist() == [1.0]


@VERSIONS
@pytest.mark.parametrize(
    ("labels", "why"),
    [
        ({}, "a metric or label name is empty"),
        ({"instance": "a"}, "a metric or label name is empty"),
        ({"__name__": "up", "a": "x" * (MOST_VALUE_BYTES + 1)}, "names have at most 1024"),
        ({"__name__": "up"} | {f"l{n}": "x" for n in range(MOST_LABELS)}, "send at most 128"),
        ({"__name__": "up", "": "x"}, "a metric or label name is empty"),
    ],
)
def test_a_series_with_impossible_labels_is_refused_and_the_others_are_taken(
    encode: Encode, decode: Decode, labels: dict[str, str], why: str
) -> None:
    good = feature("web", "cpu", instance="a")
    found = decode(encode([(labels, [(AT, 1.0)]), (good, [(AT, 2.0)])]), directory())
    assert found.values.tolist() == [2.0]
    assert why in found.problems[0]
    assert found.ignored["invalid_series"] == 1


def test_labels_that_are_no_text_or_repeated_are_refused() -> None:
    request = message("prometheus.WriteRequest")()
    series = request.timeseries.add()
    for name, value in [("__name__", "up"), ("a", "QQ"), ("a", "x")]:
        series.labels.add(name=name, value=value)
    body = request.SerializeToString()
    assert decode_write_request(body, directory()).problems == ["a label name is repeated"]
    spoilt = body.replace(b"QQ", b"\xff\xfe")
    assert decode_write_request(spoilt, directory()).problems == ["label b'a' is not UTF-8"]


@VERSIONS
def test_too_many_series_are_refused(
    encode: Encode, decode: Decode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MOST_SERIES", 3)
    series = [(feature("web", "cpu", instance=f"{n}"), [(AT, 1.0)]) for n in range(4)]
    known = directory()
    for _ in range(2):
        with pytest.raises(OversizedError):
            decode(encode(series), known)
    decode(encode(series[:3]), known)
    with pytest.raises(OversizedError):
        decode(encode([(series[0][0], [(AT + n, 1.0) for n in range(4)])]), known)


def test_series_of_which_no_detector_makes_use_do_not_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("promad.prometheus.received.directory._MOST_UNKNOWN", 10)
    known = directory()
    wanted = feature("web", "cpu", instance="a")
    for number in range(50):
        sent = [(wanted, [(AT, 1.0)]), ({"__name__": f"m{number}"}, [(AT, 1.0)])]
        found = decode_write_request(encode_version_1(sent), known)
        assert sorted(found.codes.tolist()) == [UNKNOWN, 0]
        assert len(known.codes) <= 12


def test_a_block_of_snappy_is_decompressed_up_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert decompress(compress(b"abc" * 1000)) == b"abc" * 1000
    monkeypatch.setattr("promad.prometheus.received.compression.MOST_DECOMPRESSED_BYTES", 2999)
    with pytest.raises(OversizedError, match="3000 bytes after decompression"):
        decompress(compress(b"abc" * 1000))


@settings(max_examples=100, deadline=None)
@given(noise=st.binary(max_size=30), cut=st.integers(0, 200), size=st.integers(0, 2**32 - 1))
def test_nothing_else_is(noise: bytes, cut: int, size: int) -> None:
    whole = compress(b"abc" * 1000 + bytes(range(100)))
    claim = b""
    while size > 0x7F:
        claim, size = claim + bytes([size & 0x7F | 0x80]), size >> 7
    claim += bytes([size])
    for sent in (noise, whole[: min(cut, len(whole) - 1)], claim + whole[2:], whole + noise + b"x"):
        try:
            found = decompress(sent)
        except (MalformedError, OversizedError):
            continue
        assert len(found) == cramjam.snappy.decompress_raw_len(sent)


def test_a_known_series_is_found_without_reading_its_labels() -> None:
    known = directory()
    body = encode_version_1([(feature("web", "cpu", instance="a"), [(AT, 1.0)])])
    decode_write_request(body, known)
    known.find = None  # type: ignore[assignment,method-assign]
    assert decode_write_request(body, known).codes.tolist() == [0]
    assert np.array_equal(decode_write_request(body, known).times, [AT])


def field(number: int, content: bytes) -> bytes:
    """A field that is a message, as it is sent."""
    size, length = len(content), b""
    while size > 0x7F:
        length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


@pytest.mark.parametrize(
    ("decode", "body"),
    [
        (decode_write_request, b"\x0a\x00" * 10**6),
        (decode_write_request, b"\x1a\x00" * 10**6),
        (decode_write_request, field(1, b"\x12\x00" * 10**6)),
        (decode_write_request, field(1, b"\x0a\x00" * 10**6)),
        (decode_write_request, field(1, b"\x22\x00" * 10**6)),
        (decode_write_request_v2, b"\x22\x00" * 10**6),
        (decode_write_request_v2, b"\x2a\x00" * 10**6),
        (decode_write_request_v2, b"\x3a\x00" * 10**6),
        (decode_write_request_v2, field(5, b"\x12\x00" * 10**6)),
    ],
    ids=[
        *("series", "metadata", "samples", "labels", "histograms"),
        *("symbols", "series 2.0", "unknown fields", "samples 2.0"),
    ],
)
def test_a_request_of_very_many_empty_fields_costs_little_memory(
    decode: Decode, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are compressed to a few kB; read to the end, each would cost 100 bytes and more."""
    monkeypatch.setattr(limits, "MOST_FIELDS", 10_000)
    monkeypatch.setattr(limits, "MOST_SERIES", 10_000)
    tracemalloc.start()
    try:
        with pytest.raises(OversizedError):
            decode(body, directory())
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    finally:
        tracemalloc.stop()


def test_very_many_references_of_one_series_are_not_read() -> None:
    body = field(4, b"") + field(5, field(1, bytes(10**6)) + b"\x12\x00")
    tracemalloc.start()
    try:
        found = decode_write_request_v2(body, directory())
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    assert found.problems == ["more than 128 labels; send at most 128"]
    assert found.ignored["invalid_series"] == 1


def test_a_label_or_sample_with_many_fields_is_malformed() -> None:
    for content in (field(1, b"\x18\x00" * 9), field(2, b"\x18\x00" * 9)):
        with pytest.raises(MalformedError, match="more than 8 fields"):
            decode_write_request(field(1, content), directory())


@VERSIONS
def test_labels_that_are_too_long_together_are_refused(encode: Encode, decode: Decode) -> None:
    labels = {"__name__": "up"} | {f"l{n}": "x" * 10_000 for n in range(4)}
    found = decode(encode([(labels, [(AT, 1.0)])]), directory())
    assert found.problems == ["labels of 40018 bytes; send at most 32768"]


@VERSIONS
def test_a_label_without_a_value_is_none(encode: Encode, decode: Decode) -> None:
    known = directory()
    plain = feature("web", "cpu", instance="a")
    sent: list[Sent] = [(plain, [(AT, 1.0)]), ({**plain, "zone": ""}, [(AT + 15_000, 1.0)])]
    assert decode(encode(sent), known).codes.tolist() == [0, 0]


def count_bytes(known: SeriesDirectory) -> int:
    """Of all that a directory remembers of what was sent."""
    return sum(len(key) for codes in (known.codes, known.symbol_codes) for key in codes) + sum(
        map(len, known._symbols)
    )


@VERSIONS
def test_long_labels_of_other_series_do_not_fill_the_memory(
    encode: Encode, decode: Decode, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit in ("_MOST_UNKNOWN_BYTES", "_MOST_SYMBOL_BYTES"):
        monkeypatch.setattr(f"promad.prometheus.received.directory.{limit}", 20_000)
    known, wanted = directory(), feature("web", "cpu", instance="a")
    for number in range(100):
        other = {"__name__": f"m{number}", "path": f"{number}" + "x" * 2000}
        found = decode(encode([(wanted, [(AT, 1.0)]), (other, [(AT, 1.0)])]), known)
        assert sorted(found.codes.tolist()) == [UNKNOWN, 0]
        assert count_bytes(known) < 25_000


def test_the_labels_of_one_series_in_any_order_do_not_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("promad.prometheus.received.directory._MOST_UNKNOWN", 10)
    known = directory()
    labels = list(feature("web", "cpu", **{f"l{n}": "x" for n in range(4)}).items())
    for order in permutations(labels):
        request = message("prometheus.WriteRequest")()
        series = request.timeseries.add()
        for name, value in order:
            series.labels.add(name=name, value=value)
        series.samples.add(value=1.0, timestamp=AT)
        assert decode_write_request(request.SerializeToString(), known).codes.tolist() == [0]
    assert len(known.codes) <= 10 + 2 * 100

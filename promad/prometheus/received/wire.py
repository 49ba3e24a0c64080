"""The wire format of Protocol Buffers, as far as remote write needs it.

https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from struct import unpack_from

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 10
_INT64, _UINT64 = 1 << 63, 1 << 64
_MOST_SMALL_FIELDS = 8
"""In a label or a sample, which have two or three."""


class MalformedError(ValueError):
    """A request that cannot be read; sent again, it would still be malformed."""


class OversizedError(ValueError):
    """A request that is larger than promad accepts."""


def read_varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    r"""A whole number from 0 to 2^64 - 1, and where it ends.

    >>> read_varint(b"\xac\x02", 0, 2)
    (300, 2)

    Raises:
        MalformedError: if it is cut off, or longer than ten bytes.
    """
    value = shift = 0
    for place in range(at, min(end, at + _LONGEST_VARINT)):
        byte = data[place]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= _UINT64:
                raise MalformedError(f"a number of more than 64 bits at byte {at}")
            return value, place + 1
        shift += 7
    raise MalformedError(f"a number without end at byte {at}")


def find_content(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Where the content of a field begins and ends, whose length is at byte `at`.

    Raises:
        MalformedError: if it is cut off.
    """
    if at + 1 < end and data[at] < 0x80:  # most are short, and this is called for each series
        begin, stop = at + 1, at + 1 + data[at]
    elif at + 2 < end and data[at + 1] < 0x80:
        begin = at + 2
        stop = begin + (data[at] & 0x7F | data[at + 1] << 7)
    else:
        length, begin = read_varint(data, at, end)
        stop = begin + length
    if stop > end:
        raise MalformedError(f"a field of {stop - begin} bytes at byte {begin} is cut off")
    return begin, stop


def to_signed(value: int) -> int:
    """The int64 that a varint stands for."""
    return value - _UINT64 if value >= _INT64 else value


def list_fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """The fields of a message: number, wire type, and where the content begins and ends.

    Raises:
        MalformedError: if the message is cut off or no message.
    """
    while at < end:
        key, begin = read_varint(data, at, end)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise MalformedError(f"field 0 at byte {at}")
        if kind == VARINT:
            _, at = read_varint(data, begin, end)
        elif kind == FIXED64:
            at = begin + 8
        elif kind == BYTES:
            length, begin = read_varint(data, begin, end)
            at = begin + length
        elif kind == FIXED32:
            at = begin + 4
        else:
            raise MalformedError(f"wire type {kind} at byte {at}")
        if at > end:
            raise MalformedError(f"a field of {at - begin} bytes at byte {begin} is cut off")
        yield number, kind, begin, at


def list_few_fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """The fields of a label or a sample, as of `list_fields`.

    Raises:
        MalformedError: also if there are too many, which would take long to read.
    """
    for count, found in enumerate(list_fields(data, at, end)):
        if count == _MOST_SMALL_FIELDS:
            raise MalformedError(f"more than {count} fields in a label or sample at byte {at}")
        yield found


def expect_bytes(kind: int, what: str) -> None:
    """Raise MalformedError if a field that is a message or a string is of another wire type."""
    if kind != BYTES:
        raise MalformedError(f"{what} has wire type {kind}, expected {BYTES}")


def refuse_version(number: int, others: Collection[int], version: str) -> None:
    """Raise MalformedError for a field that only the other version of the protocol has."""
    if number in others:
        raise MalformedError(
            f"field {number} belongs to version {version} — name the message of that version in "
            "the content type"
        )


def read_sample(data: bytes, at: int, end: int) -> tuple[int, float]:
    """A sample of either version of the protocol: unix milliseconds and a value.

    Raises:
        MalformedError: if it is no sample.
    """
    milliseconds, value = 0, 0.0
    for number, kind, begin, stop in list_few_fields(data, at, end):
        if number == 1 and kind == FIXED64:
            (value,) = unpack_from("<d", data, begin)
        elif number == 2 and kind == VARINT:
            milliseconds = to_signed(read_varint(data, begin, stop)[0])
        elif number in {1, 2}:
            raise MalformedError(f"field {number} of a sample has wire type {kind}")
    return milliseconds, value

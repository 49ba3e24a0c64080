"""`Segment`: a part of an answer, compressed once however many answers it becomes part of.

Parts compressed on their own are put together to one gzip member, whose checksum is computed from
theirs. So an answer is sent without copying, compressing or reading its parts again.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import NamedTuple

_POLYNOMIAL = 0xEDB88320
"""That of CRC-32 (RFC 1952), the bit of x^0 first."""
_ONE = 1 << 31
_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
_LAST_BLOCK = b"\x03\0"


class Deflated(NamedTuple):
    """A compressed segment.

    Attributes:
        content: blocks of raw deflate (RFC 1951) that end at a byte; none is marked as the last.
        checksum: CRC-32 of the plain segment.
        shift: what the checksum of all before it is multiplied by.
    """

    content: bytes
    checksum: int
    shift: int


@dataclass(eq=False)
class Segment:
    """A part of an answer."""

    plain: bytes

    @property
    def size(self) -> int:
        """Bytes of it, plain."""
        return len(self.plain)

    @property
    def is_compressed(self) -> bool:
        """Whether `deflated` is at hand."""
        return "deflated" in vars(self)

    @cached_property
    def deflated(self) -> Deflated:
        """The segment compressed."""
        deflate = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
        content = deflate.compress(self.plain) + deflate.flush(zlib.Z_SYNC_FLUSH)
        return Deflated(content, zlib.crc32(self.plain), _raise_x(8 * len(self.plain)))


@dataclass(eq=False)
class Joined:
    """Segments that follow each other in many answers, put together once."""

    segments: Sequence[Segment | Joined]

    @cached_property
    def size(self) -> int:
        """Bytes of all, plain."""
        return sum(each.size for each in self.segments)

    @cached_property
    def deflated(self) -> Deflated:
        """All of them compressed."""
        parts, checksum = _join([each.deflated for each in self.segments])
        return Deflated(b"".join(parts), checksum, _raise_x(8 * self.size))


def join_compressed(segments: Iterable[Segment | Joined]) -> list[bytes]:
    """Parts of one gzip member (RFC 1952) with the content of all segments."""
    whole = Joined([*segments])
    parts, checksum = _join([each.deflated for each in whole.segments])
    return [_HEADER, *parts, _LAST_BLOCK + struct.pack("<II", checksum, whole.size & 0xFFFFFFFF)]


def _join(deflated: Iterable[Deflated]) -> tuple[list[bytes], int]:
    """The contents, and the checksum of all."""
    parts, checksum = [], 0
    for each in deflated:
        parts.append(each.content)
        checksum = _multiply(each.shift, checksum) ^ each.checksum
    return parts, checksum


def _multiply(a: int, b: int) -> int:
    """The product of two polynomials modulo that of CRC-32, as in zlib's crc32_combine."""
    product, bit = 0, _ONE
    while bit:
        if a & bit:
            product ^= b
        b = (b >> 1) ^ _POLYNOMIAL if b & 1 else b >> 1
        bit >>= 1
    return product


def _raise_x(power: int) -> int:
    """X to a power modulo the polynomial of CRC-32."""
    result = _ONE
    for place in range(power.bit_length()):
        if power >> place & 1:
            result = _multiply(_square_x(place), result)
    return result


@cache
def _square_x(times: int) -> int:
    """X squared so many times."""
    if times == 0:
        return _ONE >> 1
    before = _square_x(times - 1)
    return _multiply(before, before)

"""`Segment`: a part of an answer, compressed once however many answers it becomes part of.

Parts compressed on their own are put together to one gzip member, whose checksum is computed from
theirs. So an answer is sent without copying, compressing or reading its parts again.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
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
    def is_compressed(self) -> bool:
        """Whether `deflated` is at hand."""
        return "deflated" in vars(self)

    @cached_property
    def deflated(self) -> Deflated:
        """The segment compressed."""
        deflate = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
        content = deflate.compress(self.plain) + deflate.flush(zlib.Z_SYNC_FLUSH)
        return Deflated(content, zlib.crc32(self.plain), _raise_x(8 * len(self.plain)))


def join_compressed(segments: Iterable[Segment]) -> list[bytes]:
    """Parts of one gzip member (RFC 1952) with the content of all segments."""
    parts, checksum, size = [_HEADER], 0, 0
    for segment in segments:
        deflated = segment.deflated
        parts.append(deflated.content)
        checksum = _multiply(deflated.shift, checksum) ^ deflated.checksum
        size += len(segment.plain)
    parts.append(_LAST_BLOCK + struct.pack("<II", checksum, size & 0xFFFFFFFF))
    return parts


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
    result, square = _ONE, _ONE >> 1
    while power:
        if power & 1:
            result = _multiply(square, result)
        square = _multiply(square, square)
        power >>= 1
    return result

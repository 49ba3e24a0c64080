"""The points of many series, read at once, without keeping a Python object for each.

A block is the JSON list of the points of one series: `[[1763784000,"0.5"],[1763784015,"NaN"]]`.
About 64 KiB are read at a time: the numbers take three times as much until they are in an array.
Without the digits, what is left must be the brackets, commas and quotes of so many points; without
those, what is left is a list of numbers. Anything unusual (white space, other spellings of numbers)
is read point by point instead, with the same result. `even` is quicker with long series of regular
times.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Sequence
from itertools import pairwise

import msgspec
import numpy as np
from numpy.typing import NDArray

from promad.prometheus.even import MISSING, is_long, read_even

Numbers = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Times and values, float64 (samples,) each."""
_CHUNK_BYTES = 2**16
_OF_NUMBERS = b"0123456789+-.eE" + b"NaInf"
_TO_COMMAS = bytes.maketrans(b"\n", b",")
_POINTS = b'[,""],'
"""What is left of a point without its numbers, and what separates it from the next."""
_BETWEEN_POINTS = re.compile(rb"\]\s*,\s*\[")
_MISSING = tuple(b'"%s"' % text for text in MISSING)

_decode_points = msgspec.json.Decoder(list[tuple[float | str, float | str]]).decode
_decode_numbers = msgspec.json.Decoder(list[float | None]).decode


def read_blocks(blocks: Sequence[bytes]) -> tuple[NDArray[np.int64], Numbers]:
    """How many points each block has, int64 (blocks,), and the numbers of all of them.

    A value that is not finite is missing: NaN.

    Raises:
        ValueError: if a point is not a time and a value.
    """
    if sum(map(len, blocks)) <= _CHUNK_BYTES:
        found, numbers = _read_chunk(blocks)
        counts = np.array(found, np.int64)
    else:
        counts, numbers = _read_chunks(blocks)
    times, values = numbers[::2], numbers[1::2]
    finite = np.isfinite(numbers)
    if not finite.all():
        if not finite[::2].all():
            raise ValueError("a sample has no time")
        values[~finite[1::2]] = np.nan
    return counts, (times, values)


def _read_chunks(blocks: Sequence[bytes]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    numbers = array("d")
    counts = np.zeros(len(blocks), np.int64)
    for first, pieces in _group(blocks):
        even = read_even(pieces[0]) if len(pieces) == 1 else None
        found, flat = _read_chunk(pieces) if even is None else ([len(even) // 2], even)
        counts[first : first + len(found)] += found
        numbers.frombytes(flat.view(np.uint8))
    return counts, np.frombuffer(numbers, np.float64)


def _group(blocks: Sequence[bytes]) -> Iterator[tuple[int, Sequence[bytes]]]:
    """Blocks of 64 KiB in all, or a piece of a long one, and the position of the first of them."""
    sizes = np.fromiter(map(len, blocks), np.int64, len(blocks))
    long, parts = is_long(sizes), sizes.cumsum() // _CHUNK_BYTES
    begins = long[1:] | long[:-1] | (parts[1:] != parts[:-1])
    for first, end in pairwise([0, *(1 + np.flatnonzero(begins)).tolist(), len(blocks)]):
        if long[first]:
            for piece in _split(blocks[first]):
                yield first, [piece]
        else:
            yield first, blocks[first:end]


def _split(block: bytes) -> Iterator[bytes]:
    """The block, or pieces of 64 KiB that are blocks themselves."""
    view = memoryview(block)
    start = 0
    while found := _BETWEEN_POINTS.search(view, start + _CHUNK_BYTES):
        end = found.start() + 1
        yield b"%s%s]" % (b"[" if start else b"", view[start:end])
        start = found.end() - 1
    yield b"[%s" % view[start:] if start else block


def _read_chunk(blocks: Sequence[bytes]) -> tuple[Sequence[int], NDArray[np.float64]]:
    """How many points each block has, and time and value of each point in turn."""
    lines = b"\n".join(blocks)
    counts = _count_points(lines)
    if counts is not None:
        try:
            return counts, _read_lines(lines, empty=0 in counts)
        except msgspec.DecodeError:
            pass  # another spelling of a number, or none at all
    return _read_odd(blocks)


def _read_odd(blocks: Sequence[bytes]) -> tuple[Sequence[int], NDArray[np.float64]]:
    numbers = array("d")
    ends = [0]
    for block in blocks:
        numbers.extend(_read_slowly(bytes(block)))
        ends.append(len(numbers) // 2)
    return [after - before for before, after in pairwise(ends)], np.array(numbers, np.float64)


def _count_points(lines: bytes) -> list[int] | None:
    """How many points each line has, or None if a line has anything but points."""
    skeletons = lines.translate(None, _OF_NUMBERS).split(b"\n")
    counts: dict[bytes, int] = {}
    for skeleton in set(skeletons):
        count = len(skeleton) // len(_POINTS)
        if skeleton != b"[%s]" % (_POINTS * count)[:-1]:
            return None
        counts[skeleton] = count
    return [counts[skeleton] for skeleton in skeletons]


def _read_lines(lines: bytes, empty: bool) -> NDArray[np.float64]:
    """The numbers of lines of points; `empty` is whether some lines have none."""
    if b'"-0"' in lines:  # JSON has no sign for an integer zero
        lines = lines.replace(b'"-0"', b'"-0.0"')
    if b"N" in lines or b"I" in lines:
        for text in _MISSING:
            lines = lines.replace(text, b'"null"')
    if empty:
        lines = b"\n".join(line for line in lines.split(b"\n") if line != b"[]")
    return np.array(_decode_numbers(b"[%s]" % lines.translate(_TO_COMMAS, b'[]"')), np.float64)


def _read_slowly(block: bytes) -> Iterator[float]:
    """Time and value of each point in turn.

    Raises:
        ValueError: if a point is not a time and a value.
    """
    try:
        for time, value in _decode_points(block):
            yield float(time)
            yield float(value)
    except (ValueError, OverflowError):
        raise ValueError("a sample is not a time and a value") from None

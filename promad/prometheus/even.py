"""Long series of regular times, as a range query of whole seconds yields them.

Between two values of such a series are 16 bytes that are known beforehand: `"],[1763784015,"`. All
of them are compared at once, and only the values are read as numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import msgspec
import numpy as np
from numpy.typing import NDArray

MISSING = (b"NaN", b"+Inf", b"-Inf", b"Inf")
_LONG_BYTES = 2**12
_LISTED = 4096
_TIMES = range(10**9, 10**10)
"""Times of ten digits."""
_SEPARATOR = b'"],[%d,"'
_BYTES = 16
_COMMA = np.void(b",".ljust(_BYTES))

_decode_finite = msgspec.json.Decoder(list[float]).decode
_decode_any = msgspec.json.Decoder(list[float | None]).decode


def is_long(sizes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which blocks, of so many bytes, are worth to be read by themselves."""
    return np.asarray(sizes >= _LONG_BYTES)


def read_even(block: bytes) -> NDArray[np.float64] | None:
    """Time and value of each point in turn; None unless it is surely a series of regular times.

    A missing value is NaN.
    """
    text = bytearray(block)
    if text[:2] != b"[[" or text[12:14] != b',"' or text[-3:] != b'"]]':
        return None
    starts = np.flatnonzero(np.frombuffer(text, np.uint8) == ord("["))[2:] - len('"],')
    points = len(starts) + 1
    start, step = _read_times(text)
    if step <= 0 or starts[-1] + _BYTES > len(text):
        return None
    if start - step * _LISTED not in _TIMES or start + step * (points + _LISTED) not in _TIMES:
        return None
    if not _replace_separators(text, starts, _list_separators(start + step, step, points - 1)):
        return None
    values = _read_values(text[14:-3])
    if values is None or len(values) != points:
        return None
    numbers = np.empty((points, 2))
    numbers[:, 0] = start + step * np.arange(points)
    numbers[:, 1] = values
    return numbers.reshape(-1)


def _read_times(text: bytearray) -> tuple[int, int]:
    """The first time, and how much later the second one is; zeros if they have other forms."""
    at = text.find(b"[", 2)
    first, second = text[2:12], text[at + 1 : at + 11]
    return (int(first), int(second) - int(first)) if (first + second).isdigit() else (0, 0)


def _replace_separators(text: bytearray, starts: NDArray[np.int64], expected: bytes) -> bool:
    """Make each separator a comma; False, with nothing changed, if one is not as expected."""
    stretches = np.ndarray((len(text) - _BYTES + 1,), f"V{_BYTES}", text, strides=(1,))
    if stretches[starts].tobytes() != expected:
        return False
    stretches[starts] = _COMMA
    return True


def _list_separators(start: int, step: int, count: int) -> bytes:
    """What precedes the points from `start` on."""
    skipped = start // step % _LISTED
    first = start - skipped * step
    places = range(0, skipped + count, _LISTED)
    whole = b"".join([_list_many(first + place * step, step) for place in places])
    return whole[skipped * _BYTES : (skipped + count) * _BYTES]


@lru_cache(32)  # the series of an answer have the same
def _list_many(start: int, step: int) -> bytes:
    """What precedes 4096 points, the first of which is on a multiple of so many steps."""
    return b"".join([_SEPARATOR % time for time in range(start, start + step * _LISTED, step)])


def _read_values(text: bytearray) -> Sequence[float | None] | None:
    if b"-" in text and (b"-0," in text or text.endswith(b"-0")):
        return None  # JSON has no sign for an integer zero
    try:
        if not (b"N" in text or b"I" in text):
            return _decode_finite(b"[%s]" % text)
        if b"null" in text:
            return None
        for missing in MISSING:
            text = text.replace(missing, b"null")
        return _decode_any(b"[%s]" % text)
    except msgspec.DecodeError:
        return None

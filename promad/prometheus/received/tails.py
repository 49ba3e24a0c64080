"""Samples at the ends of series, read at once: most series have one, in one of two forms.

It is a field of 18 bytes; of 9 if the value is 0, which is not written then.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

WITH_VALUE, WITHOUT_VALUE = 18, 9
"""Bytes of the field of a sample."""

_TIME_BYTES = 6
"""Of the varint of unix milliseconds from 2004 to 2109."""
_SAMPLE_KEY, _VALUE_KEY, _TIME_KEY = 0x12, 0x09, 0x10
_SHIFTS = 7 * np.arange(_TIME_BYTES)

Numbers = NDArray[np.int64]


class ReadTails(NamedTuple):
    """Samples, each with the code of its series; `unread` are positions that have another end."""

    codes: Numbers
    times: Numbers
    values: NDArray[np.float64]
    unread: Numbers


def read_tails(body: bytes, width: int, codes: Numbers, ends: Numbers) -> ReadTails:
    """The samples that end at bytes `ends`, if they are of `width` bytes.

    Args:
        codes: of their series, (samples,).
        ends: (samples,).
    """
    data = np.frombuffer(body, np.uint8)
    tail = data[(ends - width)[:, np.newaxis] + np.arange(width)]
    digits = tail[:, width - _TIME_BYTES :]
    good = (tail[:, 0] == _SAMPLE_KEY) & (tail[:, 1] == width - 2)
    good &= tail[:, width - _TIME_BYTES - 1] == _TIME_KEY
    good &= (digits[:, :-1] >= 0x80).all(axis=1) & (digits[:, -1] < 0x80)
    if width == WITH_VALUE:
        good &= tail[:, 2] == _VALUE_KEY
        values = np.ascontiguousarray(tail[:, 3:11]).view("<f8")[:, 0].astype(np.float64)
    else:
        values = np.zeros(len(ends))
    times = ((digits & 0x7F).astype(np.int64) << _SHIFTS).sum(axis=1)
    return ReadTails(codes[good], times[good], values[good], np.flatnonzero(~good))

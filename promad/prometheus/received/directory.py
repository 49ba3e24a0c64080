"""Which series a label set is, found by the bytes in which it is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from promad.prometheus.received.naming import DETECTOR_LABEL, FEATURE_LABEL, FEATURE_SERIES
from promad.prometheus.received.store import SampleStore

UNKNOWN = -1
"""The code of a series that no detector asks for."""

MOST_LABELS = 128
MOST_NAME_BYTES = 1024
MOST_VALUE_BYTES = 16 * 1024
MOST_LABEL_BYTES = 32 * 1024
"""Of all names and values of a series."""

_MOST_UNKNOWN = 100_000
"""Series whose bytes are remembered though no detector asks for them."""
_MOST_UNKNOWN_BYTES = 32 * 2**20
_LONGEST_KEY = 4096
"""Bytes of a label set that is remembered; one with more is read each time."""
_MOST_SYMBOLS = 1_000_000
_MOST_SYMBOL_BYTES = 32 * 2**20
_STORE_BITS = 32

Codes = dict[bytes, int]


class LabelsError(ValueError):
    """Labels that no series can have; only this series of a request is refused."""


class Labelled(NamedTuple):
    """The labels of a series as they were sent, and the bytes by which it is found again."""

    key: bytes
    pairs: Sequence[tuple[bytes, bytes]]


class Routed(NamedTuple):
    """Which samples of a request belong to which store: positions, and the numbers of series."""

    store: SampleStore
    positions: NDArray[np.int64]
    series: NDArray[np.int64]


class SeriesDirectory:
    """Gives each label set a code that says in which store it is, and its number there.

    Its users look into a dictionary directly, and call `find` for what it lacks. What it remembers
    is bounded in number and in bytes, whatever is sent.

    Attributes:
        codes: by the bytes of a label set.
        symbol_codes: by the numbers of the label set's texts, as bytes; see `number_symbols`.
    """

    def __init__(self, stores: Mapping[str, SampleStore]) -> None:
        self.codes: Codes = {}
        self.symbol_codes: Codes = {}
        self._symbols: dict[bytes, int] = {}
        self._names = list(stores)
        self._stores = [stores[name] for name in self._names]
        self._most_keys = _MOST_UNKNOWN + 2 * sum(each.options.most_series for each in self._stores)
        self._symbol_bytes = self._unknown = self._unknown_bytes = 0

    def find(self, codes: Codes, labelled: Labelled) -> int:
        """The code of a label set, found in one of the dictionaries, or put there.

        It is `UNKNOWN` if no detector asks for the series.

        Raises:
            LabelsError: if no series can have these labels.
        """
        code = codes.get(labelled.key)
        if code is None:
            code = self._look_up(read_labels(labelled.pairs))
            if len(labelled.key) <= _LONGEST_KEY:
                self._remember(codes, labelled.key, code)
        return code

    def _remember(self, codes: Codes, key: bytes, code: int) -> None:
        """Put a code into a dictionary; where there are too many, others are found anew.

        A series can be sent with its labels in any order, and each has a key of its own.
        """
        codes[key] = code
        if code == UNKNOWN:
            self._unknown += 1
            self._unknown_bytes += len(key)
        if self._unknown > _MOST_UNKNOWN or self._unknown_bytes > _MOST_UNKNOWN_BYTES:
            self._forget_unknown()
        if len(codes) > self._most_keys:
            self._forget_codes()

    def _forget_unknown(self) -> None:
        for codes in (self.codes, self.symbol_codes):
            for key in [key for key, code in codes.items() if code == UNKNOWN]:
                del codes[key]
        self._unknown = self._unknown_bytes = 0

    def _forget_codes(self) -> None:
        self.codes.clear()
        self.symbol_codes.clear()
        self._unknown = self._unknown_bytes = 0

    def number_symbols(self, symbols: Sequence[bytes]) -> NDArray[np.int32]:
        """A number for each text of a request, the same in each: int32 (symbols,)."""
        numbers = self._symbols
        if len(numbers) > _MOST_SYMBOLS or self._symbol_bytes > _MOST_SYMBOL_BYTES:
            numbers.clear()
            self.symbol_codes.clear()
            self._symbol_bytes = 0
        before = len(numbers)
        found = [numbers.setdefault(symbol, len(numbers)) for symbol in symbols]
        self._symbol_bytes += sum(map(len, islice(reversed(numbers), len(numbers) - before)))
        return np.array(found, np.int32)

    def _look_up(self, labels: dict[str, str]) -> int:
        if labels.pop("__name__") != FEATURE_SERIES:
            return UNKNOWN
        detector, alias = labels.pop(DETECTOR_LABEL, None), labels.pop(FEATURE_LABEL, None)
        if detector not in self._names or alias is None:
            return UNKNOWN
        place = self._names.index(detector)
        number = self._stores[place].add(alias, labels)
        return UNKNOWN if number is None else place << _STORE_BITS | number

    def route(self, codes: NDArray[np.int64]) -> list[Routed]:
        """The samples of each store that has any; `codes` of their series are int64 (samples,)."""
        places = codes >> _STORE_BITS
        routed = []
        for place, store in enumerate(self._stores):
            positions = np.flatnonzero(places == place)
            if positions.size:
                numbers = codes[positions] & (1 << _STORE_BITS) - 1
                routed.append(Routed(store, positions, numbers))
        return routed

    def make_room(self) -> None:
        """Let stores forget series that ended; then all codes are found anew."""
        forgot = [store.forget_ended() for store in self._stores]
        if any(forgot):
            self._forget_codes()


def read_labels(pairs: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    """Labels as text, with a metric name; a label without a value is none, as in Prometheus.

    Raises:
        LabelsError: if they are too many, too long, not UTF-8, repeated, or without a metric name.
    """
    if len(pairs) > MOST_LABELS:
        raise LabelsError(f"more than {MOST_LABELS} labels; send at most {MOST_LABELS}")
    size = sum(len(name) + len(value) for name, value in pairs)
    if size > MOST_LABEL_BYTES:
        raise LabelsError(f"labels of {size} bytes; send at most {MOST_LABEL_BYTES}")
    labels: dict[str, str] = {}
    for name, value in pairs:
        if len(name) > MOST_NAME_BYTES or len(value) > MOST_VALUE_BYTES:
            raise LabelsError(
                f"label {name[:40]!r} has {len(name)} + {len(value)} bytes; names have at most "
                f"{MOST_NAME_BYTES} and values {MOST_VALUE_BYTES}"
            )
        try:
            text = name.decode()
            labels[text] = value.decode()
        except UnicodeDecodeError:
            raise LabelsError(f"label {name[:40]!r} is not UTF-8") from None
    if len(labels) < len(pairs):
        raise LabelsError("a label name is repeated")
    if not labels.get("__name__") or "" in labels:
        raise LabelsError("a metric or label name is empty")
    return {name: value for name, value in labels.items() if value}

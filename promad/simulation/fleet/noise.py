"""Chance of many sources at once, each value belonging to a source and an instant.

As in `promad.simulation.noise`, nothing remembers a previous call: asking for fewer or other
times, or for fewer sources, changes no value. Normal numbers come from a table, at 16 bits of
chance each, because a fleet needs hundreds of millions of them.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from promad.simulation.noise import Floats, Noise, scramble

Words = NDArray[np.uint64]
PER_WORD = 4
"""Normal numbers that one random word yields."""

_OCTAVES = ((1.0, 1.0), (5.0, 0.5))
"""How `FleetNoise.wander` is made up: (how much faster, how large)."""


def make_seeds(seed: int, stream: str, count: int) -> Words:
    """Unrelated seeds (count,) of as many sources."""
    return scramble(np.arange(count, dtype=np.uint64) + _start(f"{seed}/{stream}"))


@dataclass(frozen=True, eq=False)
class FleetNoise:
    """Named, independent streams of chance for sources that `seeds` (sources,) identifies."""

    seeds: Words

    def words(self, stream: str, keys: NDArray[np.int64]) -> Words:
        """Random words (sources, keys), one for each source and whole-number key (keys,)."""
        instants = scramble(keys.astype(np.uint64) + _start(stream))
        return _scramble_in_place(np.add.outer(self.seeds, instants))

    def uniform(self, stream: str, keys: NDArray[np.int64]) -> Floats:
        """Numbers in [0, 1): (sources, keys)."""
        return (self.words(stream, keys) >> np.uint64(11)).astype(np.float64) / 2.0**53

    def normal(self, stream: str, keys: NDArray[np.int64]) -> Floats:
        """Standard normal numbers: (sources, keys)."""
        return look_up_normal(self.words(stream, keys), 0)

    def wander(self, stream: str, times: Floats, period: float) -> Floats:
        """Noise with memory, mean 0, variance 1, which forgets itself after `period` seconds.

        Unix seconds (samples,) -> (sources, samples).
        """
        total = np.zeros((len(self.seeds), len(times)))
        for faster, size in _OCTAVES:
            total += size * self._between_knots(f"{stream}/{faster}", times * faster / period)
        return total / float(np.sqrt(sum(size**2 for _, size in _OCTAVES)))

    def _between_knots(self, stream: str, positions: Floats) -> Floats:
        """Normal numbers at whole positions, blended smoothly at constant variance between."""
        knots = np.floor(positions)
        along = positions - knots
        right = along * along * (3.0 - 2.0 * along)
        scale = np.hypot(1.0 - right, right)
        keys = np.unique(np.concatenate([knots, knots + 1.0]))
        at_knots = self.normal(stream, keys.astype(np.int64))
        index = np.searchsorted(keys, knots)
        blend = np.take(at_knots, index, axis=1) * ((1.0 - right) / scale)
        return blend + np.take(at_knots, index + 1, axis=1) * (right / scale)


def look_up_normal(words: Words, quarter: int) -> Floats:
    """Standard normal numbers in the shape of `words`, from one of the quarters of each."""
    return _normal_table()[words.view(np.uint16)[..., quarter::PER_WORD]]


@lru_cache(maxsize=1)
def _normal_table() -> Floats:
    """65,536 normal numbers, at most 4 in size, with mean 0 and variance 1."""
    table = np.clip(Noise(0).gaussian("table", np.arange(2**16)), -4.0, 4.0)
    return (table - table.mean()) / table.std()


@lru_cache(maxsize=1024)
def _start(stream: str) -> np.uint64:
    return np.uint64(zlib.crc32(stream.encode()) * 0x9E3779B1)


def _scramble_in_place(words: Words) -> Words:
    """`scramble` without temporary copies."""
    words += np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        words ^= words >> np.uint64(shift)
        words *= np.uint64(factor)
    words ^= words >> np.uint64(31)
    return words

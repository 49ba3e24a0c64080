"""Chance that belongs to an instant: the same seed, name and time always give the same number.

Nothing here remembers a previous call, so history and future come from the same functions, and
asking for fewer or other times changes no value. Times are unix seconds in arrays of any shape.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

OCTAVES = ((1.0, 1.0), (4.0, 0.5), (16.0, 0.25))
"""How `Noise.wander` is made up: (how much faster, how large); the faster the smaller."""


@dataclass(frozen=True)
class Noise:
    """A source of named, independent streams of chance."""

    seed: int

    def uniform(self, stream: str, keys: NDArray[np.int64]) -> Floats:
        """Numbers in [0, 1), one for each whole-number key, in the shape of `keys`."""
        start = zlib.crc32(f"{self.seed}/{stream}".encode()) * 0x9E3779B1
        mixed = scramble(scramble(keys.astype(np.uint64)) + np.uint64(start))
        return (mixed >> np.uint64(11)).astype(np.float64) / 2.0**53

    def gaussian(self, stream: str, keys: NDArray[np.int64]) -> Floats:
        """Standard normal numbers, one for each key (Box and Muller's transform)."""
        radius = np.sqrt(-2.0 * np.log1p(-self.uniform(f"{stream}/radius", keys)))
        return np.asarray(radius * np.cos(2.0 * np.pi * self.uniform(f"{stream}/angle", keys)))

    def white(self, stream: str, times: Floats) -> Floats:
        """Standard normal numbers without memory: one for each millisecond."""
        return self.gaussian(stream, np.rint(times * 1000.0).astype(np.int64))

    def wander(self, stream: str, times: Floats, period: float) -> Floats:
        """Noise with memory, mean 0 and variance 1, that forgets itself after `period` seconds."""
        total = np.zeros(np.shape(times))
        for faster, size in OCTAVES:
            total += size * self._between_knots(f"{stream}/{faster}", times, period / faster)
        return total / float(np.sqrt(sum(size**2 for _, size in OCTAVES)))

    def _between_knots(self, stream: str, times: Floats, period: float) -> Floats:
        """Normal numbers every `period` seconds, blended smoothly at constant variance."""
        knot = np.floor(times / period)
        along = times / period - knot
        right = along * along * (3.0 - 2.0 * along)
        keys = knot.astype(np.int64)
        blend = (1.0 - right) * self.gaussian(stream, keys) + right * self.gaussian(
            stream, keys + 1
        )
        return np.asarray(blend / np.hypot(1.0 - right, right))


def scramble(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One round of the splitmix64 finaliser: neighbouring words come out unrelated."""
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))

"""Anomalies put into clean values, so that a detector can be measured where nobody has labels.

The series is cut into blocks of equal length, and each block gets one anomaly of one kind, in turn
and at a random place, so that every kind is as frequent as any other and no two overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from promad.errors import DataError
from promad.evaluation.agreement import Flags, Reals

TOLERANCE = 0.1
"""What a change must exceed to count, in spreads of its feature."""
BLOCK = 8
"""How many times the shortest anomaly that lasts a block is long."""
SIZES = (1.0, 4.0)
"""How large a spike, a shift or the end of a drift is, in spreads of its feature. What is larger
needs no model to be seen."""

_FEW_FEATURES = 3
_LONGEST_SPIKE = 3
_TRIES = 8


@dataclass(frozen=True)
class Anomaly:
    """One of them: what it is, from which row to which (one past the last), and where.

    Attributes:
        sizes: by feature, in its spreads, below 0 for down; 0 for kinds that follow the values.
    """

    kind: str
    first: int
    last: int
    features: tuple[int, ...]
    sizes: tuple[float, ...]


@dataclass(frozen=True)
class Injected:
    """Values with anomalies in them, and where these are.

    Attributes:
        values: float64 (samples, features).
        causes: bool (samples, features), where a value is changed by more than the tolerance.
        kinds: text (samples,), the kind of the anomaly in whose block a sample lies.
        anomalies: all of them, in order of time.
    """

    values: Reals
    causes: Flags
    kinds: NDArray[np.str_]
    anomalies: tuple[Anomaly, ...]

    @property
    def labels(self) -> Flags:
        """Bool (samples,), where any feature is changed by more than the tolerance."""
        return np.asarray(self.causes.any(axis=1))


def inject(
    values: Reals,
    spread: Reals,
    seed: int,
    *,
    length: int = 20,
    sizes: tuple[float, float] = SIZES,
) -> Injected:
    """Put an anomaly of each kind in turn into every `BLOCK * length` samples.

    A spike lasts one to three samples, everything else `length` to twice that. An anomaly is put
    into up to a quarter of the features that vary, or up to three where these are few. Spikes,
    shifts and drifts go up or down, by sizes picked at random between `sizes`; of those anomalies
    that follow the values, some of which change next to nothing, the largest of a few is taken.
    The same seed has the same outcome. NaN stays NaN.

    Args:
        values: float64 (samples, features); left as they are.
        spread: what each feature's sizes are relative to, float64 (features,).

    Raises:
        DataError: if the samples are too few for one block, or no spread is above zero.
    """
    ground = _Ground(values, spread, np.flatnonzero(spread > 0), length, sizes)
    count = len(values) // (BLOCK * length)
    if count == 0 or len(ground.moving) == 0:
        raise DataError(
            f"{len(values)} samples of {len(ground.moving)} features that vary: too few to inject "
            f"an anomaly — give at least {BLOCK * length} samples of one feature that varies"
        )
    chance = np.random.default_rng(seed)
    changed, causes = values.copy(), np.zeros(values.shape, np.bool_)
    kinds, anomalies = np.empty(len(values), np.dtypes.StrDType(max(map(len, KINDS)))), []
    blocks = np.array_split(np.arange(len(values)), count)
    for kind, block in zip(_order_kinds(count, chance), blocks, strict=True):
        tries = 1 if kind in SIZED else _TRIES
        picked = [_pick_anomaly(kind, ground, block, chance) for _ in range(tries)]
        anomaly, change = max(picked, key=lambda each: float(np.nansum(np.abs(each[1]))))
        rows, columns = slice(anomaly.first, anomaly.last), list(anomaly.features)
        change = np.where(np.isnan(change + values[rows, columns]), 0.0, change)
        changed[rows, columns] += change * spread[columns]
        causes[rows, columns] = np.abs(change) > TOLERANCE
        kinds[block] = kind
        anomalies.append(anomaly)
    return Injected(changed, causes, kinds, tuple(anomalies))


@dataclass(frozen=True)
class _Ground:
    """What anomalies are put into; `moving` are the features that may have any."""

    values: Reals
    spread: Reals
    moving: NDArray[np.int64]
    length: int
    sizes: tuple[float, float]


def _order_kinds(count: int, chance: np.random.Generator) -> list[str]:
    """Names of kinds, each as often as the others, in random order."""
    names, rounds = list(KINDS), -(-count // len(KINDS))
    return [names[i] for _ in range(rounds) for i in chance.permutation(len(names))][:count]


def _pick_anomaly(
    kind: str, ground: _Ground, block: NDArray[np.int64], chance: np.random.Generator
) -> tuple[Anomaly, Reals]:
    """An anomaly within the block, and what it adds: (rows, its features), in spreads."""
    bounds = (1, _LONGEST_SPIKE) if kind == "spike" else (ground.length, 2 * ground.length)
    rows = int(chance.integers(*bounds, endpoint=True))
    first = int(chance.integers(block[0] + 1, block[-1] + 2 - rows))
    most = min(max(_FEW_FEATURES, len(ground.moving) // 4), len(ground.moving))
    columns = np.sort(chance.choice(ground.moving, chance.integers(1, most + 1), replace=False))
    sizes = chance.choice([-1.0, 1.0], len(columns)) * chance.uniform(*ground.sizes, len(columns))
    values = ground.values[:, columns] / ground.spread[columns]
    change = KINDS[kind](values, first, first + rows, sizes, chance)
    own_sizes = sizes if kind in SIZED else np.zeros(len(columns))
    features = tuple(columns.tolist())
    return Anomaly(kind, first, first + rows, features, tuple(own_sizes.tolist())), change


_Change = Callable[[Reals, int, int, Reals, np.random.Generator], Reals]
"""Values of some features, rows and sizes, all in spreads, to what is added to these rows."""


def _shift(
    values: Reals, first: int, last: int, sizes: Reals, chance: np.random.Generator
) -> Reals:
    return np.tile(sizes, (last - first, 1))


def _drift(
    values: Reals, first: int, last: int, sizes: Reals, chance: np.random.Generator
) -> Reals:
    return np.outer(np.arange(1, last - first + 1) / (last - first), sizes)


def _stuck(
    values: Reals, first: int, last: int, sizes: Reals, chance: np.random.Generator
) -> Reals:
    return np.asarray(values[first - 1] - values[first:last])


def _other_time(
    values: Reals, first: int, last: int, sizes: Reals, chance: np.random.Generator
) -> Reals:
    start = int(chance.integers(0, len(values) - (last - first) + 1))
    return np.asarray(values[start : start + last - first] - values[first:last])


KINDS: Mapping[str, _Change] = {
    "spike": _shift,
    "level shift": _shift,
    "broken correlation": _other_time,
    "flat line": _stuck,
    "drift": _drift,
}
"""Broken correlation: some features go on as they did at another time, the others as they do."""

SIZED = frozenset({"spike", "level shift", "drift"})
"""The kinds that have a size of their own; the others follow the values."""

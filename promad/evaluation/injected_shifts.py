"""Level shifts put into clean values, with the truth about when each begins and ends.

They measure how soon an event begins and ends with its cause: labels of recorded data do not say so
to the sample.
"""

from __future__ import annotations

import numpy as np

from promad.errors import DataError
from promad.evaluation.agreement import Reals
from promad.evaluation.injection import TOLERANCE, Anomaly, Injected

DURATIONS = (4, 6, 10, 20, 40)
"""How many samples a shift lasts."""
MOST_FEATURES = 4
SIZES = (4.0, 12.0)
"""How large a shift is, in spreads of its feature: large enough that most begin an event."""
BLOCK = 200
"""Samples for each shift, which lies within the first half: so events are over before the next."""

_KIND = "level shift"


def inject_shifts(values: Reals, spread: Reals, seed: int) -> Injected:
    """Shift 1 to 4 features for 4 to 40 samples, up or down, once in every `BLOCK` samples.

    The same seed has the same outcome. NaN stays NaN.

    Args:
        values: float64 (samples, features); left as they are.
        spread: what sizes are relative to, float64 (features,); 0 for features to leave alone.

    Raises:
        DataError: if the samples are too few for one shift, or no spread is above zero.
    """
    moving = np.flatnonzero(spread > 0)
    if len(values) < BLOCK or not len(moving):
        raise DataError(
            f"{len(values)} samples of {len(moving)} features that vary: too few to inject a shift "
            f"— give at least {BLOCK} samples of one feature that varies"
        )
    chance = np.random.default_rng(seed)
    changed, causes = values.copy(), np.zeros(values.shape, np.bool_)
    anomalies = []
    for block in range(len(values) // BLOCK):
        lasting = int(chance.choice(DURATIONS))
        first = block * BLOCK + int(chance.integers(BLOCK // 4, BLOCK // 2))
        count = int(chance.integers(1, min(MOST_FEATURES, len(moving)) + 1))
        columns = np.sort(chance.choice(moving, count, replace=False))
        sizes = chance.choice([-1.0, 1.0], count) * chance.uniform(*SIZES, count)
        rows = slice(first, first + lasting)
        changed[rows, columns] += sizes * spread[columns]
        causes[rows, columns] = np.abs(sizes) > TOLERANCE
        features, by = tuple(columns.tolist()), tuple(sizes.tolist())
        anomalies.append(Anomaly(_KIND, first, first + lasting, features, by))
    kinds = np.full(len(values), _KIND)
    return Injected(changed, causes, kinds, tuple(anomalies))

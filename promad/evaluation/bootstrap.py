"""How sure a mean over entities is: the entities are drawn anew, with replacement."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from promad.evaluation.figures import Figures

DRAWS = 2000
LEVELS = (0.05, 0.95)

_SEED = 0


def bootstrap_means(rows: Sequence[Figures]) -> dict[str, tuple[float, float]]:
    """By figure, 90 % of its mean over entities drawn anew, as low and high.

    Figures that fewer than two entities define are left out. The same rows give the same interval.
    """
    intervals = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = np.array([row.get(name, np.nan) for row in rows])
        known = values[~np.isnan(values)]
        if len(known) > 1:
            drawn = np.random.default_rng(_SEED).integers(0, len(known), (DRAWS, len(known)))
            low, high = np.quantile(known[drawn].mean(axis=1), LEVELS)
            intervals[name] = (float(low), float(high))
    return intervals

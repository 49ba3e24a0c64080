"""Missing values: short gaps are filled, long ones split the data.

`fill` sees a gap whole, as training does; `fill_as_it_comes` sees one sample after the other, as
serving does, and yields the same values for every gap that turns out short.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from promad.data.gaps import count_since, find_long_gaps, find_runs
from promad.data.rows import Move, move_rows

Values = NDArray[np.float64]
FILLING_STRATEGIES = ("ffill_then_bfill", "mean", "median")


@dataclass(frozen=True)
class Filled:
    """What filling came to.

    Attributes:
        values: float64 (samples, features), filled where a short gap was.
        usable: bool (samples,), False where a value is still missing; no window holds it.
        filled: int (features,), how many values were filled in.
    """

    values: Values
    usable: NDArray[np.bool_]
    filled: NDArray[np.int64]


def fill(values: Values, strategy: str, max_fill_steps: int, substitutes: Values) -> Filled:
    """Fill the gaps of up to `max_fill_steps` samples in one regular stretch of data.

    Args:
        values: float64 (samples, features), NaN where missing.
        strategy: one of the `nan_fill_strategy` words. `ffill_then_bfill` repeats the value before
            the gap, or the one after it where the stretch begins with the gap; `mean` and
            `median` take the feature's `substitutes`; `drop_rows` and `none` fill nothing.
        substitutes: float64 (features,), from the training part.
    """
    missing = np.isnan(values)
    if strategy not in FILLING_STRATEGIES or not missing.any():
        return Filled(values, ~missing.any(axis=1), np.zeros(values.shape[1], np.int64))
    too_long = find_long_gaps(missing, max_fill_steps).any(axis=1)
    filled = values.copy()
    for start, end in find_runs(~too_long):
        stretch = filled[start:end]
        if strategy == "ffill_then_bfill":
            _repeat_neighbours(stretch)
        else:
            np.copyto(stretch, substitutes, where=np.isnan(stretch))
    still_missing = np.isnan(filled).any(axis=1)
    return Filled(filled, ~still_missing, (missing & ~np.isnan(filled)).sum(axis=0))


@dataclass
class FillState:
    """What filling remembers of each group between samples.

    Attributes:
        held: the newest known value, float64 (groups, features); NaN before the first.
        gap: samples for which the value has been missing, int64 (groups, features).
    """

    held: Values
    gap: NDArray[np.int64]

    @staticmethod
    def begin(groups: int, features: int) -> FillState:
        """The state before the first sample."""
        shape = (groups, features)
        return FillState(np.full(shape, np.nan), np.zeros(shape, np.int64))

    def adopt(self, other: FillState, move: Move) -> None:
        """Continue the groups that are moved here from another state."""
        move_rows(move, (other.held, self.held), (other.gap, self.gap))


def fill_as_it_comes(
    values: Values, strategy: str, max_fill_steps: int, substitutes: Values, state: FillState
) -> Values:
    """The first `max_fill_steps` samples of every gap filled, by what was known by then.

    (groups, samples, features) to the same shape; NaN where a gap has lasted longer, and at the
    beginning, where there is no value to repeat yet. Each feature of each group depends on itself
    alone. What `fill` does once a gap is over, done while it lasts.

    Args:
        substitutes: float64 (groups, features), for `mean` and `median`.
        state: that after the sample before the first; it is moved to the last.
    """
    known = ~np.isnan(values)
    if known.all() and values.shape[1]:
        state.held, state.gap = values[:, -1].copy(), np.zeros_like(state.gap)
        return values
    gap = count_since(known, state.gap)
    repeated = _repeat_last(values, known, state.held[:, np.newaxis])
    state.held, state.gap = repeated[:, -1].copy(), gap[:, -1].copy()
    if strategy not in FILLING_STRATEGIES:
        return values
    within = ~known & (gap <= max_fill_steps)
    source = repeated if strategy == "ffill_then_bfill" else substitutes[:, np.newaxis]
    return np.where(within, source, values)


def _repeat_last(values: Values, known: NDArray[np.bool_], before: Values) -> Values:
    """The newest known value up to each sample: (groups, samples, features) to the same shape.

    Args:
        before: that of the sample before the first, (groups, 1, features).
    """
    if values.shape[1] == 1:
        return np.where(known, values, before)
    last = np.maximum.accumulate(
        np.where(known, np.arange(values.shape[1])[:, np.newaxis], -1), axis=1
    )
    repeated = np.take_along_axis(values, np.maximum(last, 0), axis=1)
    return np.where(last >= 0, repeated, before)


def _repeat_neighbours(stretch: Values) -> None:
    """Fill each column in place from the value before, or after where there is none before."""
    rows = np.arange(len(stretch))[:, np.newaxis]
    present = ~np.isnan(stretch)
    before = np.maximum.accumulate(np.where(present, rows, -1), axis=0)
    after = np.minimum.accumulate(np.where(present, rows, len(stretch))[::-1], axis=0)[::-1]
    source = np.where(before >= 0, before, after)
    known = source < len(stretch)
    columns = np.broadcast_to(np.arange(stretch.shape[1]), stretch.shape)
    stretch[known] = stretch[source[known], columns[known]]

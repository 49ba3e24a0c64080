"""`Smoothed`: the averages of samples that were scored together, which later ones can change.

Whether an event is open decides what the averages are of, and is known only once a sample is
judged. So the averages of all samples are computed at once, and those of a few groups again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from promad.data.moving_average import Averages, average, average_newest
from promad.data.windows import Inputs

Values = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Smoothed:
    """What averages are of, and from where they begin; `restart` changes the latter.

    Attributes:
        errors: normalised, float64 (groups, samples, members * features).
        short: those that the short average is of, which may be smaller; same shape.
        rows: the prepared samples, after `length` - 1 earlier ones, float32 (groups, length - 1 +
            samples, width).
        length: of a window.
        span: of the long average.
        averages: of each group, before its sample `since`.
        since: int64 (groups,); 0 unless it restarted.
        recent: the newest errors before the first sample, (groups, recent_samples - 1, ...).
    """

    errors: Values
    short: Values
    rows: Inputs
    length: int
    span: int
    averages: Averages
    since: Rows
    recent: Values

    def average_short(self, rows: Rows | slice) -> Values:
        """The short average of some groups at every sample; NaN where the error is."""
        short = self.short[rows]
        return np.where(np.isnan(short), np.nan, average_newest(short, self.recent[rows]))

    def find_newest(self, rows: Rows | slice) -> Values:
        """The newest errors of some groups after the last sample, as `recent`."""
        both = np.concatenate([self.recent[rows], self.short[rows]], axis=1)
        return both[:, both.shape[1] - self.recent.shape[1] :].copy()

    def average_long(self, rows: Rows) -> tuple[Values, Averages]:
        """The long average of some groups at each sample from `since` on, NaN before; and after
        the last one.
        """
        found, after = np.full(self.errors[rows].shape, np.nan), self.averages.take(rows)
        for first in np.unique(self.since[rows]).tolist():
            places = np.flatnonzero(self.since[rows] == first)
            state = after.take(places)
            by_time = self.errors[rows[places], first:].swapaxes(0, 1)
            found[places, first:] = average(by_time, self.span, state).swapaxes(0, 1)
            after.put(places, state)
        return found, after

    def restart(self, rows: Rows, sample: int) -> None:
        """After a sample, let the long averages of some groups have the mean of the short ones."""
        for first in np.unique(self.since[rows]).tolist():
            own = rows[self.since[rows] == first]
            state = self.averages.take(own)
            average(self.errors[own, first : sample + 1].swapaxes(0, 1), self.span, state)
            newest = average_newest(self.short[own, : sample + 1], self.recent[own])
            state.restart(newest[:, -1])
            self.averages.put(own, state)
        self.since[rows] = sample + 1

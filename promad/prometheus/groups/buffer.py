"""The newest samples of each group, in one array that is rarely moved."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Rows = NDArray[np.int64]


class GroupBuffer:
    """The newest `samples` samples of all groups, of which the last is number `newest`.

    They lie in a wider array, and are copied to its beginning only where it ends.
    """

    def __init__(self, samples: int, features: int) -> None:
        self._samples, self._features = samples, features
        self._width = samples + max(8, samples // 4)
        self._held = np.full((0, self._width, features), np.nan)
        self._rows, self._first, self._newest = 0, 0, 0

    def __len__(self) -> int:
        return self._rows

    def view(self) -> Values:
        """The samples: (groups, samples, features); a change of it is a change of the buffer."""
        return self._held[: self._rows, self._first : self._first + self._samples]

    def move_to(self, newest: int) -> int:
        """Make this the newest sample; how many of the samples were in the buffer before.

        None are if time went back, or so far ahead that nothing is left.
        """
        moved, self._newest = newest - self._newest, newest
        if not 0 <= moved < self._samples:
            self.view()[:] = np.nan
            return 0
        if self._first + self._samples + moved > self._width:
            self._held[: self._rows, : self._samples - moved] = self.view()[:, moved:].copy()
            self._first = 0
        else:
            self._first += moved
        self.view()[:, self._samples - moved :] = np.nan
        return self._samples - moved

    def grow(self, rows: int) -> None:
        """Make room for so many groups; new ones have no samples."""
        if rows > len(self._held):
            wider = np.full((rows + rows // 4, self._width, self._features), np.nan)
            wider[: self._rows] = self._held[: self._rows]
            self._held = wider
        self._held[self._rows : rows] = np.nan
        self._rows = rows

    def keep(self, rows: Rows) -> None:
        """Keep these groups, in this order."""
        moved = np.flatnonzero(rows != np.arange(len(rows)))
        self._held[moved] = self._held[rows[moved]]
        self._rows = len(rows)

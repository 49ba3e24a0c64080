"""`NewestRows`: the newest samples of each group, with room for those to come."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from promad.data.rows import Move

Inputs = NDArray[np.float32]
Values = NDArray[np.float64]

_ROOM = 8
"""Samples that are appended before those kept are moved to the front."""


@dataclass
class NewestRows:
    """The last `kept` samples of each group; `append` and `adopt` alone change it.

    Attributes:
        kept: how many samples are remembered.
        held: float32 (groups, kept + room, width), of which those up to `end` are filled.
        end: one past the newest sample.
    """

    kept: int
    held: Inputs
    end: int

    @staticmethod
    def begin(groups: int, kept: int, width: int) -> NewestRows:
        """Zeros, before the first sample."""
        return NewestRows(kept, np.zeros((groups, kept + _ROOM, width), np.float32), kept)

    def append(self, scaled: Values, conditions: Inputs) -> Inputs:
        """What was kept and these samples: float32 (groups, kept + samples, width).

        It is good until the next call, which may write over it.

        Args:
            scaled: (groups, samples, features).
            conditions: what is to the right of the features, (samples, width - features).
        """
        samples, features = scaled.shape[1:]
        if self.kept + samples > self.held.shape[1]:
            return self._pass_through(scaled, conditions)
        if self.end + samples > self.held.shape[1]:
            self._keep(self.held)
        first, self.end = self.end, self.end + samples
        self.held[:, first : self.end, :features] = scaled
        self.held[:, first : self.end, features:] = conditions
        return self.held[:, first - self.kept : self.end]

    def adopt(self, other: NewestRows, move: Move) -> None:
        """Continue the groups that are moved here; both keep as many samples."""
        own, theirs = (slice(each.end - each.kept, each.end) for each in (self, other))
        self.held[move.target, own] = other.held[move.source, theirs]

    def _pass_through(self, scaled: Values, conditions: Inputs) -> Inputs:
        """As `append`, of more samples than there is room for."""
        groups, samples, features = scaled.shape
        rows = np.empty((groups, self.kept + samples, self.held.shape[2]), np.float32)
        rows[:, : self.kept] = self.held[:, self.end - self.kept : self.end]
        rows[:, self.kept :, :features] = scaled
        rows[:, self.kept :, features:] = conditions
        self.end = len(rows[0]) if groups else self.kept
        self._keep(rows)
        return rows

    def _keep(self, rows: Inputs) -> None:
        """Begin with the samples before `end` of these rows."""
        self.held[:, : self.kept] = rows[:, self.end - self.kept : self.end].copy()
        self.end = self.kept

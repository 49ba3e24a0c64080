"""`Calibration`: what a detector knows of each group by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from promad.data.groups import Labels, sort_labels
from promad.data.possible_range import NO_RANGE
from promad.data.preparation import Preparation
from promad.scoring.peers import NO_CAUTION, Caution, Peers, find_farthest, find_peers
from promad.scoring.scoring import Scoring

Values = NDArray[np.float64]

POSSIBLE = "possible"
"""The numbers that bundles made before do not have."""


@dataclass(frozen=True)
class Calibration:
    """Row by row what is usual for a group; all float64 and finite, the last four above 0.

    Attributes:
        center: of the scaler, (groups, features).
        substitutes: what `mean` and `median` fill gaps with, (groups, features).
        possible: the lowest and the highest value that is expected, (groups, 2, features); not
            finite where nothing is known of it.
        scale: of the scaler, (groups, features).
        normaliser: what errors are divided by, (groups, members * features).
        baseline: what smoothed, normalised errors stayed below for 95 % of training,
            (groups, features).
        unit: what scores are divided by, so that one limit suits every group, (groups,).
    """

    center: Values
    substitutes: Values
    possible: Values
    scale: Values
    normaliser: Values
    baseline: Values
    unit: Values

    @property
    def groups(self) -> int:
        """How many rows there are."""
        return len(self.center)

    def to_natural(self, scaled: Values) -> Values:
        """Expected values, (groups, samples, scored), in their own units and as far as possible."""
        scored = scaled.shape[-1]
        natural = scaled * self.scale[:, np.newaxis, :scored]
        natural += self.center[:, np.newaxis, :scored]
        low, high = self.possible[:, :, np.newaxis, :scored].swapaxes(0, 1)
        return np.clip(natural, low, high, out=natural)

    def restore(self, scaled: Values) -> Values:
        """Prepared values of all groups, (groups, samples, features), in their own units."""
        return scaled * self.scale[:, np.newaxis] + self.center[:, np.newaxis]

    def take(self, rows: NDArray[np.int64]) -> Calibration:
        """These rows, in this order."""
        return Calibration(*(getattr(self, field.name)[rows] for field in fields(self)))

    def replace_rows(self, rows: NDArray[np.int64], by: Calibration) -> None:
        """Replace some rows."""
        for field in fields(self):
            getattr(self, field.name)[rows] = getattr(by, field.name)

    def take_medians(self, rows: NDArray[np.int64]) -> Calibration:
        """One row for each group of these rows, int64 (groups, rows): their medians."""
        return Calibration(
            *(np.median(getattr(self, field.name)[rows], axis=1) for field in fields(self))
        )


def join_calibrations(first: Calibration, second: Calibration) -> Calibration:
    """The rows of both."""
    names = [field.name for field in fields(Calibration)]
    return Calibration(
        *(np.concatenate([getattr(first, name), getattr(second, name)]) for name in names)
    )


def pool_calibration(preparation: Preparation, scoring: Scoring, unit: float = 1.0) -> Calibration:
    """One row: what was fitted on the training part of all groups."""
    rows = (
        preparation.scaler.center,
        preparation.substitutes,
        preparation.limits,
        preparation.scaler.scale,
        scoring.normaliser,
        scoring.baseline,
        np.array(unit),
    )
    return Calibration(*(np.asarray(row, np.float64)[np.newaxis] for row in rows))


@dataclass(frozen=True)
class CalibrationTable:
    """The calibration of each group that was trained on.

    Attributes:
        groups: their labels.
        rows: one for each of them.
        median_unit: the unit of a group that has no row and no peers.
        caution: what the unit of a group is multiplied by that has peers.
    """

    groups: tuple[Labels, ...]
    rows: Calibration
    median_unit: float
    caution: Caution = NO_CAUTION

    NUMBERS: ClassVar[tuple[str, ...]] = (
        "median_unit",
        "caution",
        *(field.name for field in fields(Calibration) if field.name != POSSIBLE),
    )
    """The arrays of `to_arrays`, but for the one that may be missing."""

    @cached_property
    def _row_of(self) -> Mapping[Labels, int]:
        return {labels: row for row, labels in enumerate(self.groups)}

    def find(self, groups: Sequence[Labels]) -> NDArray[np.int64]:
        """The row of each group, -1 for one that has none: int64 (groups,)."""
        return np.array([self._row_of.get(labels, -1) for labels in groups], np.int64)

    @cached_property
    def _farthest(self) -> float:
        return find_farthest(self.rows.center, self.rows.scale)

    def find_peers(self, levels: Values) -> NDArray[np.int64]:
        """The rows that groups at these levels, (groups, features), resemble; see `find_peers`."""
        farthest = self._farthest if self.caution.is_small else -np.inf
        return find_peers(levels, self.rows.center, self.rows.scale, farthest)

    def calibrate(
        self,
        groups: Sequence[Labels],
        pooled: Calibration,
        peers: Peers | None = None,
    ) -> Calibration:
        """Each group's own row, or the medians of its peers' rows, or the pooled one."""
        own = self.find(groups)
        found = join_calibrations(self.rows, pooled).take(own)  # -1 is the last row: the pooled one
        if peers is None:
            return found
        known = ((peers.rows >= 0) & (peers.rows < len(self.groups))).all(axis=1)
        new = np.flatnonzero((own < 0) & known)
        medians = self.rows.take_medians(peers.rows[new])
        found.replace_rows(
            new, replace(medians, unit=medians.unit * self.caution.at(peers.met[new]))
        )
        return found

    def to_arrays(self) -> dict[str, Values]:
        """The numbers, from which `from_parts` makes the same table to the last bit."""
        rows = {field.name: getattr(self.rows, field.name) for field in fields(Calibration)}
        if not np.isfinite(rows[POSSIBLE]).all():
            del rows[POSSIBLE]
        caution = np.array([self.caution.first, self.caution.later])
        return {"median_unit": np.array(self.median_unit), "caution": caution, **rows}

    def list_groups(self) -> list[dict[str, str]]:
        """The groups as plain values."""
        return [dict(labels) for labels in self.groups]

    @staticmethod
    def from_parts(groups: Any, arrays: Mapping[str, Values]) -> CalibrationTable:
        """The table that `list_groups` and `to_arrays` described.

        Raises:
            AttributeError, KeyError, TypeError, ValueError: if they are no such descriptions.
        """
        labels = tuple(
            sort_labels({str(name): str(value) for name, value in each.items()}) for each in groups
        )
        center = arrays["center"]
        unlimited = np.broadcast_to(NO_RANGE, (len(center), 2, center.shape[-1]))
        found = {POSSIBLE: unlimited, **arrays}
        rows = Calibration(*(found[field.name] for field in fields(Calibration)))
        first, later = arrays["caution"].tolist()
        table = CalibrationTable(labels, rows, float(arrays["median_unit"]), Caution(first, later))
        table.check()
        return table

    def check(self) -> None:
        """Raise ValueError if the rows are not of the groups, or a number is out of range."""
        rows, count = self.rows, len(self.groups)
        wide = {"center", "substitutes", "scale"}
        low, high = rows.possible.swapaxes(0, 1)
        if low.shape != rows.center.shape or not (low <= high).all():
            raise ValueError("calibration: possible values are out of range, or not of its groups")
        for field in fields(Calibration):
            if field.name == POSSIBLE:
                continue
            values = getattr(rows, field.name)
            shape = (count,) if field.name == "unit" else (count, values.shape[-1])
            signed = field.name in {"center", "substitutes"}
            if (
                values.shape != shape
                or not np.isfinite(values).all()
                or not (signed or (values > 0).all())
                or (field.name in wide and values.shape != rows.center.shape)
            ):
                raise ValueError(f"calibration: {field.name} is out of range, or not of its groups")
        factors = (self.median_unit, self.caution.first, self.caution.later)
        if len(set(self.groups)) < count or not all(0 < each < np.inf for each in factors):
            raise ValueError("calibration: groups are listed twice, or a factor is out of range")

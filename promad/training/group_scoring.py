"""Scoring the windows of one group of a fleet."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from promad.config import TrainingSettings
from promad.data.preparation import Preparation
from promad.data.windows import ChosenWindows, Windows
from promad.models import Model
from promad.scoring.detector import apply_model, count_errors, select_errors
from promad.scoring.scoring import Scoring, fit_scoring
from promad.training.fleet_material import FleetMaterial

Values = NDArray[np.float64]
Rows = NDArray[np.int64]

_SCORED_IN_ALL, _FEWEST_SCORED = 2_000_000, 2000
"""Windows of each part that are scored: of all groups together, and of each group at least."""


def keep_newest(windows: Windows, material: FleetMaterial) -> Windows:
    """The newest windows of both parts: as many of each group as all groups together can afford."""
    most = max(_FEWEST_SCORED, _SCORED_IN_ALL // len(material.fleet.groups))
    ends = material.fleet.training_ends_at + material.fleet.preparation.step / 2
    training = int((windows.times <= ends).sum())
    kept = [
        np.arange(max(first, last - most), last)
        for first, last in ((0, training), (training, len(windows)))
    ]
    return ChosenWindows(windows, np.concatenate(kept))


class GroupErrors(NamedTuple):
    """The errors at each window's end, float64 (windows, members * features).

    Attributes:
        errors: all of them.
        counted: those of deviations that count; the others are 0.
        at: the number of that sample, the same for all groups, int64 (windows,).
    """

    errors: Values
    counted: Values
    at: Rows


def find_errors(
    model: Model, windows: Windows, preparation: Preparation, settings: TrainingSettings
) -> GroupErrors:
    """The errors of windows that were made by this preparation."""
    outcome = apply_model(model, windows)
    errors = select_errors(outcome, settings.scoring.method)
    counted = count_errors(errors, outcome, windows, preparation)
    return GroupErrors(errors, counted, np.round(windows.times / preparation.step).astype(np.int64))


def fit_group_scoring(
    errors: Values, at: Rows, material: FleetMaterial, settings: TrainingSettings
) -> Scoring:
    """The scoring of a group with these errors."""
    members = errors.shape[1] // material.fleet.preparation.scored
    return fit_scoring(errors, at, members, settings.scoring, material.fleet.preparation.weights)


def spread(total: int, most: int) -> list[int]:
    """At most so many of the numbers below `total`, evenly."""
    return [int(each) for each in np.unique(np.linspace(0, total - 1, most).astype(np.int64))]

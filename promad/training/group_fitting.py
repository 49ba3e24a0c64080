"""Own weights for one group of a fleet: what a worker gets, and what it returns.

A worker reads no file: the samples of the group come with the task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from promad.config import TrainingSettings
from promad.data.frame import MetricFrame
from promad.data.preparation import Preparation
from promad.data.windows import split_at
from promad.errors import DataError
from promad.models import find_model
from promad.models.linear_groups import pack
from promad.scoring.detector import apply_model, count_errors, select_errors
from promad.scoring.scoring import Scoring, fit_scoring
from promad.training.fleet_material import FleetMaterial, cut_windows

Values = NDArray[np.float64]
Rows = NDArray[np.int64]

FEWEST_WINDOWS = 100
"""A group with fewer windows in the training part has no weights and calibration of its own."""


class TooFewWindowsError(DataError):
    """A group has too few windows for weights of its own."""


@dataclass(frozen=True)
class GroupData:
    """The samples of one group.

    Attributes:
        frames: scaled.
        preparation: what made them.
        training_ends_at: unix seconds of the last sample of the training part.
        length: samples per window.
        dropped: unix seconds of the last samples of windows that nothing is learned from.
    """

    frames: Sequence[MetricFrame]
    preparation: Preparation
    training_ends_at: float
    length: int
    dropped: Values | None = None


def read_group(material: FleetMaterial, group: int) -> GroupData:
    """The samples of a group, by its place in the fleet.

    Raises:
        DataError: if the file is damaged.
    """
    fleet = material.fleet
    return GroupData(
        fleet.read(group),
        fleet.prepare(group),
        fleet.training_ends_at,
        material.length,
        material.dropped.get(group),
    )


@dataclass(frozen=True)
class GroupFit:
    """What was fitted to one group.

    Attributes:
        weights: those fitted to all windows, as `promad.models.linear_groups.pack` has them.
        normaliser, baseline: of its scoring.
        at: the number of the sample of each score, int64 (scores,).
        scores: of the training and the validation part, by the pair fitted to the training part.
    """

    weights: NDArray[np.float32]
    normaliser: Values
    baseline: Values
    at: Rows
    scores: Values


def fit_group(settings: TrainingSettings, data: GroupData) -> GroupFit:
    """Weights, scoring and scores of one group.

    Raises:
        TooFewWindowsError: if it has too few windows.
        DataError: if its weights are not finite.
    """
    preparation, ends_at = data.preparation, data.training_ends_at
    windows = cut_windows(preparation, data.frames, data.length, data.dropped)
    split = split_at(windows, ends_at, preparation.step)
    if len(split.training) < FEWEST_WINDOWS or not len(split.validation):
        raise TooFewWindowsError(
            f"{len(split.training)} windows in the training part and {len(split.validation)} in "
            f"the validation part; needed: {FEWEST_WINDOWS} and 1"
        )
    at = np.round(windows.times / preparation.step).astype(np.int64)
    trained = find_model(settings.model).fit(
        split, preparation.scored, settings, settings.seed, lambda *_: None
    )
    outcome = apply_model(trained.model, windows)
    errors = select_errors(outcome, settings.scoring.method)
    training = windows.times <= ends_at + preparation.step / 2
    counted = training | np.isin(windows.times, split.validation.times)
    members = errors.shape[1] // preparation.scored
    counts = preparation.weights
    scoring = fit_scoring(errors[training], at[training], members, settings.scoring, counts)
    deviations = count_errors(errors, outcome, windows, preparation)
    scores = scoring.score(scoring.smooth(deviations, at))
    final = trained.refit(windows)
    errors = select_errors(apply_model(final.model, windows), settings.scoring.method)
    fitted = fit_scoring(errors, at, members, settings.scoring, counts)
    weights = pack(final.model)
    if not np.isfinite(weights).all():
        raise DataError("its weights are not finite")
    return GroupFit(weights, fitted.normaliser, fitted.baseline, at[counted], scores[counted])


def pool_scorings(scorings: Sequence[Scoring]) -> Scoring:
    """The scoring of a group of which nothing is known: the medians."""
    return replace(
        scorings[0],
        normaliser=np.median([each.normaliser for each in scorings], axis=0),
        baseline=np.median([each.baseline for each in scorings], axis=0),
    )


def spread_scores(fits: Mapping[int, GroupFit]) -> Values:
    """The scores of all groups on one grid, NaN where a group has none: (groups, samples)."""
    first = min(int(fit.at[0]) for fit in fits.values())
    last = max(int(fit.at[-1]) for fit in fits.values())
    scores = np.full((len(fits), last - first + 1), np.nan)
    for own, fit in zip(scores, fits.values(), strict=True):
        own[fit.at - first] = fit.scores
    return scores

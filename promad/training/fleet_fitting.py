"""Fitting a fleet: one model for all groups, and of each group what is usual.

The model is fitted to windows of all groups. Its errors on each group's own windows give that
group's normaliser, baseline and unit of scores; the threshold is one for all.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from promad.config import TrainingSettings
from promad.data.preparation import Preparation
from promad.data.windows import Windows, split_at
from promad.errors import DataError
from promad.models import Completed, Model, Progress, Trained, find_model
from promad.models.linear_groups import TrainedGroups, stack_rows
from promad.parallel.engine import Backend
from promad.scoring.calibration import Calibration, CalibrationTable
from promad.scoring.detector import Detector
from promad.scoring.scoring import Scoring
from promad.thresholds import Threshold
from promad.thresholds.fleet import Units, find_usual
from promad.training.fitting import (
    Fitted,
    FittingOptions,
    measure_calm,
    require_pass,
)
from promad.training.fleet_material import FleetMaterial, map_groups
from promad.training.gate import Gate, average_gates, run_gate, skip_gate, weigh_network
from promad.training.group_fitting import (
    FEWEST_WINDOWS,
    pool_scorings,
    spread_scores,
)
from promad.training.group_runs import PROCESSES, fit_groups, read_fit
from promad.training.group_scoring import find_errors, fit_group_scoring, keep_newest, spread
from promad.training.new_groups import fit_pooled, measure_caution
from promad.training.threshold_choice import choose_fleet_threshold

Values = NDArray[np.float64]

_GATE_GROUPS = 5
"""Groups on which the gate is run, evenly over the fleet."""
_POOLED_GROUPS = 40
"""Groups whose scorings are pooled, evenly over the fleet."""


def fit_fleet(
    material: FleetMaterial, options: FittingOptions, per: str, progress: Progress
) -> Fitted:
    """Fit a model, and of each group its scoring; choose the threshold.

    The scores returned are those of all groups, in units of their own.

    Args:
        per: whom the alert budget is for, `detector` or `group`.

    Raises:
        DataError: if the material is too little for a threshold, or the network fails the gate.
    """
    settings, fleet = options.training, material.fleet
    trained: Trained = find_model(settings.model).fit(
        material.split, fleet.preparation.scored, settings, settings.seed, progress
    )
    trained, trial, gate = _pass_gate(trained, material, options, per)
    known, kept, scores = trial.scorings, trial.groups, trial.scores
    units, threshold = trial.units, trial.threshold
    comparable = scores / units.units[:, np.newaxis]
    final = trained.refit(material.windows)
    if final is not trained:
        known, usual = _fit_scorings(final.model, material, kept, settings)
        units = units.follow(np.array([find_usual(own) for own in scores]), usual)
    pooled, unit = fit_pooled(final.model, material, settings) or (
        pool_scorings(known),
        units.median,
    )
    rows = _calibrate(
        material,
        kept,
        np.array([each.normaliser for each in known]),
        np.array([each.baseline for each in known]),
        units,
    )
    table = CalibrationTable(
        tuple(fleet.groups[group] for group in kept.tolist()),
        rows,
        unit,
        measure_caution(final.model, material, settings, kept, rows, pooled),
    )
    detector = Detector(
        fleet.preparation,
        final.model,
        pooled,
        threshold,
        settings.sequence_length,
        table,
    )
    why = f"fewer than {FEWEST_WINDOWS} windows in the training part"
    few = [labels for labels in fleet.groups if labels not in set(table.groups)]
    in_a_row = comparable[~np.isnan(comparable)]
    detector = measure_calm(detector, in_a_row)
    return Fitted(final, detector, in_a_row, gate, dict.fromkeys(few, why))


@dataclass(frozen=True)
class _Trial:
    """A model that was fitted to the training part, with what it makes of the groups.

    Attributes:
        groups: the places in the fleet of those that have a scoring of their own, int64 (groups,).
        scorings: of each of them.
        scores: of both parts, (groups, samples).
    """

    model: Model
    groups: NDArray[np.int64]
    scorings: list[Scoring]
    scores: Values
    units: Units
    threshold: Threshold
    length: int

    def build_detector(self, place: int, prepared: Preparation) -> Detector:
        """The detector of the group at a place among those that have a scoring."""
        return Detector(prepared, self.model, self.scorings[place], self.threshold, self.length)


def _fit_trial(model: Model, material: FleetMaterial, options: FittingOptions, per: str) -> _Trial:
    scorings, scores = _score_groups(model, material, options.training)
    groups = np.flatnonzero([each is not None for each in scorings])
    known, scores = [each for each in scorings if each is not None], scores[groups]
    units, threshold = choose_fleet_threshold(
        scores, options.threshold_method, options.threshold, per
    )
    return _Trial(model, groups, known, scores, units, threshold, material.length)


def fit_fleet_by_group(
    material: FleetMaterial,
    options: FittingOptions,
    per: str,
    progress: Progress,
    kept: Path,
    backend: Backend = PROCESSES,
) -> Fitted:
    """As `fit_fleet`, with weights of each group's own; a group without any has the pooled ones.

    Args:
        kept: a directory for the groups that are finished; see `fit_groups`.
        backend: where groups are fitted.

    Raises:
        DataError: if no group could be fitted, or the material is too little for a threshold.
        PromadError: if the backend cannot be used.
    """
    settings, fleet = options.training, material.fleet
    pooled = find_model(settings.model).fit(
        material.split, fleet.preparation.scored, settings, settings.seed, progress
    )
    pooled = pooled.refit(material.windows)
    run = fit_groups(material, settings, kept, backend)
    if not run.done:
        why = next(iter(run.left_out.values()))
        raise DataError(f"no group could be fitted; the first: {why}")
    rows = sorted(run.done)
    fits = {group: read_fit(run.done[group]) for group in rows}
    units, threshold = choose_fleet_threshold(
        spread_scores(fits), options.threshold_method, options.threshold, per
    )
    few = rows[:: max(1, len(rows) // _POOLED_GROUPS)][:_POOLED_GROUPS]
    scorings, _ = _fit_scorings(pooled.model, material, np.array(few, np.int64), settings)
    scoring = pool_scorings(scorings)
    trained = TrainedGroups(pooled, stack_rows([fit.weights for fit in fits.values()]))
    places = np.array(rows, np.int64)
    calibration = _calibrate(
        material,
        places,
        np.array([fit.normaliser for fit in fits.values()]),
        np.array([fit.baseline for fit in fits.values()]),
        units,
    )
    table = CalibrationTable(
        tuple(fleet.groups[group] for group in rows),
        calibration,
        units.median,
        measure_caution(pooled.model, material, settings, places, calibration, scoring),
    )
    detector = Detector(
        fleet.preparation, trained.model, scoring, threshold, settings.sequence_length, table
    )
    scores = np.concatenate(
        [fit.scores / unit for fit, unit in zip(fits.values(), units.units, strict=True)]
    )
    gate = skip_gate(settings.model, "each group has weights of its own")
    left_out = {fleet.groups[group]: why for group, why in run.left_out.items()}
    failed = frozenset(fleet.groups[group] for group in run.failed)
    return Fitted(trained, measure_calm(detector, scores), scores, gate, left_out, failed=failed)


def _calibrate(
    material: FleetMaterial,
    groups: NDArray[np.int64],
    normaliser: Values,
    baseline: Values,
    units: Units,
) -> Calibration:
    """The rows of these groups, given by their places in the fleet."""
    fleet = material.fleet
    return Calibration(
        center=fleet.center[groups],
        substitutes=fleet.substitutes[groups],
        possible=fleet.possible[groups],
        scale=fleet.scale[groups],
        normaliser=normaliser,
        baseline=baseline,
        unit=units.units,
    )


def _score_groups(
    model: Model, material: FleetMaterial, settings: TrainingSettings
) -> tuple[list[Scoring | None], Values]:
    """Each group's scoring by its training part, and its scores, (groups, samples) on one grid.

    None, and no scores, of a group with too few windows.

    Raises:
        DataError: if all groups have too few.
    """
    groups = range(len(material.fleet.groups))
    found = map_groups(lambda group: _score_group(model, material, group, settings), groups)
    scorings, series = [each[0] for each in found], [each[1:] for each in found]
    if all(each is None for each in scorings):
        raise DataError(
            f"no group has {FEWEST_WINDOWS} windows of {material.length} samples in the training "
            "part — collect a longer period"
        )
    first = min(int(at[0]) for at, _ in series if len(at))
    last = max(int(at[-1]) for at, _ in series if len(at))
    scores = np.full((len(series), last - first + 1), np.nan)
    for own, (at, score) in zip(scores, series, strict=True):
        own[at - first] = score
    return scorings, scores


def _score_group(
    model: Model, material: FleetMaterial, group: int, settings: TrainingSettings
) -> tuple[Scoring | None, NDArray[np.int64], Values]:
    """A group's scoring, and its scores with the numbers of their samples, (windows,) each."""
    preparation, ends_at = material.fleet.preparation, material.fleet.training_ends_at
    windows = keep_newest(material.read_windows(group), material)
    training = windows.times <= ends_at + preparation.step / 2
    if training.sum() < FEWEST_WINDOWS:
        return None, np.empty(0, np.int64), np.empty(0)
    found = find_errors(model, windows, material.fleet.prepare(group), settings)
    scoring = fit_group_scoring(found.errors[training], found.at[training], material, settings)
    kept = training | _is_validation(windows, material)
    return scoring, found.at[kept], scoring.score(scoring.smooth(found.counted, found.at))[kept]


def _is_validation(windows: Windows, material: FleetMaterial) -> NDArray[np.bool_]:
    """Which windows share no sample with the training part."""
    split = split_at(windows, material.fleet.training_ends_at, material.fleet.preparation.step)
    return np.isin(windows.times, split.validation.times)


def _fit_scorings(
    model: Model, material: FleetMaterial, groups: NDArray[np.int64], settings: TrainingSettings
) -> tuple[list[Scoring], Values]:
    """The scoring of each of these groups by its windows, and the 98 % quantile of its scores."""

    def fit_one(group: int) -> tuple[Scoring, float]:
        windows = keep_newest(material.read_windows(group), material)
        found = find_errors(model, windows, material.fleet.prepare(group), settings)
        scoring = fit_group_scoring(found.errors, found.at, material, settings)
        return scoring, find_usual(scoring.score(scoring.smooth(found.counted, found.at)))

    found = map_groups(fit_one, groups.tolist())
    return [scoring for scoring, _ in found], np.array([usual for _, usual in found])


def _pass_gate(
    trained: Trained, material: FleetMaterial, options: FittingOptions, per: str
) -> tuple[Trained, _Trial, Gate]:
    """What is promoted: the model, or its linear part where its network is left out.

    Raises:
        DataError: if a network fails the gate and is not forced.
    """
    trial = _fit_trial(trained.model, material, options, per)
    if isinstance(trained, Completed) and options.training.gate:
        linear = _fit_trial(trained.linear_part.model, material, options, per)
        gate = _measure_gate(trial, material, options, linear)
        if not options.force:
            gate = weigh_network(gate, calm=True)
        if gate.left_out:
            trained, trial = trained.linear_part, linear
    else:
        gate = _measure_gate(trial, material, options)
    return trained, trial, require_pass(gate, options)


def _measure_gate(
    trial: _Trial,
    material: FleetMaterial,
    options: FittingOptions,
    linear: _Trial | None = None,
) -> Gate:
    """The mean of the gate's outcomes over some groups.

    Args:
        linear: that of the linear model which the trial's network completes.
    """
    settings, fleet = options.training, material.fleet
    if not settings.gate:
        return skip_gate(settings.model, "training_settings.gate is false")
    gates = []
    for place in spread(len(trial.groups), _GATE_GROUPS):
        group = int(trial.groups[place])
        prepared = fleet.prepare(group)
        other = None if linear is None else linear.build_detector(place, prepared)
        own = trial.build_detector(place, prepared)
        frames, ends_at = fleet.read(group), fleet.training_ends_at
        gates.append(run_gate(settings.model, own, frames, ends_at, other))
    return average_gates(gates)

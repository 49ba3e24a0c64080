"""Fitting a fleet: one model for all groups, and of each group what is usual.

The model is fitted to windows of all groups. Its errors on each group's own windows give that
group's normaliser, baseline and unit of scores; the threshold is one for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from promad.config import TrainingSettings
from promad.data.windows import SampleWindows, Windows, split_at
from promad.errors import DataError
from promad.models import Model, Progress, Trained, find_model
from promad.scoring.calibration import Calibration, CalibrationTable
from promad.scoring.detector import Detector, apply_model, select_errors
from promad.scoring.scoring import Scoring, fit_scoring
from promad.thresholds import Threshold
from promad.thresholds.fleet import find_usual
from promad.training.fitting import BASELINE, Fitted, FittingOptions, explain_failed_gate
from promad.training.fleet_material import FleetMaterial
from promad.training.gate import Gate, average_gates, run_gate, skip_gate
from promad.training.threshold_choice import choose_fleet_threshold

Values = NDArray[np.float64]

_GATE_GROUPS = 5
"""Groups on which the gate is run, evenly over the fleet."""
_POOLED_GROUPS = 40
"""Groups that are scored as if they were new, evenly over the fleet."""
_FEWEST_WINDOWS = 100
_QUIET_GROUPS = 0.95
"""The share of groups whose scores, were they new, would be like those of others."""


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
    scorings, scores = _score_groups(trained.model, material, settings)
    units, threshold = choose_fleet_threshold(
        scores, options.threshold_method, options.threshold, per
    )
    gate = _pass_gate(trained.model, scorings, threshold, material, options)
    comparable = scores / units.units[:, np.newaxis]
    final = trained.refit(material.windows)
    if final is not trained:
        scorings, usual = _fit_scorings(final.model, material, settings)
        units = units.follow(np.array([find_usual(own) for own in scores]), usual)
    pooled, unit = _fit_pooled(final.model, material, settings) or (_pool(scorings), units.median)
    table = CalibrationTable(
        fleet.groups,
        Calibration(
            center=fleet.center,
            substitutes=fleet.substitutes,
            scale=fleet.scale,
            normaliser=np.array([each.normaliser for each in scorings]),
            baseline=np.array([each.baseline for each in scorings]),
            unit=units.units,
        ),
        unit,
    )
    detector = Detector(
        fleet.preparation,
        final.model,
        pooled,
        threshold,
        settings.sequence_length,
        table,
    )
    return Fitted(final, detector, comparable[~np.isnan(comparable)], gate)


def _pool(scorings: Sequence[Scoring]) -> Scoring:
    """The scoring of a group of which nothing is known: the medians."""
    normalisers = [each.normaliser for each in scorings]
    baselines = [each.baseline for each in scorings]
    return replace(
        scorings[0],
        normaliser=np.median(normalisers, axis=0),
        baseline=np.median(baselines, axis=0),
    )


def _fit_pooled(
    model: Model, material: FleetMaterial, settings: TrainingSettings
) -> tuple[Scoring, float] | None:
    """The scoring and the unit of scores of a group that has no calibration of its own.

    Some groups are scored as if they were new, scaled like the whole fleet. The unit is that of one
    of which few have higher scores: how a new group differs from the others is no anomaly. None if
    no group has enough windows.
    """
    found = []
    for group in _spread(len(material.fleet.groups), _POOLED_GROUPS):
        windows = material.read_as_new(group)
        if len(windows) < _FEWEST_WINDOWS:
            continue
        errors = select_errors(apply_model(model, windows), settings.scoring.method)
        at = _number(windows, material.step)
        found.append((errors, at))
    if not found:
        return None
    preparation = material.fleet.preparation
    pooled = _pool([_fit_scoring(*each, preparation.scored, settings) for each in found])
    usual = [find_usual(pooled.score(pooled.smooth(*each))) for each in found]
    return pooled, float(np.nanquantile(usual, _QUIET_GROUPS))


def _spread(total: int, most: int) -> list[int]:
    """At most so many of the numbers below `total`, evenly."""
    return sorted(set(np.linspace(0, total - 1, most).astype(np.int64).tolist()))


def _score_groups(
    model: Model, material: FleetMaterial, settings: TrainingSettings
) -> tuple[list[Scoring], Values]:
    """Each group's scoring by its training part, and its scores, (groups, samples) on one grid."""
    fleet, scorings, series = material.fleet, [], []
    for _, _, windows in material.iterate_groups():
        errors = select_errors(apply_model(model, windows), settings.scoring.method)
        at = _number(windows, fleet.preparation.step)
        training = windows.times <= fleet.training_ends_at + fleet.preparation.step / 2
        scoring = _fit_scoring(errors[training], at[training], fleet.preparation.scored, settings)
        scorings.append(scoring)
        counted = training | _is_validation(windows, material)
        series.append((at[counted], scoring.score(scoring.smooth(errors, at))[counted]))
    first = min(int(at[0]) for at, _ in series)
    last = max(int(at[-1]) for at, _ in series)
    scores = np.full((len(series), last - first + 1), np.nan)
    for own, (at, score) in zip(scores, series, strict=True):
        own[at - first] = score
    return scorings, scores


def _is_validation(windows: SampleWindows, material: FleetMaterial) -> NDArray[np.bool_]:
    """Which windows share no sample with the training part."""
    split = split_at(windows, material.fleet.training_ends_at, material.fleet.preparation.step)
    return np.isin(windows.times, split.validation.times)


def _number(windows: Windows, step: float) -> NDArray[np.int64]:
    """The number of the sample at which each window ends, the same for all groups."""
    return np.round(windows.times / step).astype(np.int64)


def _fit_scoring(
    errors: Values, at: NDArray[np.int64], scored: int, settings: TrainingSettings
) -> Scoring:
    return fit_scoring(errors, at, errors.shape[1] // scored, settings.scoring)


def _fit_scorings(
    model: Model, material: FleetMaterial, settings: TrainingSettings
) -> tuple[list[Scoring], Values]:
    """Each group's scoring by all its windows, and the 98 % quantile of its scores, (groups,)."""
    preparation, scorings, usual = material.fleet.preparation, [], []
    for _, _, windows in material.iterate_groups():
        errors = select_errors(apply_model(model, windows), settings.scoring.method)
        at = _number(windows, preparation.step)
        scoring = _fit_scoring(errors, at, preparation.scored, settings)
        scorings.append(scoring)
        usual.append(find_usual(scoring.score(scoring.smooth(errors, at))))
    return scorings, np.array(usual)


def _pass_gate(
    model: Model,
    scorings: Sequence[Scoring],
    threshold: Threshold,
    material: FleetMaterial,
    options: FittingOptions,
) -> Gate:
    """The mean of the gate's outcomes over some groups.

    Raises:
        DataError: if a network fails and is not forced.
    """
    settings, fleet = options.training, material.fleet
    if not settings.gate:
        return skip_gate(settings.model, "training_settings.gate is false")
    gates = []
    for group in _spread(len(fleet.groups), _GATE_GROUPS):
        detector = Detector(fleet.preparation, model, scorings[group], threshold, material.length)
        gates.append(run_gate(settings.model, detector, fleet.read(group), fleet.training_ends_at))
    gate = average_gates(gates)
    if gate.passed or settings.model == BASELINE:
        return gate
    if options.force:
        return replace(gate, forced=True)
    raise DataError(explain_failed_gate(gate))

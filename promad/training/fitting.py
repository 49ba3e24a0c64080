"""Fitting: from material to a detector, with its threshold chosen and its worth measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from promad.config import TrainingSettings
from promad.data.groups import Labels
from promad.data.windows import Windows, sample_numbers
from promad.errors import DataError
from promad.models import Completed, CrossFitted, Model, Progress, Trained, find_model
from promad.scoring.detector import Detector, apply_model, count_errors, select_errors
from promad.scoring.held_errors import CALM_SHARE
from promad.scoring.scoring import Scoring, fit_scoring
from promad.thresholds import ThresholdSettings
from promad.training.gate import Gate, is_calm, run_gate, skip_gate, weigh_network
from promad.training.material import Material
from promad.training.threshold_choice import choose_threshold, find_newest

Values = NDArray[np.float64]
Rows = NDArray[np.int64]

BASELINE = "linear"
"""The model that is promoted even if it fails the gate: it is what a network is compared with.

So is the linear model that is left where a network was left out."""


@dataclass(frozen=True)
class FittingOptions:
    """What to fit, and how to choose the threshold.

    Attributes:
        training: the model and its settings.
        threshold_method: a name in THRESHOLDS, or `auto`.
        threshold: what the threshold may need to know.
        force: accept a network that fails the gate.
    """

    training: TrainingSettings
    threshold_method: str
    threshold: ThresholdSettings
    force: bool = False


@dataclass(frozen=True)
class Fitted:
    """What training has made.

    Attributes:
        trained: the model, with its history and the way to save it.
        detector: that model with preparation, scoring and threshold.
        scores: those the threshold was chosen by, in order of time, float64 (windows,): of both
            parts by the model that was fitted to the training part alone, or of the newest windows
            by models that have not seen them.
        gate: the comparison with untrained baselines.
        left_out: of each group that has no calibration of its own why.
        failed: those of them that have enough data.
        trial: the detector that was fitted to the training part alone; None of a fleet.
    """

    trained: Trained
    detector: Detector
    scores: Values
    gate: Gate
    left_out: Mapping[Labels, str] = field(default_factory=dict)
    trial: Detector | None = None
    failed: frozenset[Labels] = frozenset()


def fit_detector(material: Material, options: FittingOptions, progress: Progress) -> Fitted:
    """Fit a model, its scoring and its threshold.

    Raises:
        DataError: if the material is too little for a threshold, or the network fails the gate.
    """
    settings, preparation = options.training, material.preparation
    _require_enough_scores(material, options)
    trained: Trained = find_model(settings.model).fit(
        material.split, preparation.scored, settings, settings.seed, progress
    )
    detector, scores = _fit_trial(trained.model, material, options)
    if isinstance(trained, Completed) and settings.gate:
        linear, linear_scores = _fit_trial(trained.linear_part.model, material, options)
        gate = _measure_gate(detector, material, options, linear)
        if not options.force:
            calm = is_calm(scores, linear_scores, len(material.split.validation))
            gate = weigh_network(gate, calm)
        if gate.left_out:
            trained, detector, scores = trained.linear_part, linear, linear_scores
    else:
        gate = _measure_gate(detector, material, options)
    gate = require_pass(gate, options)
    trial = Fitted(trained, detector, scores, gate, trial=detector)
    fitted = _fit_to_all(trial, material, options)
    return replace(fitted, detector=measure_calm(fitted.detector, fitted.scores))


def _fit_to_all(fitted: Fitted, material: Material, options: FittingOptions) -> Fitted:
    """The same with a model that is fitted to all windows, if that takes seconds.

    Where each window can be scored by a fit that has not seen it, the threshold is chosen by these
    scores rather than by those of two parts, of which the model has seen one. What is usual, and
    the threshold, are then of the newest windows: what a system did weeks ago says less of next
    week.
    """
    settings, windows, trained = options.training, material.windows, fitted.trained
    found = trained.cross_fit(windows) if isinstance(trained, CrossFitted) else None
    if found is not None and settings.scoring.method != "mse":
        final, errors = found
        newest = find_newest(windows.times, options.threshold.false_alarms_per_week)
        at = sample_numbers(windows.times, material.step)
        scoring = _fit_scoring(errors[newest:], at[newest:], material, settings)
        counted = _count_errors(errors, final.model, windows, material)
        scores = scoring.score(scoring.smooth(counted, at))[newest:]
        threshold = choose_threshold(scores, options.threshold_method, options.threshold)
        detector = replace(fitted.detector, model=final.model, scoring=scoring, threshold=threshold)
        return replace(fitted, trained=final, detector=detector, scores=scores)
    final = trained.refit(windows)
    if final is trained:
        return fitted
    errors = _errors(final.model, windows, settings)
    at = sample_numbers(windows.times, material.step)
    scoring = _fit_scoring(errors, at, material, settings)
    detector = replace(fitted.detector, model=final.model, scoring=scoring)
    return replace(fitted, trained=final, detector=detector)


def _count_errors(errors: Values, model: Model, windows: Windows, material: Material) -> Values:
    """The errors that count, by what a model that was fitted to all windows expects."""
    if material.preparation.least is None:
        return errors
    return count_errors(errors, apply_model(model, windows), windows, material.preparation)


def measure_calm(detector: Detector, scores: Values) -> Detector:
    """The detector with the score below which it is calm, by the scores of its training."""
    calm = float(np.quantile(scores, CALM_SHARE))
    return replace(detector, scoring=replace(detector.scoring, calm=calm))


def _require_enough_scores(material: Material, options: FittingOptions) -> None:
    """Raise now what would otherwise be raised after hours of training."""
    stand_in = np.ones(len(material.split.validation))
    choose_threshold(stand_in, options.threshold_method, options.threshold)


def _score_both_parts(
    model: Model, material: Material, settings: TrainingSettings
) -> tuple[Scoring, Values]:
    """Scoring fitted to the training part, and the scores of both parts in order of time."""
    training, validation = material.split.training, material.split.validation
    outcome = apply_model(model, training)
    errors = select_errors(outcome, settings.scoring.method)
    at = sample_numbers(training.times, material.step)
    scoring = _fit_scoring(errors, at, material, settings)
    of_training = count_errors(errors, outcome, training, material.preparation)
    outcome = apply_model(model, validation)
    errors = select_errors(outcome, settings.scoring.method)
    of_validation = count_errors(errors, outcome, validation, material.preparation)
    both = np.concatenate([of_training, of_validation])
    at = sample_numbers(np.concatenate([training.times, validation.times]), material.step)
    return scoring, scoring.score(scoring.smooth(both, at))


def _errors(model: Model, windows: Windows, settings: TrainingSettings) -> Values:
    return select_errors(apply_model(model, windows), settings.scoring.method)


def _fit_scoring(
    errors: Values, at: Rows, material: Material, settings: TrainingSettings
) -> Scoring:
    members = errors.shape[1] // material.preparation.scored
    return fit_scoring(errors, at, members, settings.scoring, material.preparation.weights)


def _fit_trial(
    model: Model, material: Material, options: FittingOptions
) -> tuple[Detector, Values]:
    """The detector of a model that was fitted to the training part, and the scores of both."""
    settings = options.training
    scoring, scores = _score_both_parts(model, material, settings)
    threshold = choose_threshold(scores, options.threshold_method, options.threshold)
    length = settings.sequence_length
    return Detector(material.preparation, model, scoring, threshold, length), scores


def _measure_gate(
    detector: Detector,
    material: Material,
    options: FittingOptions,
    linear: Detector | None = None,
) -> Gate:
    model = options.training.model
    if not options.training.gate:
        return skip_gate(model, "training_settings.gate is false")
    return run_gate(model, detector, material.frames, material.training_ends_at, linear)


def require_pass(gate: Gate, options: FittingOptions) -> Gate:
    """The gate's outcome.

    Raises:
        DataError: if a network fails and is not forced.
    """
    if gate.passed or gate.model == BASELINE or gate.left_out:
        return gate
    if options.force:
        return replace(gate, forced=True)
    raise DataError(_explain_failed_gate(gate))


def _explain_failed_gate(gate: Gate) -> str:
    """What was measured, and what to do."""
    baseline, figure = gate.best_naive
    return (
        f"gate failed: {gate.model} has VUS-PR {gate.own:.3f} on injected anomalies, the best "
        f"untrained baseline, {baseline}, has {figure:.3f}; no bundle was written — collect a "
        "longer period, exclude incidents by data_settings.exclude, choose other queries, "
        f"set model: {BASELINE}, or run promad train --force"
    )

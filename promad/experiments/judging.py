"""Judging: a task's scores of the test part, with their limits, compared with the labels.

A model's row goes through the same functions as a user's data: the training part is processed,
windows are cut from it, a detector is fitted, and that scores the test part, each sample by those
up to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from promad.config import Config, TrainingSettings
from promad.data.frame import MetricFrame
from promad.data.groups import THE_ONLY_GROUP, Labels
from promad.detection.state import begin_hysteresis, begin_state, choose_rule
from promad.detection.step import run
from promad.evaluation.agreement import Reals, alarms
from promad.evaluation.figures import Figures, Judged
from promad.evaluation.labelled import LabelledData
from promad.evaluation.naive import NAIVE, NAIVE_CONTRIBUTIONS
from promad.experiments.budgets import compare_budgets, hold_to
from promad.experiments.injected import describe_injected, shift_held_out
from promad.experiments.rows import Row, Rows, build_chart, build_row
from promad.experiments.tasks import (
    NAIVE_ROWS,
    Columns,
    Task,
    config_at_budget,
    config_by_budget,
)
from promad.scoring.detector import Detector
from promad.scoring.streaming import score_frame
from promad.thresholds import ThresholdSettings, ThresholdState
from promad.thresholds.controller import FleetBudget, put_to_work
from promad.thresholds.threshold_state import Constant
from promad.training.fitting import Fitted, FittingOptions, fit_detector
from promad.training.material import split_material
from promad.training.processing import ProcessingOptions, process
from promad.training.threshold_choice import choose_threshold, make_threshold_settings

CONDITIONED = frozenset({"lstm_forecaster"})
"""The models that look at columns which are not scored; the others never see them."""

_WINDOWS_IN_TRAINING = 12


@dataclass(frozen=True)
class JudgingOptions:
    """How scores become alarms.

    Attributes:
        method: a name in THRESHOLDS, or `auto`.
        settings: those of the threshold; step and hysteresis among them.
        adapt: whether a limit may be raised to keep the alert budget.
    """

    method: str
    settings: ThresholdSettings
    adapt: bool

    @staticmethod
    def of(config: Config) -> JudgingOptions:
        """The options in a configuration."""
        live = config.real_time_anomaly_detection
        settings = make_threshold_settings(live, config.data_settings.step)
        return JudgingOptions(live.threshold, settings, live.adapt_threshold)


def run_task(task: Task, data: LabelledData) -> Rows:
    """Train, score and compare.

    Raises:
        DataError: if the entity is too little to train on.
    """
    scored = count_scored(data, task.columns)
    of_scored, config = data.with_first(scored), take_step(data, task.config)
    if task.row == NAIVE_ROWS:
        return {
            name: _make_naive_row(name, of_scored, task.seed, config, task.budgets)
            for name in NAIVE
        }
    seen = data if config.training_settings.model in CONDITIONED else of_scored
    fitted = _fit(seen, scored, task.seed, config)
    judged = _judge(fitted.detector, seen, config)
    row = make_row(task, judged, of_scored)
    return {
        task.row: replace(
            row,
            figures={**row.figures, **_compare_budgets(fitted, judged, seen, config, task.budgets)},
            injected=_measure_injected(fitted, seen, scored, task.seed, config),
        )
    }


def make_row(task: Task, judged: Judged, data: LabelledData) -> Row:
    """A model's row, with its scores if the task asks for them."""
    row = build_row(judged, data, task.seed, build_chart(judged, data.labels))
    if task.scores_path is None:
        return row
    return replace(row, scores=_tabulate_scores(data.features, judged))


def count_scored(data: LabelledData, columns: Columns) -> int:
    """How many columns, from the first, are scored."""
    first = columns == "first" or (columns == "auto" and data.counting == "sequences")
    return 1 if first else len(data.features)


def take_step(data: LabelledData, config: Config) -> Config:
    """The configuration with the step of the data, if that is known."""
    if data.test_times is None or len(data.test_times) < 2:
        return config
    step = float(np.median(np.diff(data.test_times)))
    settings = config.data_settings.model_copy(update={"step": step})
    return config.model_copy(update={"data_settings": settings})


def _fit(data: LabelledData, scored: int, seed: int, config: Config) -> Fitted:
    """A detector that is fitted to the training part. Rows count as one step apart."""
    settings = choose_settings(len(data.train), seed, config.training_settings)
    step = config.data_settings.step
    options = ProcessingOptions(
        queries=dict.fromkeys(data.features, ""),
        scored=scored,
        step=step,
        settings=config.preprocessing_settings,
        exclude=(),
        train_split_ratio=settings.train_split_ratio,
        length=settings.sequence_length,
    )
    processed = process([build_frame(data.features, data.train, data.train_times, step)], options)
    frames, preparation = processed.parts, processed.preparation
    windows = preparation.windows(frames, settings.sequence_length)
    material = split_material(windows, frames, preparation, processed.training_ends_at)
    judging = JudgingOptions.of(config)
    fitting = FittingOptions(settings, judging.method, judging.settings)
    return fit_detector(material, fitting, lambda *epoch: None)


def _judge(detector: Detector, data: LabelledData, config: Config) -> Judged:
    """The test part as a detector judges it.

    It is scored by itself: whether it follows the training part directly is not known, so the
    samples before the first whole window are blind.
    """
    step = config.data_settings.step
    test = build_frame(data.features, data.test, data.test_times, step)
    (judged,) = judge_frames(detector, test, JudgingOptions.of(config))
    return judged


def _measure_injected(
    fitted: Fitted, data: LabelledData, scored: int, seed: int, config: Config
) -> Figures:
    """How events follow shifts in data that the model was not trained on; empty if too little."""
    first = int(len(data.train) * config.training_settings.train_split_ratio)
    shifted = shift_held_out(data, scored, first, seed)
    if shifted is None or fitted.trial is None:
        return {}
    return describe_injected(_judge(fitted.trial, shifted, config), shifted)


def _compare_budgets(
    fitted: Fitted,
    judged: Judged,
    data: LabelledData,
    config: Config,
    budgets: Sequence[float],
) -> Figures:
    """Recall and false episodes with the threshold of each budget, and with the best limit."""
    detector, by_budget = fitted.detector, []
    for budget in budgets:
        own = config_at_budget(config, budget)
        options = JudgingOptions.of(own)
        threshold = choose_threshold(fitted.scores, options.method, options.settings)
        by_budget.append((budget, _judge(replace(detector, threshold=threshold), data, own)))

    def judge_at(limits: Sequence[float]) -> list[Judged]:
        if judged.recent is None:
            return hold_to(judged, limits)
        return _judge_at_limits(detector, data, config, limits)

    return compare_budgets(by_budget, data.labels, judge_at)


def _judge_at_limits(
    detector: Detector, data: LabelledData, config: Config, limits: Sequence[float]
) -> list[Judged]:
    """The test part held to each limit: as many groups, since scores restart where events end."""
    groups = tuple((("limit", str(place)),) for place in range(len(limits)))
    step = config.data_settings.step
    own = build_frame(data.features, data.test, data.test_times, step)
    values = np.broadcast_to(own.values, (len(limits), *own.values.shape[1:]))
    frame = MetricFrame(own.start, own.step, own.features, groups, values)
    return judge_frames(detector, frame, JudgingOptions.of(config), at=np.array(limits))


def choose_settings(samples: int, seed: int, settings: TrainingSettings) -> TrainingSettings:
    """The settings with this seed, and without the gate.

    Windows are no longer than a twelfth of the training part, so that short series are not lost to
    models with long windows.
    """
    longest = max(2, samples // _WINDOWS_IN_TRAINING)
    length = min(settings.sequence_length, longest)
    return settings.model_copy(update={"seed": seed, "sequence_length": length, "gate": False})


def build_frame(
    features: Sequence[str],
    values: Reals,
    times: Reals | None,
    step: float,
    group: Labels = THE_ONLY_GROUP,
) -> MetricFrame:
    """Values (samples, features) of a group, from the first of the times on, if they are known."""
    start = 0.0 if times is None else float(times[0])
    return MetricFrame(start, step, tuple(features), (group,), values[np.newaxis])


def judge_frames(
    detector: Detector,
    frame: MetricFrame,
    options: JudgingOptions,
    budget: FleetBudget | None = None,
    at: Reals | None = None,
) -> list[Judged]:
    """Of each group a row for each sample of the frame, NaN where the detector has no score.

    Samples go through the step of the daemon.

    Args:
        budget: how groups share the alert budget; None if there is but one group.
        at: fixed limits of the groups, float64 (groups,), in place of the threshold.
    """
    settings, groups = choose_rule(detector, options.settings), len(frame.groups)
    hysteresis = begin_hysteresis(settings, groups)
    limits: ThresholdState = (
        put_to_work(detector.threshold, settings, adapt=options.adapt, groups=groups, fleet=budget)
        if at is None
        else Constant(at)
    )
    state = begin_state(detector, limits, "", frame.groups, hysteresis)
    scores, held_to = np.empty((2, groups, frame.samples))
    recent = np.full((groups, frame.samples), np.nan)
    excess, errors = np.empty((2, groups, frame.samples, detector.preparation.scored))
    found = run(detector, detector.calibrate(frame.groups), state, frame)
    for sample, judgements in enumerate(found):
        scores[:, sample] = judgements.score
        held_to[:, sample] = judgements.limit
        recent[:, sample] = judgements.recent
        excess[:, sample] = judgements.excess
        errors[:, sample] = judgements.errors
    ends_by_recent = hysteresis.leave_below is not None
    plain: Sequence[Reals | None] = [None] * groups
    if ends_by_recent and at is None:
        plain = _score_plainly(detector, frame)
    return [
        replace(
            _make_judged(scores[row], held_to[row], excess[row], settings, short),
            errors=errors[row],
            plain=plain[row],
        )
        for row, short in enumerate(recent if ends_by_recent else [None] * groups)
    ]


def _score_plainly(detector: Detector, frame: MetricFrame) -> list[Reals]:
    """Each group's scores as if no event had ended: (samples,)."""
    alone = (
        MetricFrame(frame.start, frame.step, frame.features, (labels,), values[np.newaxis])
        for labels, values in zip(frame.groups, frame.values, strict=True)
    )
    return [score_frame(detector, each).score[0] for each in alone]


def _judge_naive(name: str, data: LabelledData, seed: int, config: Config) -> Judged:
    """A naive score of the test part, with a threshold of its own.

    That is chosen by the alert budget, on the part of the training data that a model validates on.
    """
    options, score = JudgingOptions.of(config_by_budget(config)), NAIVE[name]
    last = max(1, int(len(data.train) * config.training_settings.train_split_ratio))
    held_out = score(data.train[:last], data.train[last:], seed + 1)
    scores = score(data.train, data.test, seed)
    threshold = choose_threshold(held_out, options.method, options.settings)
    state = put_to_work(threshold, options.settings, adapt=options.adapt)
    limits = state.follow_series(scores[:, np.newaxis])[:, 0]
    contributions = NAIVE_CONTRIBUTIONS[name](data.train, data.test, seed)
    return _make_judged(scores, limits, contributions, options.settings)


def _make_naive_row(
    name: str, data: LabelledData, seed: int, config: Config, budgets: Sequence[float]
) -> Row:
    judged = _judge_naive(name, data, seed, config)
    by_budget = [
        (budget, _judge_naive(name, data, seed, config_at_budget(config, budget)))
        for budget in budgets
    ]
    row = build_row(judged, data, seed)
    found = compare_budgets(by_budget, data.labels, partial(hold_to, judged))
    return replace(row, figures={**row.figures, **found})


def _make_judged(
    scores: Reals,
    limits: Reals,
    contributions: Reals,
    settings: ThresholdSettings,
    recent: Reals | None = None,
) -> Judged:
    counts = settings.enter_after, settings.leave_after
    below = None if recent is None else settings.leave_below
    typical = settings.typical
    return Judged(scores, limits, contributions, settings.step, *counts, below, recent, typical)


def _tabulate_scores(features: Sequence[str], judged: Judged) -> pa.Table:
    columns: dict[str, Any] = {
        "score": pa.array(judged.scores),
        "threshold": pa.array(judged.limits),
        "anomalous": pa.array(alarms(judged.scores, judged.limits)),
    }
    errors = judged.contributions if judged.errors is None else judged.errors
    for column, feature in enumerate(features):
        columns[f"error:{feature}"] = pa.array(errors[:, column])
    return pa.table(columns)

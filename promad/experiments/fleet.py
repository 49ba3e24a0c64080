"""A fleet of labelled entities: one model and one threshold for all, fitted as those of groups are.

The training parts go through the same functions as a fleet that `collect` brought, and the test
parts through the step of the daemon, all entities at once.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from promad.config import Config
from promad.data.artifacts import open_groups, write_groups
from promad.data.frame import MetricFrame
from promad.data.groups import Labels
from promad.errors import DataError
from promad.evaluation.figures import Judged
from promad.evaluation.labelled import LabelledData
from promad.experiments.budgets import count_at_budgets
from promad.experiments.judging import (
    CONDITIONED,
    JudgingOptions,
    build_frame,
    choose_settings,
    count_scored,
    judge_frames,
    make_row,
    take_step,
)
from promad.experiments.rows import Rows
from promad.experiments.tasks import Task, config_at_budget
from promad.scoring.detector import Detector
from promad.thresholds.controller import FleetBudget
from promad.training.fitting import FittingOptions
from promad.training.fleet_fitting import fit_fleet
from promad.training.fleet_material import draw_material
from promad.training.fleet_processing import FleetProcessed, find_end_of_fleet, process_groups
from promad.training.muted_time import MutedTime
from promad.training.processed_file import ProcessedFleet, build_fleet_metadata, read_fleet
from promad.training.processing import ProcessingOptions

LABEL = "entity"
"""The label that tells the groups apart."""


def run_fleet(tasks: Sequence[Task], entities: Sequence[LabelledData]) -> list[Rows]:
    """The row of each task: all entities trained on together, each compared with its own labels.

    Args:
        tasks: of one row, one seed and one configuration; one for each entity.
        entities: the data of each task.

    Raises:
        DataError: if an entity is too little to train on, or if their columns differ.
    """
    first = tasks[0]
    _require_same_columns(entities)
    scored = count_scored(entities[0], first.columns)
    of_scored = [data.with_first(scored) for data in entities]
    config = take_step(entities[0], first.config)
    seen = entities if config.training_settings.model in CONDITIONED else of_scored
    judged = _train_and_judge(seen, scored, first.seed, config)
    by_budget = [
        (budget, _train_and_judge(seen, scored, first.seed, config_at_budget(config, budget)))
        for budget in first.budgets
    ]
    found: list[Rows] = []
    for place, (task, data) in enumerate(zip(tasks, of_scored, strict=True)):
        row = make_row(task, judged[place], data)
        own = [(budget, each[place]) for budget, each in by_budget]
        counted = count_at_budgets(own, data.labels)
        found.append({task.row: replace(row, figures={**row.figures, **counted})})
    return found


def _train_and_judge(
    entities: Sequence[LabelledData], scored: int, seed: int, config: Config
) -> list[Judged]:
    """The test part of each entity, as the fleet's detector judges it.

    It is trained for each alert budget anew, because the units of the groups depend on it.
    """
    budget = config.real_time_anomaly_detection.alert_budget
    with TemporaryDirectory(prefix="promad-evaluate-") as folder:
        detector = _train(entities, scored, seed, config, Path(folder))
    test, places = _align_tests(entities, config.data_settings.step)
    judged = judge_frames(
        detector, test, JudgingOptions.of(config), FleetBudget(budget.per, budget.max_group_share)
    )
    return [
        own.slice(place, place + len(data.labels))
        for own, place, data in zip(judged, places, entities, strict=True)
    ]


def _require_same_columns(entities: Sequence[LabelledData]) -> None:
    if len(entities) < 2:
        raise DataError("a fleet needs at least 2 entities — omit --fleet, or add entities")
    first = entities[0]
    for other in entities[1:]:
        if other.features != first.features:
            raise DataError(
                f"{other.entity}: its columns differ from those of {first.entity}; a fleet has the "
                "same columns in all entities — choose entities with --entity, or omit --fleet"
            )


def _name(data: LabelledData) -> Labels:
    return ((LABEL, data.entity),)


def _train(
    entities: Sequence[LabelledData], scored: int, seed: int, config: Config, folder: Path
) -> Detector:
    """The detector that is fitted to the training parts."""
    shortest = min(len(data.train) for data in entities)
    settings = choose_settings(shortest, seed, config.training_settings)
    step, judging = config.data_settings.step, JudgingOptions.of(config)
    options = ProcessingOptions(
        queries=dict.fromkeys(entities[0].features, ""),
        scored=scored,
        step=step,
        settings=config.preprocessing_settings,
        exclude=(),
        train_split_ratio=settings.train_split_ratio,
        length=settings.sequence_length,
    )
    frames = [
        build_frame(data.features, data.train, data.train_times, step, _name(data))
        for data in entities
    ]
    fleet = _process(frames, options, folder)
    material = draw_material(
        fleet, settings.sequence_length, settings.max_training_windows, settings.seed
    )
    fitting = FittingOptions(settings, judging.method, judging.settings)
    per = config.real_time_anomaly_detection.alert_budget.per
    return fit_fleet(material, fitting, per, lambda *epoch: None).detector


def _process(
    frames: Sequence[MetricFrame], options: ProcessingOptions, folder: Path
) -> ProcessedFleet:
    """What `preprocess` makes of frames of one group each; none may be left out.

    Raises:
        DataError: if a group has too little data.
    """
    raw, processed = folder / "raw.parquet", folder / "processed.parquet"
    queries = {"queries": json.dumps(dict(options.queries))}
    write_groups(raw, options.step, [LABEL], [[frame] for frame in frames], lambda: queries)
    source = open_groups(raw, "evaluate")
    report = FleetProcessed(find_end_of_fleet(source, options))

    def describe() -> dict[str, str]:
        pooled, _ = report.fit_pooled(options)
        ends_at = report.training_ends_at
        own = build_fleet_metadata(pooled, report.preparations, ends_at, options, {})
        return {**queries, **own}

    parts = process_groups(source, options, {}, report, MutedTime((), {}))
    write_groups(processed, options.step, [LABEL], parts, describe)
    for labels, why in report.left_out.items():
        raise DataError(f"{dict(labels)[LABEL]}: {why}")
    return read_fleet(processed, options)


def _align_tests(
    entities: Sequence[LabelledData], step: float
) -> tuple[MetricFrame, tuple[int, ...]]:
    """The test parts in one frame, NaN where one has no samples, and the place of each one's first.

    Those without time stamps begin at the same time.
    """
    starts = [0.0 if data.test_times is None else float(data.test_times[0]) for data in entities]
    places = tuple(round((start - min(starts)) / step) for start in starts)
    ends = [place + len(data.test) for place, data in zip(places, entities, strict=True)]
    values = np.full((len(entities), max(ends), len(entities[0].features)), np.nan)
    for row, data in enumerate(entities):
        values[row, places[row] : ends[row]] = data.test
    groups = tuple(map(_name, entities))
    return MetricFrame(min(starts), step, entities[0].features, groups, values), places

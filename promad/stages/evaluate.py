"""`evaluate`: what the configured detector is worth on labelled data, beside the naive scores.

Each entity goes through the stages that a user's data goes through: its training part is written
as collected data, preprocessed, trained on and put into a bundle; the bundle's detector then
scores the test part, each sample by those up to it.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from promad.artifacts import write_frames
from promad.bundle import load_detector
from promad.config import Config, Query
from promad.detector import Detector
from promad.errors import DataError
from promad.evaluation.agreement import Reals, alarms
from promad.evaluation.episodes import MARGIN_SECONDS
from promad.evaluation.figures import Figures, Judged, all_figures, mean_figures, median_figures
from promad.evaluation.labelled import LabelledData, entities_in, read_labelled
from promad.evaluation.naive import NAIVE, NAIVE_CONTRIBUTIONS
from promad.evaluation.ranking import VUS_WINDOW
from promad.files import written_whole
from promad.frame import MetricFrame, single_group
from promad.stages.preprocess import preprocess
from promad.stages.train import choose_threshold, train

Rows = Mapping[str, Figures]
"""The figures of the configured model and of each naive score, by name."""

Done = Callable[[str, int, int], None]
"""Called when an entity is through with one seed: its name, how many are done, how many there are.
"""


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        model: the name of the configured model's row.
        seeds: each entity was trained on with each.
        found: entity, then seed, to the rows.
    """

    model: str
    seeds: tuple[int, ...]
    found: Mapping[str, Mapping[int, Rows]]

    @property
    def row_names(self) -> tuple[str, ...]:
        """The configured model first."""
        return (self.model, *NAIVE)

    def entity_figures(self, row: str) -> dict[str, Figures]:
        """For each entity the mean over the seeds."""
        return {
            entity: mean_figures([rows[row] for rows in by_seed.values()])
            for entity, by_seed in self.found.items()
        }

    def to_json(self) -> dict[str, Any]:
        """Plain values; a figure that is not defined is null.

        A mean or median is taken over the entities that define the figure.
        """
        return {
            "model": self.model,
            "seeds": list(self.seeds),
            "vus_window_samples": VUS_WINDOW,
            "false_episode_margin_seconds": MARGIN_SECONDS,
            "rows": {row: self._row_to_json(row) for row in self.row_names},
        }

    def _row_to_json(self, row: str) -> dict[str, Any]:
        of_entities = self.entity_figures(row)
        return {
            "mean": _plain(mean_figures(list(of_entities.values()))),
            "median": _plain(median_figures(list(of_entities.values()))),
            "entities": {entity: _plain(figures) for entity, figures in of_entities.items()},
            "seeds": {
                entity: {str(seed): _plain(rows[row]) for seed, rows in by_seed.items()}
                for entity, by_seed in self.found.items()
            },
        }


def _plain(figures: Figures) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in figures.items()}


def evaluate(
    directory: Path,
    config: Config,
    seeds: Sequence[int],
    *,
    entities: Sequence[str] = (),
    scores_to: Path | None = None,
    jobs: int = 1,
    done: Done = lambda entity, number, total: None,
) -> Evaluation:
    """Train on each entity with each seed, score its test part, and compare with the labels.

    The queries of the configuration are not used; the columns of the data stand in for them.

    Args:
        directory: the labelled data, see `promad.evaluation.labelled`.
        entities: the names of those wanted; none means all.
        scores_to: where to leave `<entity>.parquet`, or with several seeds
            `seed-<k>/<entity>.parquet`: a row per row of test.parquet, with `score` (NaN where
            unknown), `threshold`, `anomalous` (the score is above it), and `error:<feature>`.
        jobs: how many processes work at once.

    Raises:
        DataError: if the data cannot be read, or is too little to train on.
    """
    from joblib import Parallel, delayed

    folders = _wanted(entities_in(directory), entities, directory)
    tasks = [(folder, seed) for folder in folders for seed in seeds]
    work = (
        delayed(_one)(folder, config, seed, _score_path(folder, seed, seeds, scores_to))
        for folder, seed in tasks
    )
    found: dict[str, dict[int, Rows]] = {folder.resolve().name: {} for folder in folders}
    outcomes = Parallel(n_jobs=jobs, return_as="generator")(work)
    for number, ((folder, seed), rows) in enumerate(zip(tasks, outcomes, strict=True), 1):
        found[folder.resolve().name][seed] = rows
        done(folder.resolve().name, number, len(tasks))
    return Evaluation(config.training_settings.model, tuple(seeds), found)


def _wanted(folders: Sequence[Path], names: Sequence[str], directory: Path) -> list[Path]:
    by_name = {folder.resolve().name: folder for folder in folders}
    missing = [name for name in names if name not in by_name]
    if missing:
        raise DataError(f"{directory}: has no {missing[0]}; there are {', '.join(by_name)}")
    return [by_name[name] for name in names or by_name]


def _score_path(
    folder: Path, seed: int, seeds: Sequence[int], scores_to: Path | None
) -> Path | None:
    if scores_to is None:
        return None
    parent = scores_to / f"seed-{seed}" if len(seeds) > 1 else scores_to
    return parent / f"{folder.resolve().name}.parquet"


def _one(folder: Path, config: Config, seed: int, scores_path: Path | None) -> Rows:
    """All rows for one entity and one seed."""
    data = read_labelled(folder)
    step, model = _step(data, config), str(config.training_settings.model)
    with tempfile.TemporaryDirectory(prefix="promad-evaluate-") as work:
        own = _config_for(data, config, seed, step, Path(work))
        judged = {model: _by_model(data, own)}
    if scores_path is not None:
        _write_scores(scores_path, data.features, judged[model])
    judged |= {name: _by_naive(name, data, own) for name in NAIVE}
    return {
        name: all_figures(each, data.labels, data.causes, seed) for name, each in judged.items()
    }


def _step(data: LabelledData, config: Config) -> float:
    """Seconds between samples: as the data says, or else as the configuration does."""
    if data.test_times is None or len(data.test_times) < 2:
        return config.data_settings.step
    return float(np.median(np.diff(data.test_times)))


def _config_for(data: LabelledData, config: Config, seed: int, step: float, work: Path) -> Config:
    """The configuration with this data's columns, and artifacts of its own."""
    return config.model_copy(
        update={
            "artifacts_dir": work,
            "queries": {feature: Query(expr="up") for feature in data.features},
            "data_settings": config.data_settings.model_copy(update={"step": step}),
            "training_settings": config.training_settings.model_copy(
                update={"seed": seed, "train_on_filtered_sequences": False}
            ),
        }
    )


def _by_model(data: LabelledData, config: Config) -> Judged:
    """The test part as the trained detector sees it.

    It is scored by itself: that it follows on the training part is not taken for granted, so the
    samples before the first whole window are blind. Rows count as one step apart.
    """
    training = _frame(data, data.train, data.train_times, config)
    write_frames(config.artifacts_dir / config.data_settings.output_filename, [training], {})
    preprocess(config)
    report = train(config, lambda *epoch: None, now=lambda: training.end)
    test = _frame(data, data.test, data.test_times, config)
    return _scored(load_detector(report.bundle), test, config)


def _frame(data: LabelledData, values: Reals, times: Reals | None, config: Config) -> MetricFrame:
    start = 0.0 if times is None else float(times[0])
    return single_group(start, config.data_settings.step, data.features, values)


def _scored(detector: Detector, frame: MetricFrame, config: Config) -> Judged:
    """A row for each sample of the frame, NaN where the detector has no score."""
    known = detector.score(frame)
    rows = np.round((known.times - frame.start) / frame.step).astype(np.int64)
    scores = np.full(frame.samples, np.nan)
    errors = np.full((frame.samples, len(frame.features)), np.nan)
    scores[rows], errors[rows] = known.score, known.errors
    return _judged(scores, detector.threshold.limit(scores), errors, config)


def _by_naive(name: str, data: LabelledData, config: Config) -> Judged:
    """A naive score of the test part, held to a threshold of its own.

    That is chosen by the alert budget, on the part of the training data that a model validates on.
    """
    live = config.real_time_anomaly_detection.model_copy(update={"anomaly_threshold_mse": "auto"})
    by_budget = config.model_copy(update={"real_time_anomaly_detection": live})
    seed, score = config.training_settings.seed, NAIVE[name]
    last = max(1, int(len(data.train) * config.training_settings.train_split_ratio))
    held_out = score(data.train[:last], data.train[last:], seed + 1)
    scores = score(data.train, data.test, seed)
    limits = choose_threshold(held_out, by_budget).limit(scores)
    contributions = NAIVE_CONTRIBUTIONS[name](data.train, data.test, seed)
    return _judged(scores, limits, contributions, config)


def _judged(scores: Reals, limits: Reals, contributions: Reals, config: Config) -> Judged:
    live = config.real_time_anomaly_detection
    return Judged(
        scores,
        limits,
        contributions,
        config.data_settings.step,
        live.enter_after_samples,
        live.leave_after_samples,
    )


def _write_scores(path: Path, features: Sequence[str], judged: Judged) -> None:
    columns: dict[str, Any] = {
        "score": pa.array(judged.scores),
        "threshold": pa.array(judged.limits),
        "anomalous": pa.array(alarms(judged.scores, judged.limits)),
    }
    for column, feature in enumerate(features):
        columns[f"error:{feature}"] = pa.array(judged.contributions[:, column])
    with written_whole(path) as aside:
        pq.write_table(pa.table(columns), aside)

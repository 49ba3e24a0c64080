"""One entity and one row of the table: scores of its test part, and what they come to.

The row of a model goes through the stages that a user's data goes through: the training part is
written as collected data, preprocessed, trained on and put into a bundle; the bundle's detector
then scores the test part, each sample by those up to it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from promad.bundle import load_detector
from promad.config import Config, Query
from promad.data.artifacts import write_frames
from promad.data.frame import MetricFrame, single_group
from promad.detection.state import begin_state
from promad.detection.step import run
from promad.evaluation.agreement import Flags, Reals, alarms, segments
from promad.evaluation.figures import Figures, Judged, figures_of, nab_of
from promad.evaluation.labelled import LabelledData, read_labelled
from promad.evaluation.nab import NabSeries
from promad.evaluation.naive import NAIVE, NAIVE_CONTRIBUTIONS
from promad.events.hysteresis import Hysteresis
from promad.files import written_whole
from promad.scoring.detector import Detector
from promad.stages.preprocess import preprocess
from promad.stages.train import train
from promad.thresholds.controller import put_to_work
from promad.training.threshold_choice import choose_threshold, threshold_settings

Columns = Literal["auto", "all", "first"]
"""Which columns are scored: `auto` is the first of data like Telemanom's, and all of any other."""

NAIVE_ROWS = "naive"
"""The name of the task that makes the rows of all naive scores at once."""

CONDITIONED = frozenset({"lstm_forecaster"})
"""The models that look at columns which are not scored; the others never see them."""

_WINDOWS_IN_TRAINING = 12
_POINTS = 2000


@dataclass(frozen=True)
class Task:
    """What to find out: one model's row, or all naive ones, for one entity and one seed.

    Attributes:
        row: the model's name, or NAIVE_ROWS.
        scores_path: where to leave the scores, if anywhere.
    """

    folder: Path
    row: str
    seed: int
    config: Config
    columns: Columns
    scores_path: Path | None = None

    @property
    def entity(self) -> str:
        """The name of the folder."""
        return self.folder.resolve().name


@dataclass(frozen=True)
class Chart:
    """Scores and limits for the eye: of each stretch of samples the worst, as plain lists.

    Attributes:
        rows: which samples these are.
        scores, limits: None where the whole stretch is unknown.
        segments: first row and row after the last of each labelled one.
    """

    rows: Sequence[int]
    scores: Sequence[float | None]
    limits: Sequence[float | None]
    segments: Sequence[Sequence[int]]


@dataclass(frozen=True)
class Row:
    """What a row has to say of one entity and one seed.

    Attributes:
        nab: for NAB's windows, what the score over the whole corpus is made of.
        chart: of models; naive scores have none.
    """

    figures: Figures
    nab: NabSeries | None = None
    chart: Chart | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values, NaN among them, from which `from_json` makes the same row."""
        return {
            "figures": dict(self.figures),
            "nab": None if self.nab is None else self.nab.to_json(),
            "chart": None if self.chart is None else asdict(self.chart),
        }

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> Row:
        """The row that `to_json` described."""
        nab, chart = content["nab"], content["chart"]
        return Row(
            content["figures"],
            None if nab is None else NabSeries.from_json(nab),
            None if chart is None else Chart(**chart),
        )


Rows = Mapping[str, Row]
"""The rows of a table by name."""


def linear_config(config: Config) -> Config:
    """The configuration with the linear model in place of its own, and all that suits that."""
    own = config.training_settings
    training = {
        "model": "linear",
        "linear": own.linear,
        "train_split_ratio": own.train_split_ratio,
        "seed": own.seed,
    }
    return _by_budget(config).model_copy(
        update={"training_settings": type(own).model_validate(training)}
    )


def rows_of(task: Task) -> Rows:
    """Train, score and compare.

    Raises:
        DataError: if the entity cannot be read, or is too little to train on.
    """
    data = read_labelled(task.folder)
    scored = _columns_scored(data, task.columns)
    aside = data.with_first(scored)
    step = _step(data, task.config)
    if task.row == NAIVE_ROWS:
        return {name: _row(_by_naive(name, aside, step, task), aside, task) for name in NAIVE}
    seen = data if task.config.training_settings.model in CONDITIONED else aside
    with tempfile.TemporaryDirectory(prefix="promad-evaluate-") as work:
        judged = _by_model(seen, _config_for(seen, scored, step, task, Path(work)))
    if task.scores_path is not None:
        _write_scores(task.scores_path, aside.features, judged)
    return {task.row: _row(judged, aside, task, _chart(judged, data.labels))}


def _row(judged: Judged, data: LabelledData, task: Task, chart: Chart | None = None) -> Row:
    return Row(figures_of(judged, data, task.seed), nab_of(judged, data), chart)


def _columns_scored(data: LabelledData, columns: Columns) -> int:
    first = columns == "first" or (columns == "auto" and data.counting == "sequences")
    return 1 if first else len(data.features)


def _step(data: LabelledData, config: Config) -> float:
    """Seconds between samples: as the data says, or else as the configuration does."""
    if data.test_times is None or len(data.test_times) < 2:
        return config.data_settings.step
    return float(np.median(np.diff(data.test_times)))


def _config_for(data: LabelledData, scored: int, step: float, task: Task, work: Path) -> Config:
    """The configuration with this data's columns, and artifacts of its own.

    Windows are no longer than a twelfth of the training part, so that short series are not lost to
    models with long windows.
    """
    config = task.config
    longest = max(2, len(data.train) // _WINDOWS_IN_TRAINING)
    return config.model_copy(
        update={
            "artifacts_dir": work,
            "queries": {
                feature: Query(expr="up", condition=column >= scored)
                for column, feature in enumerate(data.features)
            },
            "data_settings": config.data_settings.model_copy(update={"step": step, "exclude": ()}),
            "training_settings": config.training_settings.model_copy(
                update={
                    "seed": task.seed,
                    "sequence_length": min(config.training_settings.sequence_length, longest),
                    "train_on_filtered_sequences": False,
                    "gate": False,
                }
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
    live = config.real_time_anomaly_detection
    limits = put_to_work(detector.threshold, threshold_settings(config), adapt=live.adapt_threshold)
    hysteresis = Hysteresis.begin(1, live.enter_after_samples, live.leave_after_samples)
    state = begin_state(detector, limits, "evaluate", frame.groups, hysteresis)
    found = list(run(detector, detector.calibrate(1), state, frame))
    return _judged(
        np.array([each.score[0] for each in found]),
        np.array([each.limit[0] for each in found]),
        np.stack([each.errors[0] for each in found]),
        config.data_settings.step,
        config,
    )


def _by_naive(name: str, data: LabelledData, step: float, task: Task) -> Judged:
    """A naive score of the test part, held to a threshold of its own.

    That is chosen by the alert budget, on the part of the training data that a model validates on.
    """
    config, score = _by_budget(task.config), NAIVE[name]
    settings = config.data_settings.model_copy(update={"step": step})
    own = config.model_copy(update={"data_settings": settings})
    last = max(1, int(len(data.train) * config.training_settings.train_split_ratio))
    held_out = score(data.train[:last], data.train[last:], task.seed + 1)
    scores = score(data.train, data.test, task.seed)
    threshold = choose_threshold(held_out, own)
    adapt = own.real_time_anomaly_detection.adapt_threshold
    state = put_to_work(threshold, threshold_settings(own), adapt=adapt)
    limits = state.follow_series(scores[:, np.newaxis])[:, 0]
    contributions = NAIVE_CONTRIBUTIONS[name](data.train, data.test, task.seed)
    return _judged(scores, limits, contributions, step, config)


def _by_budget(config: Config) -> Config:
    """The configuration without a limit of its own, which would be in another model's unit."""
    live = config.real_time_anomaly_detection.model_copy(update={"anomaly_threshold_mse": "auto"})
    return config.model_copy(update={"real_time_anomaly_detection": live})


def _judged(
    scores: Reals, limits: Reals, contributions: Reals, step: float, config: Config
) -> Judged:
    live = config.real_time_anomaly_detection
    return Judged(
        scores, limits, contributions, step, live.enter_after_samples, live.leave_after_samples
    )


def _chart(judged: Judged, labels: Flags) -> Chart:
    samples = len(judged.scores)
    bounds = np.unique(np.linspace(0, samples, min(samples, _POINTS) + 1).astype(np.int64))
    excess = np.where(np.isnan(judged.scores), -np.inf, judged.scores / judged.limits)
    rows = [int(start + np.argmax(excess[start:end])) for start, end in pairwise(bounds)]
    return Chart(
        rows,
        _plain(judged.scores[rows]),
        _plain(judged.limits[rows]),
        np.column_stack(segments(labels)).tolist(),
    )


def _plain(values: Reals) -> list[float | None]:
    """To six digits, which are enough for the eye."""
    return [None if np.isnan(value) else float(f"{value:.6g}") for value in values]


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

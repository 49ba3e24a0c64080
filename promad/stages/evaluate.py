"""`evaluate`: what the configured models are worth on labelled data, beside simple scores.

Read `evaluation_rows` next, which makes one row for one entity; `evaluation_kept` remembers it,
`evaluation_outcome` sums up, and `evaluation_report` draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from promad.config import Config
from promad.errors import DataError
from promad.evaluation.labelled import entities_in
from promad.evaluation.naive import NAIVE
from promad.experiments.cache import Kept
from promad.experiments.outcome import Evaluation
from promad.experiments.rows import (
    NAIVE_ROWS,
    Columns,
    Row,
    Rows,
    Task,
    linear_config,
    rows_of,
)

_LINEAR = "linear"


@dataclass(frozen=True)
class Progress:
    """A task that is through: the `number`-th of `total`.

    Attributes:
        rows: what came of it; empty if it failed.
        failure: the one line that says why it did.
        reused: whether it was done by an earlier run.
    """

    task: Task
    rows: Rows
    failure: str | None
    reused: bool
    number: int = 0
    total: int = 0


Done = Callable[[Progress], None]
"""Called when a task is through."""


def evaluate(
    directory: Path,
    configs: Sequence[Config],
    seeds: Sequence[int],
    *,
    entities: Sequence[str] = (),
    columns: Columns = "auto",
    scores_to: Path | None = None,
    kept: Kept | None = None,
    jobs: int = 1,
    done: Done = lambda progress: None,
) -> Evaluation:
    """Train on each entity with each seed, score its test part, and compare with the labels.

    The queries of the configurations are not used; the columns of the data stand in for them. An
    entity that cannot be read or trained on is passed over and named in the outcome.

    Args:
        directory: the labelled data, see `promad.evaluation.labelled`.
        configs: one for each model, none of the same; the naive scores go by the first one.
        entities: the names of those wanted; none means all.
        columns: which columns are scored.
        scores_to: where to leave `<entity>.parquet`, or with several seeds
            `seed-<k>/<entity>.parquet`, and with several models each in a folder of its name: a row
            per row of test.parquet, with `score` (NaN where unknown), `threshold`, `anomalous` (the
            score is above it), and `error:<feature>` for the features that are scored.
        kept: where what is done is kept, and what was done before is found.
        jobs: how many processes work at once.

    Raises:
        DataError: if there is no such data.
    """
    folders = _wanted(entities_in(directory), entities, directory)
    tasks = [
        task for folder in folders for task in _tasks(folder, configs, seeds, columns, scores_to)
    ]
    found: dict[str, dict[int, dict[str, Row]]] = {}
    failed: dict[str, str] = {}
    for progress in _worked(tasks, kept, jobs):
        done(progress)
        task = progress.task
        if progress.failure is not None:
            failed.setdefault(task.entity, progress.failure)
        for seed in seeds if task.row == _LINEAR and not _has_linear(configs) else (task.seed,):
            found.setdefault(task.entity, {}).setdefault(seed, {}).update(progress.rows)
    for entity in failed:
        del found[entity]
    models = tuple(config.training_settings.model for config in configs)
    beside = () if _has_linear(configs) else (_LINEAR,)
    return Evaluation(models, (*models, *beside, *NAIVE), tuple(seeds), found, failed)


def _has_linear(configs: Sequence[Config]) -> bool:
    return any(config.training_settings.model == _LINEAR for config in configs)


def _wanted(folders: Sequence[Path], names: Sequence[str], directory: Path) -> list[Path]:
    by_name = {folder.resolve().name: folder for folder in folders}
    missing = [name for name in names if name not in by_name]
    if missing:
        raise DataError(f"{directory}: has no {missing[0]}; there are {', '.join(by_name)}")
    return [by_name[name] for name in names or by_name]


def _tasks(
    folder: Path,
    configs: Sequence[Config],
    seeds: Sequence[int],
    columns: Columns,
    scores_to: Path | None,
) -> Iterator[Task]:
    """All that there is to do for an entity, the quickest first."""
    for seed in seeds:
        yield Task(folder, NAIVE_ROWS, seed, configs[0], columns)
    if not _has_linear(configs):
        yield Task(folder, _LINEAR, seeds[0], linear_config(configs[0]), columns)
    for config in configs:
        model = config.training_settings.model
        for seed in seeds:
            parts = [model] * (len(configs) > 1) + [f"seed-{seed}"] * (len(seeds) > 1)
            name = f"{folder.resolve().name}.parquet"
            path = None if scores_to is None else scores_to.joinpath(*parts, name)
            yield Task(folder, model, seed, config, columns, path)


def _worked(tasks: Sequence[Task], kept: Kept | None, jobs: int) -> Iterator[Progress]:
    from joblib import Parallel, delayed

    work = (delayed(_one)(task, kept) for task in tasks)
    outcomes = Parallel(n_jobs=jobs, return_as="generator")(work)
    for number, outcome in enumerate(outcomes, 1):
        yield Progress(
            outcome.task, outcome.rows, outcome.failure, outcome.reused, number, len(tasks)
        )


def _one(task: Task, kept: Kept | None) -> Progress:
    known = None if kept is None else kept.rows(task)
    if known is not None:
        return Progress(task, known, None, reused=True)
    try:
        rows: Mapping[str, Row] = rows_of(task)
    except DataError as error:
        return Progress(task, {}, str(error), reused=False)
    if kept is not None:
        kept.keep(task, rows)
    return Progress(task, rows, None, reused=False)

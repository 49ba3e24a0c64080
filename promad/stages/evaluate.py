"""`promad evaluate`: what the configured models find in labelled data, beside simple scores.

Read `promad.experiments` next: `judging` makes the rows of one task, `cache` remembers them,
`outcome` sums them up, and `report` draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from promad.config import Config
from promad.errors import DataError
from promad.evaluation.labelled import TEST_TIMES, entities_in
from promad.evaluation.naive import NAIVE
from promad.experiments.cache import EvaluationCache
from promad.experiments.fleet import run_fleet
from promad.experiments.judging import run_task
from promad.experiments.outcome import Evaluation
from promad.experiments.rows import Row, Rows
from promad.experiments.tasks import (
    LINEAR_ROW,
    Columns,
    Task,
    includes_linear,
    list_fleet_tasks,
    list_tasks,
    name_pooled,
)


@dataclass(frozen=True)
class EvaluationOptions:
    """What to evaluate, and what to leave behind.

    Attributes:
        seeds: each model is trained with each of them.
        entities: the names of those wanted; none means all.
        columns: which columns are scored.
        scores_to: where to write `<entity>.parquet`, or with several seeds
            `seed-<k>/<entity>.parquet`, and with several models each in a folder of its name: a row
            per row of test.parquet, with `score` (NaN where unknown), `threshold`, `anomalous` (the
            score is above it), and `error:<feature>` for the features that are scored.
        cache: where the rows of finished tasks are stored and found again.
        jobs: how many processes work at once.
        fleet: whether each model is also trained on all entities together, with one threshold and
            the alert budget as in `alert_budget`.
        budgets: false alarms a week at which recall is measured too, each with a threshold of its
            own.
    """

    seeds: Sequence[int]
    entities: Sequence[str] = ()
    columns: Columns = "auto"
    scores_to: Path | None = None
    cache: EvaluationCache | None = None
    jobs: int = 1
    fleet: bool = False
    budgets: tuple[float, ...] = ()


@dataclass(frozen=True)
class Progress:
    """A finished task, the `number`-th of `total`.

    Attributes:
        rows: its rows; empty if it failed.
        failure: the one line that says why it failed.
        reused: whether an earlier run had finished it.
    """

    task: Task
    rows: Rows
    failure: str | None
    reused: bool
    number: int = 0
    total: int = 0


Done = Callable[[Progress], None]
"""Called when a task is finished."""


def evaluate(
    directory: Path,
    configs: Sequence[Config],
    options: EvaluationOptions,
    done: Done = lambda progress: None,
) -> Evaluation:
    """Train on each entity with each seed, score its test part, and compare with the labels.

    The queries of the configurations are not used; the columns of the data take their place. An
    entity that cannot be read or trained on is skipped and named in the outcome.

    Args:
        directory: the labelled data, see `promad.evaluation.labelled`.
        configs: one for each model, none of the same; the naive scores go by the first one.

    Raises:
        DataError: if there is no such data.
    """
    folders = _select(entities_in(directory), options.entities, directory)
    work = _list_work(folders, configs, options)
    found: dict[str, dict[int, dict[str, Row]]] = {}
    failed: dict[str, str] = {}
    extra = () if includes_linear(configs) else (LINEAR_ROW,)
    for progress in _run_all(work, options.cache, options.jobs):
        done(progress)
        task = progress.task
        if progress.failure is not None:
            failed.setdefault(task.entity, progress.failure)
        for seed in options.seeds if task.row in extra else (task.seed,):
            found.setdefault(task.entity, {}).setdefault(seed, {}).update(progress.rows)
    for entity in failed:
        del found[entity]
    models = tuple(config.training_settings.model for config in configs)
    pooled = tuple(map(name_pooled, models)) if options.fleet else ()
    rows = (*models, *pooled, *extra, *NAIVE)
    return Evaluation(models, rows, tuple(options.seeds), found, failed, options.budgets)


def _list_work(
    folders: Sequence[Path], configs: Sequence[Config], options: EvaluationOptions
) -> list[list[Task]]:
    """Tasks that are run at once, in the order of the tables."""
    wanted = (configs, options.seeds, options.columns, options.scores_to)
    tasks = (list_tasks(folder, *wanted, options.budgets) for folder in folders)
    work = [[task] for of_folder in tasks for task in of_folder]
    return [*work, *list_fleet_tasks(folders, *wanted)] if options.fleet else work


def require_time_stamps(directory: Path, entities: Sequence[str] = ()) -> None:
    """Refuse data without time stamps, of which the step between two samples is not known.

    Raises:
        DataError: naming the first such entity and what to do.
    """
    for folder in _select(entities_in(directory), entities, directory):
        if not (folder / TEST_TIMES).exists():
            raise DataError(
                f"{folder}: has no time stamps ({TEST_TIMES}), so the time between two samples is "
                "unknown — set it with --step, such as --step 1m"
            )


def _select(folders: Sequence[Path], names: Sequence[str], directory: Path) -> list[Path]:
    by_name = {folder.resolve().name: folder for folder in folders}
    missing = [name for name in names if name not in by_name]
    if missing:
        raise DataError(f"{directory}: no entity {missing[0]} (entities: {', '.join(by_name)})")
    return [by_name[name] for name in names or by_name]


def _run_all(
    work: Sequence[Sequence[Task]], cache: EvaluationCache | None, jobs: int
) -> Iterator[Progress]:
    from joblib import Parallel, delayed

    calls = (delayed(_run_or_reuse)(tasks, cache) for tasks in work)
    finished = (
        progress
        for several in Parallel(n_jobs=jobs, return_as="generator")(calls)
        for progress in several
    )
    total = sum(map(len, work))
    for number, progress in enumerate(finished, 1):
        yield replace(progress, number=number, total=total)


def _run_or_reuse(tasks: Sequence[Task], cache: EvaluationCache | None) -> list[Progress]:
    """The outcome of tasks that are run at once."""
    known = [None if cache is None else cache.load(task) for task in tasks]
    reused = [
        Progress(task, rows, None, reused=True)
        for task, rows in zip(tasks, known, strict=True)
        if rows is not None
    ]
    if len(reused) == len(tasks):
        return reused
    try:
        found = _run(tasks)
    except DataError as error:
        return [Progress(task, {}, str(error), reused=False) for task in tasks]
    for task, rows in zip(tasks, found, strict=True):
        if cache is not None:
            cache.store(task, rows)
    return [Progress(*each, None, reused=False) for each in zip(tasks, found, strict=True)]


def _run(tasks: Sequence[Task]) -> Sequence[Rows]:
    return run_fleet(tasks) if tasks[0].fleet else [run_task(task) for task in tasks]

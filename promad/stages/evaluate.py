"""`promad evaluate`: what the configured models find in labelled data, beside simple scores.

Read `promad.experiments` next: `judging` makes the rows of one task, `running` has that done, here
or on workers, `cache` remembers them,
`outcome` sums them up, and `report` draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from promad.config import Config
from promad.errors import DataError
from promad.evaluation.labelled import TEST_TIMES, entities_in
from promad.evaluation.naive import NAIVE
from promad.experiments.cache import EvaluationCache
from promad.experiments.outcome import Evaluation
from promad.experiments.rows import Row, Rows
from promad.experiments.running import run_tasks
from promad.experiments.tasks import (
    LINEAR_ROW,
    Columns,
    Task,
    includes_linear,
    list_fleet_tasks,
    list_tasks,
    name_pooled,
)
from promad.parallel.engine import Backend
from promad.parallel.running import Failure


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
        backend: what trains and scores.
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
    backend: Backend = field(default_factory=Backend)
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
    found: dict[str, dict[int, dict[str, Row]]] = {
        folder.resolve().name: {seed: {} for seed in options.seeds} for folder in folders
    }
    failed: dict[str, str] = {}
    extra = () if includes_linear(configs) else (LINEAR_ROW,)
    for progress in _run_all(work, options.cache, options.backend):
        done(progress)
        task = progress.task
        if progress.failure is not None:
            failed.setdefault(task.entity, progress.failure)
        for seed in options.seeds if task.row in extra else (task.seed,):
            found[task.entity][seed].update(progress.rows)
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
    wanted = (configs, options.seeds, options.columns, options.scores_to, options.budgets)
    tasks = (list_tasks(folder, *wanted) for folder in folders)
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
    work: Sequence[Sequence[Task]], cache: EvaluationCache | None, backend: Backend
) -> Iterator[Progress]:
    """The outcome of each task: first those that are known, then the others as they finish."""
    total, number = sum(map(len, work)), 0
    left = []
    for tasks in work:
        known = _find_known(tasks, cache)
        if len(known) < len(tasks):
            left.append(tasks)
            continue
        for progress in known:
            number += 1
            yield replace(progress, number=number, total=total)
    for place, found in run_tasks(left, backend):
        for progress in _enter(left[place], found, cache):
            number += 1
            yield replace(progress, number=number, total=total)


def _find_known(tasks: Sequence[Task], cache: EvaluationCache | None) -> list[Progress]:
    """Those of the tasks that an earlier run had finished."""
    if cache is None:
        return []
    known = ((task, cache.load(task)) for task in tasks)
    return [Progress(task, rows, None, reused=True) for task, rows in known if rows is not None]


def _enter(
    tasks: Sequence[Task], found: Sequence[Rows] | Failure, cache: EvaluationCache | None
) -> Iterator[Progress]:
    """The outcome of tasks that were run at once; their rows are kept."""
    if isinstance(found, Failure):
        yield from (Progress(task, {}, found.reason, reused=False) for task in tasks)
        return
    for task, rows in zip(tasks, found, strict=True):
        if cache is not None:
            cache.store(task, rows)
        yield Progress(task, rows, None, reused=False)

"""Running tasks: here, or on workers that have neither the files nor the server's settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow.parquet as pq

from promad.config import PrometheusSettings
from promad.errors import DataError
from promad.evaluation.labelled import LabelledData, read_labelled
from promad.experiments.fleet import run_fleet
from promad.experiments.judging import run_task
from promad.experiments.rows import Row, Rows
from promad.experiments.tasks import Task
from promad.files import write_whole
from promad.parallel.backend import open_engine
from promad.parallel.engine import Backend
from promad.parallel.running import Failure, run_each


@dataclass(frozen=True)
class _Work:
    """Tasks that are run at once.

    Attributes:
        data: of each task; None if the worker is to read it.
        unread: why it cannot be read.
    """

    tasks: Sequence[Task]
    data: Sequence[LabelledData] | None = None
    unread: str = ""


def run_tasks(
    work: Sequence[Sequence[Task]], backend: Backend
) -> Iterator[tuple[int, Sequence[Rows] | Failure]]:
    """The rows of the tasks that are run at once, with their place in `work`, as they finish.

    Scores are written where tasks ask for them.

    Raises:
        PromadError: if the backend cannot be used.
        DataError: if scores cannot be written.
    """
    if not work:
        return
    prepare = _hide_server if backend.is_here else _read
    with open_engine(backend) as engine:
        items = ((place, prepare(tasks)) for place, tasks in enumerate(work))
        for place, found in run_each(_run, None, items, engine):
            if isinstance(found, Failure):
                yield place, found
            else:
                yield (
                    place,
                    [
                        _write_scores(task, rows)
                        for task, rows in zip(work[place], found, strict=True)
                    ],
                )


def _hide_server(tasks: Sequence[Task]) -> _Work:
    """The tasks without what the server is asked with: no task asks it."""
    return _Work(
        [
            replace(
                task, config=task.config.model_copy(update={"prometheus": PrometheusSettings()})
            )
            for task in tasks
        ]
    )


def _read(tasks: Sequence[Task]) -> _Work:
    """The same with their data, for workers that have no files."""
    work = _hide_server(tasks)
    try:
        return replace(work, data=[read_labelled(task.folder) for task in tasks])
    except DataError as error:
        return replace(work, unread=str(error))


def _run(_: None, work: _Work) -> Sequence[Rows]:
    if work.unread:
        raise DataError(work.unread)
    tasks = work.tasks
    data = work.data if work.data is not None else [read_labelled(task.folder) for task in tasks]
    if tasks[0].fleet:
        return run_fleet(tasks, data)
    return [run_task(task, own) for task, own in zip(tasks, data, strict=True)]


def _write_scores(task: Task, rows: Rows) -> Rows:
    """The rows without their scores, which are on disk then."""
    return {name: _write(task, row) for name, row in rows.items()}


def _write(task: Task, row: Row) -> Row:
    if row.scores is None or task.scores_path is None:
        return row
    with write_whole(task.scores_path) as aside:
        pq.write_table(row.scores, aside)
    return replace(row, scores=None)

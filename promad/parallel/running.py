"""`run_each`: the one loop over tasks, whatever does the work.

A task travels as its function by name, its settings, and its arrays. A task that fails is a
`Failure`, and the others go on. If workers end unexpectedly, what they had at hand is done again,
in ever smaller parts, so that a task which ends its worker each time is found.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

import promad
from promad.errors import PromadError
from promad.parallel.engine import Engine, find_version

_Task = tuple[Callable[[Any, Any], Any], Any, Any]
"""The work, its settings and its item: a plain tuple, which Dask sends with the task. Whatever else
is large, joblib puts on a worker beforehand, and it would be lost with that worker."""

_FAILURES = (
    ArithmeticError,
    LookupError,
    MemoryError,
    OSError,
    PromadError,
    ValueError,
    np.linalg.LinAlgError,
)
"""What a task may fail by without ending the others."""


@dataclass(frozen=True)
class Failure:
    """Why a task has no result."""

    reason: str


LOST = Failure("its worker ended unexpectedly — check the memory limit of the workers")
"""Of a task that ends its worker each time."""


@dataclass(frozen=True)
class _OtherVersion:
    """What a worker returns whose promad would do the work in another way."""

    version: str


def run_each[Settings, Item, Result](
    work: Callable[[Settings, Item], Result],
    settings: Settings,
    items: Iterable[tuple[int, Item]],
    engine: Engine,
    most: int | None = None,
) -> Iterator[tuple[int, Result | Failure]]:
    """What `work` makes of each item, with its number, as they finish.

    Args:
        work: a function of a module of promad.
        settings: what is the same for all items.
        items: with a number each; they are taken as workers become free.
        most: items that are worked at, at most, at the same time.

    Raises:
        PromadError: if a worker has another version of promad.
    """
    if engine.configure is None:
        for number, item in items:
            yield number, _attempt(work, settings, item)
        return
    flying: dict[int, _Task] = {}

    def pack() -> Iterator[tuple[int, _Task]]:
        for number, item in items:
            flying[number] = (work, settings, item)
            yield number, flying[number]

    waiting = pack()
    at_once = min(engine.jobs, most or engine.jobs)
    ahead = at_once if most else 2 * at_once
    while (call := _take_call(waiting, engine)) is not None:
        try:
            for number, result in _call(call, engine, ahead):
                del flying[number]
                yield number, result
        except engine.lost:
            lost = list(flying.items())
            for number, result in _call_again(lost, engine, ahead):
                del flying[number]
                yield number, result
        engine.recycle()


def _take_call(waiting: Iterator[Any], engine: Engine) -> Iterator[Any] | None:
    """The tasks of the next call, which are taken one by one; None if there are no more."""
    first = next(waiting, None)
    if first is None:
        return None
    rest = waiting if engine.tasks_per_call is None else islice(waiting, engine.tasks_per_call - 1)
    return _chain(first, rest)


def _chain(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest


def _call(
    tasks: Iterable[tuple[int, _Task]], engine: Engine, ahead: int
) -> Iterator[tuple[int, Any]]:
    from joblib import delayed

    calls = (delayed(_work)(number, task, promad.__version__) for number, task in tasks)
    how = "generator_unordered" if engine.streams else "list"
    try:
        yield from _run_call(calls, engine, how, ahead)
    except TimeoutError as error:
        raise PromadError(
            f"--backend {engine.name}: no workers are left — start some, and repeat the command"
        ) from error


def _run_call(
    calls: Iterable[Any], engine: Engine, how: str, ahead: int
) -> Iterator[tuple[int, Any]]:
    from joblib import Parallel, parallel_config

    parameters = engine.configure() if engine.configure else {}
    with parallel_config(**parameters), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sending large graph", UserWarning)
        for number, result in Parallel(
            return_as=how, pre_dispatch=ahead, batch_size=1, max_nbytes=None
        )(calls):
            if isinstance(result, _OtherVersion):
                raise _build_version_error(engine, f"of task {number}", result.version)
            yield number, result


def _call_again(
    tasks: list[tuple[int, _Task]], engine: Engine, ahead: int
) -> Iterator[tuple[int, Any]]:
    """The results of tasks that were at work when a worker ended unexpectedly.

    They are halved until those that end a worker each time are alone.
    """
    half = (len(tasks) + 1) // 2
    for part in filter(None, (tasks[:half], tasks[half:])):
        left = dict(part)
        try:
            for number, result in _call(part, engine, ahead):
                del left[number]
                yield number, result
        except engine.lost:
            if len(part) > 1:
                yield from _call_again(list(left.items()), engine, ahead)
            else:
                yield part[0][0], LOST


def _work(number: int, task: _Task, version: str) -> tuple[int, Any]:
    """What a worker does."""
    if promad.__version__ != version:
        return number, _OtherVersion(promad.__version__)
    return number, _attempt(*task)


def _attempt[Settings, Item, Result](
    work: Callable[[Settings, Item], Result], settings: Settings, item: Item
) -> Result | Failure:
    try:
        return work(settings, item)
    except PromadError as error:
        return Failure(str(error))
    except _FAILURES as error:
        return Failure(f"{type(error).__name__}: {error}")


def require_same_version(engine: Engine) -> None:
    """Refuse workers that would do the work in another way.

    Raises:
        PromadError: naming the first of them.
    """
    if engine.configure is None:
        return
    unusable: tuple[type[BaseException], ...] = (ImportError, AttributeError, *engine.lost)
    try:
        found = engine.ask_versions() if engine.ask_versions else _ask_some(engine)
    except unusable as error:
        why = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise PromadError(
            f"--backend {engine.name}: a worker cannot run promad ({why[0]}) — install "
            f"promad-exporter=={promad.__version__} there"
        ) from error
    for worker, version in found.items():
        if version != promad.__version__:
            raise _build_version_error(engine, worker, version)


def _ask_some(engine: Engine) -> Mapping[str, str]:
    """The versions that as many tasks find as there are workers."""
    tasks = ((number, (_find_version, None, None)) for number in range(engine.jobs))
    return {f"of task {number}": version for number, version in _call(tasks, engine, engine.jobs)}


def _find_version(settings: None, item: None) -> str:
    return find_version()


def _build_version_error(engine: Engine, worker: str, version: str) -> PromadError:
    return PromadError(
        f"--backend {engine.name}: the worker {worker} has promad {version}, this is "
        f"{promad.__version__} — install promad-exporter=={promad.__version__} there"
    )

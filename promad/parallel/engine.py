"""`Engine`: a backend that is ready for work."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import promad
from promad.errors import PromadError


@dataclass(frozen=True)
class Backend:
    """Where work is done.

    Attributes:
        name: of an engine; `inline` is this process.
        scheduler: where the cluster is; None starts one on this machine.
        jobs: tasks at a time; None for as many as there are workers, or processors.
        requests: that are made of a server at the same time, by all workers together.
    """

    name: str = "inline"
    scheduler: str | None = None
    jobs: int | None = None
    requests: int = 4

    @property
    def is_here(self) -> bool:
        """Whether workers are processes of this machine, with its files."""
        return self.name in {"inline", "loky"}


@dataclass(frozen=True)
class Engine:
    """What `run_each` knows of an opened backend.

    Attributes:
        configure: gives the parameters of `joblib.parallel_config` for one call; None for this
            process.
        jobs: how many workers there are.
        streams: whether results come as they finish, rather than all at the end of a call.
        tasks_per_call: after so many a call is over; None for one call.
        lost: what is raised if a worker ends unexpectedly.
        recycle: called after each call; replaces the workers, if that is how the engine does it.
        ask_versions: gives what `find_version` returns on each worker, by its name; None if the
            engine has no way to ask each.
    """

    name: str
    jobs: int = 1
    configure: Callable[[], Mapping[str, Any]] | None = None
    streams: bool = True
    tasks_per_call: int | None = None
    lost: tuple[type[BaseException], ...] = ()
    recycle: Callable[[], None] = field(default=lambda: None)
    ask_versions: Callable[[], Mapping[str, str]] | None = None


def find_version() -> str:
    """The version of promad here."""
    return promad.__version__


def build_connect_error(backend: Backend, kind: str, why: str, command: str) -> PromadError:
    """That a cluster does not answer, or that none could be started on this machine."""
    if backend.scheduler is None:
        return PromadError(
            f"--backend {backend.name}: {kind} did not start on this machine ({why}) — name a "
            "cluster with --scheduler, or use --backend loky"
        )
    return PromadError(
        f"--scheduler {backend.scheduler}: no {kind} cluster ({why}) — start one with {command}"
    )


def count_processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0))


ONE_THREAD: Mapping[str, str] = dict.fromkeys(
    ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"
)
"""The environment of a worker, which has one processor."""


@contextmanager
def set_environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Give these variables to processes that are started meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

"""`loky`: processes on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager

from promad.parallel.engine import ONE_THREAD, Backend, Engine, count_processors, set_environment

_TASKS_PER_PROCESS = 100
"""Memory that a library leaks is returned after so many tasks."""


@contextmanager
def open_processes(backend: Backend) -> Iterator[Engine]:
    """Processes of one thread each, which are replaced from time to time; for one, this process."""
    jobs = backend.jobs or count_processors()
    if jobs == 1:
        yield Engine("loky")
        return
    with set_environment(ONE_THREAD):
        try:
            yield Engine(
                "loky",
                jobs,
                lambda: {"backend": "loky", "n_jobs": jobs},
                tasks_per_call=_TASKS_PER_PROCESS * jobs,
                lost=(BrokenExecutor,),
                recycle=_end_processes,
            )
        finally:
            _end_processes()


def _end_processes() -> None:
    """End the processes that joblib keeps for later calls."""
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(wait=True)

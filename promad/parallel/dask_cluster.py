"""`dask`: the workers of a Dask scheduler."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from promad.errors import PromadError
from promad.parallel.engine import Backend, Engine, count_processors, find_version
from promad.parallel.running import LOST

if TYPE_CHECKING:
    from distributed import Client

_CONNECT_SECONDS = 10
_WORKER_SECONDS = 60
"""How long to wait if all workers are gone: a nanny starts them again."""


@contextmanager
def open_dask(backend: Backend) -> Iterator[Engine]:
    """The workers of the scheduler, or of one that is started here.

    Raises:
        PromadError: if the scheduler does not answer, or its workers do not suit.
    """
    from distributed import LocalCluster

    if backend.scheduler is not None:
        with _connect(backend.scheduler) as client:
            yield _describe(client, backend)
        return
    jobs = backend.jobs or count_processors()
    quiet = {"dashboard_address": None, "silence_logs": logging.CRITICAL}
    with (
        LocalCluster(n_workers=jobs, threads_per_worker=1, **quiet) as cluster,
        _connect(cluster.scheduler_address) as client,
    ):
        yield _describe(client, backend)


def _connect(address: str) -> Client:
    from distributed import Client

    try:
        return Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise PromadError(
            f"--scheduler {address}: no Dask scheduler ({why}) — start one with dask scheduler"
        ) from error


def _describe(client: Client, backend: Backend) -> Engine:
    from distributed.comm.core import CommClosedError

    threads: Mapping[str, int] = client.nthreads()
    _require_single_threads(threads, client.scheduler.address)
    jobs = min(backend.jobs or len(threads), len(threads))

    def ask_versions() -> Mapping[str, str]:
        found: Mapping[str, str] = client.run(find_version)
        return found

    return Engine(
        "dask",
        jobs,
        lambda: {"backend": _make_backend(client)},  # one that lost a task cannot be used again
        lost=(CommClosedError, CancelledError),
        ask_versions=ask_versions,
    )


def _make_backend(client: Client) -> Any:
    """Joblib's own backend for Dask, which also reports a task that Dask gave up.

    joblib 1.6 waits for such a task without end: it calls nothing back. Dask gives a task up that
    was running on four workers when they ended, and does all others again by itself.
    """
    from distributed.scheduler import KilledWorker
    from joblib._dask import DaskDistributedBackend

    class ReportingBackend(DaskDistributedBackend):  # type: ignore[misc]
        def effective_n_jobs(self, n_jobs: int) -> int:
            jobs: int = super().effective_n_jobs(n_jobs)
            return max(2, jobs)  # for one, joblib would do the work here

        def submit(self, func: Any, callback: Any = None) -> Any:
            numbers = [arguments[0] for _, arguments, _ in func.items]

            def report(done: Future[Any]) -> None:
                error = done.exception()
                if isinstance(error, KilledWorker):
                    callback([(number, LOST) for number in numbers])
                elif error is not None:
                    callback(error)

            future = super().submit(func, callback)
            future.add_done_callback(report)
            return future

    return ReportingBackend(client=client, wait_for_workers_timeout=_WORKER_SECONDS)


def _require_single_threads(threads: Mapping[str, int], address: str) -> None:
    """Refuse a cluster without workers, and workers that work at several tasks in one process.

    Seeds and settings of Keras are those of a process.
    """
    if not threads:
        raise PromadError(
            f"--scheduler {address}: has no workers — start some with dask worker {address} "
            "--nthreads 1 --nworkers N"
        )
    for worker, count in threads.items():
        if count > 1:
            raise PromadError(
                f"--scheduler {address}: the worker {worker} has {count} threads, and may have 1 "
                f"— start it with --nthreads 1 --nworkers {count}"
            )

"""A real Dask cluster: a scheduler and workers, each a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class DaskCluster:
    """The scheduler's address, and the processes of the workers."""

    address: str
    workers: list[subprocess.Popen[bytes]]


@contextmanager
def start_dask(
    directory: Path, workers: int, environment: Mapping[str, str] | None = None
) -> Iterator[DaskCluster]:
    """A scheduler and workers of one thread each, which restart nothing that ends."""
    about = directory / "scheduler.json"
    base = [sys.executable, "-W", "ignore", "-m", "distributed.cli.dask_"]
    quiet = ["--no-dashboard"]
    local = ["--host", "127.0.0.1", "--port", "0"]
    started = [
        _start(directory, base, "scheduler", [*local, *quiet, "--scheduler-file", str(about)], {})
    ]
    options = ["--no-nanny", "--nthreads", "1", "--death-timeout", "60", *quiet]
    options += ["--scheduler-file", str(about), "--local-directory", str(directory)]
    try:
        _wait_for(about)
        started += [
            _start(directory, base, "worker", options, environment or {}) for _ in range(workers)
        ]
        yield DaskCluster(json.loads(about.read_text())["address"], started[1:])
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.wait()


def _start(
    directory: Path, base: list[str], part: str, options: list[str], more: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    command = [*base[:-1], base[-1] + part, *options]
    variables = {
        **os.environ,
        **more,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    with (directory / "dask.log").open("ab") as log:
        return subprocess.Popen(command, env=variables, stdout=log, stderr=log)


def _wait_for(path: Path) -> None:
    for _ in range(600):
        if path.exists() and path.read_text().endswith("}"):
            return
        time.sleep(0.1)
    raise AssertionError(f"no scheduler: {path.parent / 'dask.log'}")

"""Processes that benchmarks start, and what a process uses by /proc."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from promad.simulation.fleet import Fleet
from promad.simulation.server import SimulationServer

SPAWN = multiprocessing.get_context("spawn")
_ROOT = Path(__file__).parents[1]
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_READY_SECONDS = 120


@dataclass(frozen=True)
class Used:
    """What a process used: seconds, and the peak of its memory in MB."""

    wall: float
    cpu: float
    peak_mb: float


def read_cpu(process: int) -> float:
    """Seconds of processor time that a process has used so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


def read_memory_mb(process: int) -> float:
    """Resident memory of a process in MB."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmRSS"))


def run_promad(config: Path, *command: str) -> Used:
    """Run a command of promad to its end; its output is beside the configuration.

    Raises:
        SystemExit: if it fails, with the end of its output.
    """
    began, log = time.perf_counter(), config.parent / f"{command[0]}.log"
    process = _start_promad(config, *command)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if status:
        sys.exit(f"promad {command[0]} failed: {log.read_text()[-2000:]}")
    cpu = used.ru_utime + used.ru_stime
    return Used(time.perf_counter() - began, cpu, used.ru_maxrss * 1024 / 1e6)


@contextmanager
def run_detect(config: Path, url: str) -> Iterator[int]:
    """Run `promad detect` until the block ends; yields its process when it is ready.

    Raises:
        SystemExit: if it is not ready in time, with the end of its output.
    """
    process = _start_promad(config, "detect")
    try:
        if not _wait_until_ready(url, process):
            log = (config.parent / "detect.log").read_text()[-2000:]
            sys.exit(f"promad detect is not ready after {_READY_SECONDS} s: {log}")
        yield process.pid
    finally:
        process.terminate()
        process.wait(30)


def _start_promad(config: Path, *command: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    with (config.parent / f"{command[0]}.log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "promad", "-c", str(config), *command],
            cwd=_ROOT,
            env=environment,
            stdout=log,
            stderr=log,
        )


def _wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if requests.get(f"{url}/-/ready", timeout=5).ok:
                return True
        except requests.RequestException:
            pass
        time.sleep(0.2)
    return False


@contextmanager
def run_aside(work: Callable[..., None], *arguments: Any) -> Iterator[int]:
    """Run a function in a process of its own until the block ends; yields the process."""
    process = SPAWN.Process(target=work, args=arguments, daemon=True)
    process.start()
    assert process.pid is not None
    try:
        yield process.pid
    finally:
        process.terminate()
        process.join()


@dataclass(frozen=True)
class Served:
    """The embedded server in its process."""

    url: str
    process: int


@contextmanager
def serve_fleet(fleet: Fleet, interval: float, now: Any = None, port: int = 0) -> Iterator[Served]:
    """Run the embedded server in a process of its own until the block ends.

    Its `/metrics` exposes all hosts, for a real Prometheus to scrape.

    Args:
        interval: seconds between two samples.
        now: a shared number, the time of the server; None for the time of the machine.
        port: on 127.0.0.1; 0 takes any free one.
    """
    ready = SPAWN.Queue()
    with run_aside(_serve, fleet, interval, now, port, ready) as process:
        yield Served(ready.get(timeout=60), process)


def _serve(fleet: Fleet, interval: float, now: Any, port: int, ready: Any) -> None:
    def read_clock() -> float:
        return time.time() if now is None else float(now.value)

    with SimulationServer(fleet, read_clock, port, scrape_interval=interval) as url:
        ready.put(url)
        threading.Event().wait()

"""A simulated fleet on a server in a process of its own, and the processor time that it takes."""

from __future__ import annotations

import multiprocessing
import os
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

from promad.simulation.fleet import build_fleet
from promad.simulation.server import SimulationServer


@dataclass(frozen=True)
class ServerCpu:
    """The processor time of the server: of a process of ours, or as it tells itself."""

    process: int | None
    url: str

    def read(self) -> float:
        """Seconds; NaN if the server does not tell."""
        if self.process is not None:
            fields = Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        try:
            with urllib.request.urlopen(f"{self.url}/metrics", timeout=10) as answer:  # noqa: S310
                for line in answer.read().decode().splitlines():
                    if line.startswith("process_cpu_seconds_total "):
                        return float(line.split()[1])
        except (OSError, ValueError):
            pass
        return float("nan")


@contextmanager
def serve_fleet(
    seed: int, groups: int, features: int, interval: float, now: Synchronized[float]
) -> Iterator[tuple[str, int]]:
    """The URL of a server whose clock is `now`, and its process; see `build_fleet`.

    Args:
        interval: seconds between scrapes.
    """
    spawn = multiprocessing.get_context("spawn")
    ready: multiprocessing.Queue[str] = spawn.Queue()
    process = spawn.Process(
        target=_run_server, args=(seed, groups, features, interval, now, ready), daemon=True
    )
    process.start()
    try:
        yield ready.get(timeout=60), process.pid or 0
    finally:
        process.terminate()
        process.join()


def _run_server(
    seed: int,
    groups: int,
    features: int,
    interval: float,
    now: Synchronized[float],
    ready: multiprocessing.Queue[str],
) -> None:
    fleet = build_fleet(seed=seed, hosts=groups, features=features)
    with SimulationServer(fleet, lambda: float(now.value), scrape_interval=interval) as url:
        ready.put(url)
        threading.Event().wait()

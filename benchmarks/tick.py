"""What a tick of `promad detect` costs beside a plain loop, for one group of many queries.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.tick [--queries 38] [--ticks 100] [--rounds 3]

Starts a Prometheus of its own with a made-up history, and follows it in four ways, in turn:

* promad: the daemon with a linear model, from the poll to the published metrics
* single: the same, with a request for each query (`union_queries: false`)
* scraped: the same, with its metrics read at each tick over a new connection
* plain: a loop of `requests.get` for the newest 20 samples of each query, pandas, and
  `model.predict` of a Keras LSTM autoencoder

Only the clock does not wait. CPU time of the client in milliseconds a tick: the median, and the
quartiles, over all rounds. The first ticks, which read the history, are left out.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import numpy as np

from promad.config import Config
from promad.stages.detect import detect

STEP = 15
WINDOW = 20
WARM_TICKS = 5
HOURS = 6


@dataclass
class Taken:
    """What the ticks took: CPU and wall time in seconds; and resident memory after them, in MB."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    memory: float = 0.0

    def add(self, cpu: list[float], wall: list[float]) -> None:
        """Add one reading of both clocks after each tick."""
        self.cpu += np.diff(cpu)[WARM_TICKS:].tolist()
        self.wall += np.diff(wall)[WARM_TICKS:].tolist()
        self.memory = max(self.memory, read_memory())


@dataclass(frozen=True)
class Task:
    """What is followed, and for how many ticks up to unix time `end`."""

    url: str
    queries: dict[str, str]
    end: float
    ticks: int
    artifacts: Path

    @property
    def begin(self) -> float:
        return self.end - (self.ticks + WARM_TICKS) * STEP


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=38)
    parser.add_argument("--ticks", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=list(WAYS))
    arguments = parser.parse_args()
    from benchmarks.collect import expressions, write_history
    from tests.support.prometheus_server import PrometheusServer

    end = (time.time() - 7200) // STEP * STEP
    with tempfile.TemporaryDirectory(prefix="promad-benchmark-") as name:
        directory = Path(name)
        server = PrometheusServer(directory / "server")
        history = directory / "history.om"
        write_history(history, arguments.queries, end - HOURS * 3600, end, STEP)
        server.backfill(history)
        with server:
            queries = expressions(arguments.queries)
            task = Task(server.url, queries, end, arguments.ticks, directory / "artifacts")
            run(train_detector, task)
            ways = [arguments.only] if arguments.only else list(WAYS)
            report(measure(ways, task, arguments.rounds))


def measure(ways: list[str], task: Task, rounds: int) -> dict[str, Taken]:
    """What the ticks of each way took, over all rounds; the ways take turns."""
    taken = {way: Taken() for way in ways}
    for _ in range(rounds):
        for way, total in taken.items():
            found = run(WAYS[way], task)
            total.cpu += found.cpu
            total.wall += found.wall
            total.memory = max(total.memory, found.memory)
    return taken


def report(taken: dict[str, Taken]) -> None:
    print("| way | CPU (ms a tick) | quartiles | wall (ms a tick) | memory (MB) |")
    print("|---|---|---|---|---|")
    for way, found in taken.items():
        low, middle, high = np.quantile(found.cpu, [0.25, 0.5, 0.75]) * 1000
        print(
            f"| {way} | {middle:.1f} | {low:.1f}-{high:.1f} "
            f"| {np.median(found.wall) * 1000:.1f} | {found.memory:.0f} |"
        )
    if len(taken) == len(WAYS):
        plain, promad = (np.median(taken[way].cpu) for way in ("plain", "promad"))
        print(f"plain / promad: {plain / promad:.1f}")


def run(work: Callable[[Task], Any], task: Task) -> Any:
    """The result of work in a process of its own, so that no memory is taken for another's.

    The process imports this module, so only what `detect` needs is imported at its top.
    """
    spawn = multiprocessing.get_context("spawn")
    results: Queue[Any] = spawn.Queue()
    process = spawn.Process(target=_run_inside, args=(work, task, results))
    process.start()
    result = results.get(timeout=3600)
    process.join()
    if isinstance(result, BaseException):
        raise result
    return result


def _run_inside(work: Callable[[Task], Any], task: Task, results: Queue[Any]) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    try:
        results.put(work(task))
    except BaseException as error:
        results.put(RuntimeError(repr(error)))
        raise


def build_config(task: Task, **prometheus: Any) -> Config:
    return Config.model_validate(
        {
            "prometheus_url": task.url,
            "prometheus": prometheus,
            "artifacts_dir": task.artifacts,
            "queries": task.queries,
            "data_settings": {"step": f"{STEP}s"},
            "training_settings": {"model": "linear", "gate": False},
            "real_time_anomaly_detection": {
                "query_interval_seconds": STEP,
                "latency_offset": "0s",
                "history_samples": 1,  # otherwise it is filled in the background meanwhile
            },
        }
    )


def train_detector(task: Task) -> None:
    from promad.data.artifacts import write_frames
    from promad.data.frame import single_group
    from promad.stages.preprocess import preprocess
    from promad.stages.train import train

    config = build_config(task)
    values = np.random.default_rng(3).normal(50.0, 20.0, size=(2000, len(task.queries)))
    path = config.artifacts_dir / config.data_settings.output_filename
    metadata = {
        "server": task.url,
        "queries": json.dumps(config.promql),
        "step_seconds": repr(float(STEP)),
    }
    frame = single_group(task.begin - 2000 * STEP, float(STEP), config.features, values)
    write_frames(path, [frame], metadata)
    preprocess(config)
    train(config, lambda *_: None, now=lambda: task.begin)


class DrivenClock:
    """A clock that goes on to the next tick as soon as the daemon waits for it."""

    def __init__(self, task: Task) -> None:
        self._now, self._end = task.begin, task.end
        self.port = 0
        self.cpu: list[float] = []
        self.wall: list[float] = []
        self.done = threading.Event()

    def now(self) -> float:
        return self._now

    def elapsed(self) -> float:
        return self._now

    def wait_until(self, at: float, stop: threading.Event) -> None:
        if at > self._end or stop.is_set():
            self.done.set()
            stop.wait()
            return
        if self.port:
            scrape(self.port)
        self._now = at
        self.cpu.append(time.process_time())
        self.wall.append(time.perf_counter())


def scrape(port: int) -> None:
    """Read the metrics, with next to no work of this process's own."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        while connection.recv(2**20):
            pass


def follow_with_promad(task: Task, scraped: bool = False, **prometheus: Any) -> Taken:
    clock = DrivenClock(task)
    with detect([build_config(task, **prometheus)], clock, "127.0.0.1", 0) as daemon:
        clock.port = daemon.port if scraped else 0
        clock.done.wait()
        taken = Taken()
        taken.add(clock.cpu, clock.wall)
        assert daemon.served()[0].snapshot().groups[0].verdict.score is not None
    return taken


def follow_plainly(task: Task) -> Taken:
    """The loop that one writes first: everything anew at each tick."""
    import keras
    import pandas as pd
    import requests

    count = len(task.queries)
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((WINDOW, count)),
            layers.LSTM(64, return_sequences=True),
            layers.LSTM(32),
            layers.RepeatVector(WINDOW),
            layers.LSTM(32, return_sequences=True),
            layers.LSTM(64, return_sequences=True),
            layers.TimeDistributed(layers.Dense(count)),
        ]
    )
    cpu, wall = [], []
    for at in np.arange(task.begin, task.end, STEP).tolist():
        columns = []
        for alias, expr in task.queries.items():
            parameters = {"query": expr, "start": at - WINDOW * STEP, "end": at, "step": f"{STEP}s"}
            answer = requests.get(
                f"{task.url}/api/v1/query_range", params=parameters, timeout=30
            ).json()
            points = answer["data"]["result"][0]["values"]
            frame = pd.DataFrame(points, columns=["time", alias])
            frame[alias] = pd.to_numeric(frame[alias])
            columns.append(frame.set_index(pd.to_datetime(frame["time"], unit="s"))[[alias]])
        window = pd.concat(columns, axis=1).ffill().to_numpy(np.float32)[-WINDOW:]
        expected = model.predict(window[np.newaxis] / 100.0, verbose=0)
        float(np.mean((expected - window / 100.0) ** 2))
        cpu.append(time.process_time())
        wall.append(time.perf_counter())
    taken = Taken()
    taken.add(cpu, wall)
    return taken


def read_memory() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def follow_one_by_one(task: Task) -> Taken:
    return follow_with_promad(task, union_queries=False)


def follow_scraped(task: Task) -> Taken:
    return follow_with_promad(task, scraped=True)


WAYS: dict[str, Callable[[Task], Taken]] = {
    "promad": follow_with_promad,
    "single": follow_one_by_one,
    "scraped": follow_scraped,
    "plain": follow_plainly,
}


if __name__ == "__main__":
    main()

"""What the stages of a fleet take: `python -m benchmarks.fleet_stages --groups 1000 --days 7`.

A collected file of simulated hosts is written, then `preprocess` and `train` (pooled linear) run,
each in a process of its own: wall and CPU seconds, and the peak of its memory. With `--collect` the
file is fetched from the embedded server instead, beside a bare download of the same answers.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import requests

from promad.config import Config
from promad.data.artifacts import write_groups
from promad.data.frame import MetricFrame
from promad.data.groups import sort_labels
from promad.simulation.fleet import build_fleet
from promad.simulation.server import SimulationServer
from promad.stages.collect import collect
from promad.stages.preprocess import preprocess
from promad.stages.train import train

START = 1_767_225_600.0
SEED = 5
BLOCK = 50
"""Hosts whose values are made at once."""


@dataclass(frozen=True)
class Taken:
    """What a stage took: seconds, and the peak of its memory in MB."""

    stage: str
    wall: float
    cpu: float
    peak_mb: float


def build_config(folder: Path, features: tuple[str, ...], step: float, url: str) -> Config:
    return Config.model_validate(
        {
            "name": "fleet",
            "prometheus_url": url,
            "artifacts_dir": folder,
            "group_by": ["instance"],
            "queries": {name: name for name in features},
            "data_settings": {"step": f"{step:g}s"},
            "training_settings": {"model": "linear"},
            "real_time_anomaly_detection": {"latency_offset": "1s"},
        }
    )


def write_collected(config: Config, hosts: int, days: float) -> None:
    """The file that `collect` would have written."""
    step = config.data_settings.step
    samples = round(days * 86400 / step)
    fleet = build_fleet(seed=SEED, hosts=hosts, features=len(config.features))
    times = np.asarray(START - step * np.arange(samples, 0, -1), np.float64)

    def groups() -> Any:
        for first in range(0, hosts, BLOCK):
            rows = np.arange(first, min(first + BLOCK, hosts))
            values = fleet.values(times, rows, range(len(config.features)))
            for place, row in enumerate(rows.tolist()):
                labels = sort_labels({"instance": fleet.labels[row]["instance"]})
                own = values[place : place + 1]
                yield [MetricFrame(float(times[0]), step, config.features, (labels,), own)]

    metadata = {
        "server": config.prometheus_url,
        "queries": json.dumps(config.promql),
        "step_seconds": repr(step),
    }
    path = config.artifacts_dir / config.data_settings.output_filename
    write_groups(path, step, ["instance"], groups(), lambda: metadata)


def run_preprocess(config: Config) -> None:
    preprocess(config)


def run_train(config: Config) -> None:
    train(config, lambda *_: None, now=lambda: START)


def run_collect(config: Config) -> None:
    collect(config, now=START, refresh=True)


def download(config: Config) -> None:
    """Ask for the same days, one query after the other, and keep nothing."""
    data = config.data_settings
    end = START
    start = end - data.collection_period_hours * 3600
    with requests.Session() as session:
        for expr in config.promql.values():
            for first in np.arange(start, end, 6 * 3600):
                form = {
                    "query": expr,
                    "start": first,
                    "end": min(first + 6 * 3600 - data.step, end),
                    "step": data.step,
                }
                url = f"{config.prometheus_url}/api/v1/query_range"
                session.post(url, data=form, timeout=300).raise_for_status()


def _measure(work: Callable[[Config], None], config: Config, queue: Any) -> None:
    began = time.perf_counter()
    work(config)
    used = resource.getrusage(resource.RUSAGE_SELF)
    queue.put((time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024))


def measure(stage: str, work: Callable[[Config], None], config: Config) -> Taken:
    """Run a stage in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    queue = spawn.Queue()
    process = spawn.Process(target=_measure, args=(work, config, queue))
    process.start()
    found = queue.get()
    process.join()
    return Taken(stage, *found)


def _serve(hosts: int, features: int, step: float, ready: Any) -> None:
    fleet = build_fleet(seed=SEED, hosts=hosts, features=features)
    with SimulationServer(fleet, lambda: START, scrape_interval=step) as url:
        ready.put(url)
        time.sleep(1e6)


@contextmanager
def serve(hosts: int, features: int, step: float) -> Any:
    """The embedded server in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Queue()
    process = spawn.Process(target=_serve, args=(hosts, features, step, ready), daemon=True)
    process.start()
    try:
        yield ready.get()
    finally:
        process.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", type=int, default=100)
    parser.add_argument("--features", type=int, default=38)
    parser.add_argument("--days", type=float, default=7.0)
    parser.add_argument("--step", type=float, default=30.0)
    parser.add_argument("--collect", action="store_true")
    asked = parser.parse_args()
    features = build_fleet(seed=SEED, hosts=1, features=asked.features).features
    with TemporaryDirectory(prefix="promad-stages-") as name:
        folder = Path(name).resolve()
        if asked.collect:
            with serve(asked.groups, asked.features, asked.step) as url:
                config = build_config(folder, tuple(features), asked.step, url)
                hours = {"collection_period_hours": 24.0 * asked.days}
                data = config.data_settings.model_copy(update=hours)
                config = config.model_copy(update={"data_settings": data})
                taken = [
                    measure("bare download", download, config),
                    measure("collect", run_collect, config),
                ]
        else:
            config = build_config(folder, tuple(features), asked.step, "http://localhost:9")
            write_collected(config, asked.groups, asked.days)
            taken = [
                measure("preprocess", run_preprocess, config),
                measure("train", run_train, config),
            ]
    print(f"{asked.groups} groups × {len(features)} features × {asked.days:g} d, {asked.step:g} s")
    for each in taken:
        print(
            f"  {each.stage:<14} {each.wall:7.1f} s wall {each.cpu:7.1f} s CPU "
            f"{each.peak_mb:7.0f} MB at most"
        )


if __name__ == "__main__":
    main()

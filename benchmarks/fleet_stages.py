"""What preprocessing and training a fleet take.

    python -m benchmarks.fleet_stages [--hosts 1000] [--features 38] [--days 7] [--step 30]

A collected file of simulated hosts is written; then `preprocess` and `train` (pooled linear) run,
each in a process of its own. Peak memory includes the libraries.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.processes import SPAWN, Used
from benchmarks.tables import format_spread, format_table
from promad.config import Config
from promad.data.artifacts import write_groups
from promad.data.frame import MetricFrame
from promad.data.groups import sort_labels
from promad.simulation.fleet import build_fleet
from promad.stages.preprocess import preprocess
from promad.stages.train import train

START = 1_767_225_600.0
SEED = 5
BLOCK = 50
"""Hosts whose values are made at once."""


def build_document(
    folder: Path, features: Sequence[str], step: float, url: str, **data: Any
) -> dict[str, Any]:
    """A configuration with a query for each feature; `data` are further `data_settings`."""
    return {
        "name": "fleet",
        "prometheus_url": url,
        "artifacts_dir": str(folder / "artifacts"),
        "group_by": ["instance"],
        "queries": {name: name for name in features},
        "data_settings": {"step": f"{step:g}s", **data},
        "training_settings": {"model": "linear"},
        "real_time_anomaly_detection": {"latency_offset": "1s"},
    }


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


def _measure(work: Callable[[Config], None], config: Config, queue: Any) -> None:
    began, before = time.perf_counter(), time.process_time()
    work(config)
    wall, cpu = time.perf_counter() - began, time.process_time() - before
    queue.put(Used(wall, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6))


def measure(work: Callable[[Config], None], config: Config) -> Used:
    """Run a stage in a process of its own; the time to start the process does not count."""
    queue = SPAWN.Queue()
    process = SPAWN.Process(target=_measure, args=(work, config, queue))
    process.start()
    process.join()
    if process.exitcode:
        sys.exit("the stage failed")
    found: Used = queue.get()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--features", type=int, default=38)
    parser.add_argument("--days", type=float, default=7.0)
    parser.add_argument("--step", type=float, default=30.0, help="seconds")
    parser.add_argument("--rounds", type=int, default=1)
    asked = parser.parse_args()
    features = build_fleet(seed=SEED, hosts=1, features=asked.features).features
    stages = {"`preprocess`": run_preprocess, "`train`": run_train}
    with TemporaryDirectory(prefix="promad-stages-") as name:
        folder = Path(name).resolve()
        document = build_document(folder, features, asked.step, "http://localhost:9")
        config = Config.model_validate(document)
        write_collected(config, asked.hosts, asked.days)
        used = [[measure(work, config) for work in stages.values()] for _ in range(asked.rounds)]
    rows = [
        [
            stage,
            format_spread((each.wall for each in own), digits=1),
            format_spread((each.cpu for each in own), digits=1),
            format_spread((each.peak_mb for each in own), digits=0),
        ]
        for stage, own in zip(stages, zip(*used, strict=True), strict=True)
    ]
    title = f"{asked.hosts:,} hosts × {asked.features}, {asked.days:g} d at {asked.step:g} s"
    print(format_table([title, "wall s", "CPU s", "peak memory MB"], rows))


if __name__ == "__main__":
    main()

"""Weights for each group of a fleet, fitted by workers, beside one process.

    python -m benchmarks.cluster [--groups 1000] [--samples 5760] [--features 16] [--rounds 3]

Groups are fitted in turn by this process, by a Dask cluster of one worker and by one of two, each
started beforehand; every process has one thread. Printed are wall time and the processor time of
the command and of the workers; ratios are medians over rounds. What is not divided (reading,
sending, writing what is kept) is part of all of them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from promad.config import TrainingSettings, load_config
from promad.data.artifacts import write_groups
from promad.data.frame import MetricFrame
from promad.parallel.engine import Backend
from promad.stages.preprocess import preprocess
from promad.training.fleet_material import FleetMaterial, draw_material
from promad.training.group_runs import fit_groups
from promad.training.processed_file import locate_processed, read_fleet
from promad.training.processing import ProcessingOptions
from tests.support.dask_processes import DaskCluster, start_dask

STEP = 30.0
_TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        material, settings = prepare(folder, arguments)
        rounds = []
        with start(folder, 1) as one, start(folder, 2) as two:
            ways = {"here": None, "1 worker": one, "2 workers": two}
            for number in range(arguments.rounds):
                found = {}
                for way, cluster in ways.items():
                    kept = folder / f"kept-{number}-{way.replace(' ', '-')}"
                    found[way] = measure(material, settings, kept, cluster)
                    print(f"round {number + 1}, {way}: {describe(found[way])}", flush=True)
                rounds.append(found)
        report(rounds)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--groups", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=5760)
    parser.add_argument("--features", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def prepare(folder: Path, arguments: argparse.Namespace) -> tuple[FleetMaterial, TrainingSettings]:
    """The processed data of a fleet."""
    names = tuple(f"f{number}" for number in range(arguments.features))
    path = folder / "config.yaml"
    path.write_text(
        f"group_by: [instance]\nartifacts_dir: {folder / 'artifacts'}\n"
        "queries: {" + ", ".join(f"{name}: {name}" for name in names) + "}\n"
        "data_settings: {step: 30s}\n"
        "training_settings: {model: linear, model_scope: per_group}\n"
    )
    config = load_config(path)
    config.artifacts_dir.mkdir()
    write_groups(
        config.artifacts_dir / config.data_settings.output_filename,
        STEP,
        ["instance"],
        ([make_group(number, names, arguments.samples)] for number in range(arguments.groups)),
        dict,
    )
    preprocess(config)
    source = read_fleet(locate_processed(config), ProcessingOptions.of(config))
    settings = config.training_settings
    return draw_material(source, settings.sequence_length, 20_000, settings.seed), settings


def make_group(number: int, names: tuple[str, ...], samples: int) -> MetricFrame:
    """One host: daily and hourly shapes with shared causes and some noise."""
    chance = np.random.default_rng([number, 1])
    times = STEP * np.arange(samples)
    periods = chance.choice([86400.0, 7200.0, 3600.0, 600.0], 4)
    causes = np.sin(2 * np.pi * times[:, np.newaxis] / periods + chance.uniform(0, 6, 4))
    values = 5 + causes @ chance.normal(size=(4, len(names)))
    values += 0.2 * chance.normal(size=values.shape)
    return MetricFrame(0.0, STEP, names, ((("instance", f"h{number:04}"),),), values[np.newaxis])


@contextmanager
def start(folder: Path, workers: int):
    """A cluster whose workers are ready."""
    from distributed import Client

    own = folder / f"dask-{workers}"
    own.mkdir()
    with start_dask(own, workers) as cluster:
        with Client(cluster.address, set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=120)
        yield cluster


def measure(
    material: FleetMaterial, settings: TrainingSettings, kept: Path, cluster: DaskCluster | None
) -> dict[str, float]:
    """Seconds of wall and processor time."""
    backend = Backend("inline") if cluster is None else Backend("dask", cluster.address)
    workers = [] if cluster is None else cluster.workers
    before = [read_cpu(each.pid) for each in workers]
    wall, cpu = time.perf_counter(), time.process_time()
    run = fit_groups(material, settings, kept, backend)
    assert len(run.done) == len(material.fleet.groups), run.failed
    spent = [read_cpu(each.pid) - earlier for each, earlier in zip(workers, before, strict=True)]
    return {
        "wall": time.perf_counter() - wall,
        "here": time.process_time() - cpu,
        "workers": sum(spent),
        "busiest": max([time.process_time() - cpu, *spent]),
    }


def read_cpu(process: int) -> float:
    """Processor seconds of a process so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def describe(found: dict[str, float]) -> str:
    return (
        f"{found['wall']:.1f} s, CPU {found['here']:.1f} s here and {found['workers']:.1f} s in "
        f"workers; load {os.getloadavg()[0]:.1f}"
    )


def report(rounds: list[dict[str, dict[str, float]]]) -> None:
    """Medians of the ratios within a round."""

    def ratio(of: str, to: str, what: str) -> float:
        return statistics.median(each[of][what] / each[to][what] for each in rounds)

    total = statistics.median(
        (each["1 worker"]["here"] + each["1 worker"]["workers"]) / each["here"]["here"]
        for each in rounds
    )
    print(f"2 workers are {ratio('here', '2 workers', 'wall'):.2f} times as fast as one process")
    print(f"by the busiest process's CPU: {ratio('here', '2 workers', 'busiest'):.2f} times")
    print(f"1 worker takes {ratio('1 worker', 'here', 'wall'):.2f} times the wall time, and")
    print(f"{total:.2f} times the CPU of all processes but the scheduler")


if __name__ == "__main__":
    main()

"""What collecting a fleet takes beside a bare download of the same answers.

    python -m benchmarks.fleet_collect [--hosts 20] [--features 38] [--days 7] [--step 30]

Starts a Prometheus that is back-filled with the history of simulated hosts. Rounds of a bare
download, of the same days in the same parts over one connection, whose bytes are thrown away, and
of `collect` without a cache, each in a process of its own, take turns. Ratios are of the same
round; processor time is the client's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import requests

from benchmarks.fleet_stages import SEED, build_document, measure
from benchmarks.processes import Used
from benchmarks.tables import format_spread, format_table
from promad.config import Config
from promad.prometheus.grid import align_periods, requests_for
from promad.simulation.exposition import iterate_openmetrics
from promad.simulation.fleet import build_fleet
from promad.stages.collect import collect
from tests.support.prometheus_server import PrometheusServer


def download(config: Config) -> None:
    """Ask for the days that are collected, and keep nothing."""
    data, most = config.data_settings, config.prometheus.max_points_per_request
    period = (data.start_time_iso or 0.0, data.end_time_iso or 0.0)
    parts = list(requests_for(align_periods([period], data.step), data.step, most))
    with requests.Session() as session:
        session.headers["Accept-Encoding"] = "identity"
        for expr in config.promql.values():
            for part in parts:
                form = {"query": expr, "start": part.start, "end": part.end, "step": data.step}
                url = f"{config.prometheus_url}/api/v1/query_range"
                session.post(url, data=form, timeout=300).raise_for_status()


def run_collect(config: Config) -> None:
    collect(config, now=time.time(), refresh=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--hosts", type=int, default=20)
    parser.add_argument("--features", type=int, default=38)
    parser.add_argument("--days", type=float, default=7.0)
    parser.add_argument("--step", type=float, default=30.0, help="seconds")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    fleet = build_fleet(seed=SEED, hosts=asked.hosts, features=asked.features)
    end = (time.time() - 7200) // asked.step * asked.step
    times = end - asked.step * np.arange(round(asked.days * 86400 / asked.step), -1.0, -1.0)
    with TemporaryDirectory(prefix="promad-collect-") as name:
        folder = Path(name).resolve()
        server, path = PrometheusServer(folder / "prometheus"), folder / "history.om"
        with path.open("w") as file:
            file.writelines(iterate_openmetrics(fleet, times))
        server.backfill(path)
        path.unlink()
        with server:
            period = {"start_time_iso": float(times[0]), "end_time_iso": float(end)}
            document = build_document(folder, fleet.features, asked.step, server.url, **period)
            config = Config.model_validate(document)
            download(config)  # so that the server has read its files
            rounds = [
                (measure(download, config), measure(run_collect, config))
                for _ in range(asked.rounds)
            ]
    title = f"{asked.hosts} hosts × {asked.features}, {asked.days:g} d at {asked.step:g} s"
    header = [title, "wall s", "CPU s", "peak memory MB"]
    print(format_table(header, list_rows(rounds)))


def list_rows(rounds: Sequence[tuple[Used, Used]]) -> list[list[str]]:
    """A row for each way, and one for the ratios."""
    rows = [
        [
            name,
            format_spread(used.wall for used in way),
            format_spread(used.cpu for used in way),
            format_spread((used.peak_mb for used in way), digits=0),
        ]
        for name, way in zip(("bare download", "`collect`"), zip(*rounds, strict=True), strict=True)
    ]
    walls = format_spread(collected.wall / bare.wall for bare, collected in rounds)
    cpus = format_spread(collected.cpu / bare.cpu for bare, collected in rounds)
    return [*rows, ["ratio", walls, cpus, ""]]


if __name__ == "__main__":
    main()

"""How long `promad collect` takes beside a plain loop and beside downloading alone.

    python -m benchmarks.collect [--days 7] [--queries 38] [--step 15] [--rounds 5]

Starts a Prometheus of its own with a made-up history and reads that history, in turn, in five ways:

* plain: `requests.post`, `response.json()` and a pandas frame for each query, gzip as is the
  default, 11,000 points at a time, then one parquet file
* download: the bytes that promad asks for, two requests at once, thrown away
* promad: what `collect` does when it keeps no cache, the parquet file included
* promad, cold cache: `collect` into an empty directory, writing its cache too
* promad, warm cache: `collect` a second time

Wall time in seconds. Ratios are medians of the ratios within a round, as other work on the machine
slows all alike.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import requests

from promad.config import Config, PrometheusSettings
from promad.data.artifacts import write_frames
from promad.prometheus import PrometheusClient, fetch_history
from promad.stages.collect import collect
from tests.support.prometheus_server import PrometheusServer

PLAIN_POINTS = 11_000
SERIES_IN_A_SUM = 2


def main() -> None:
    arguments = parse_arguments()
    step, days = arguments.step, arguments.days
    end = (time.time() - 7200) // step * step
    start = end - days * 86400 + step
    queries = expressions(arguments.queries)
    with tempfile.TemporaryDirectory(prefix="promad-benchmark-") as name:
        directory = Path(name)
        server = PrometheusServer(directory)
        began = time.perf_counter()
        write_history(directory / "history.om", arguments.queries, start - 900, end, step)
        server.backfill(directory / "history.om")
        print(f"history written in {time.perf_counter() - began:.0f} s", file=sys.stderr)
        with server:
            ways = readers(server.url, queries, start, end, step, directory)
            report(measure(ways, arguments.rounds), arguments)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--days", type=float, default=7)
    parser.add_argument("--queries", type=int, default=38)
    parser.add_argument("--step", type=int, default=15, help="seconds")
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def expressions(count: int) -> dict[str, str]:
    """Selectors, rates and sums of rates, 24 : 10 : 4 as on an ordinary host's dashboard."""
    kinds = ["bench_gauge_{}"] * 24 + ["rate(bench_counter_{}[5m])"] * 10
    kinds += ["sum(rate(bench_part_{}[5m]))"] * 4
    return {f"q{i}": kinds[i % len(kinds)].format(i) for i in range(count)}


def write_history(path: Path, count: int, start: float, end: float, step: int) -> None:
    """Every series that the expressions read, as OpenMetrics text."""
    times = np.arange(start, end + step, step).astype(int).tolist()
    chance = np.random.default_rng(1)
    with path.open("w") as file:
        for i, expr in enumerate(expressions(count).values()):
            name = expr.removeprefix("sum(").removeprefix("rate(").partition("[")[0]
            counter = "[" in expr
            file.write(f"# TYPE {name} gauge\n")
            for part in range(SERIES_IN_A_SUM if expr.startswith("sum(") else 1):
                noise = chance.normal(size=len(times))
                values = np.cumsum(np.abs(noise)) if counter else 50 + i + noise
                rows = zip(np.round(values, 4).tolist(), times, strict=True)
                label = f'{name}{{part="{part}"}}'
                file.writelines(f"{label} {value!r} {at}\n" for value, at in rows)
        file.write("# EOF\n")


def readers(
    url: str, queries: dict[str, str], start: float, end: float, step: int, directory: Path
) -> dict[str, Callable[[], object]]:
    """The ways to be compared, by name, in the order in which they are run."""
    grid = (start, end, step)
    fresh = (directory / f"artifacts-{number}" for number in range(10**6))
    used: list[Path] = []

    def first_run() -> None:
        used.append(next(fresh))
        whole_stage(url, queries, *grid, used[-1])

    return {
        "plain": lambda: plain(url, queries, *grid, directory / "plain.parquet"),
        "download": lambda: download(url, queries, *grid),
        "promad": lambda: promad(url, queries, *grid, directory / "promad.parquet"),
        "promad, cold cache": first_run,
        "promad, warm cache": lambda: whole_stage(url, queries, *grid, used[-1]),
    }


def plain(
    url: str, queries: dict[str, str], start: float, end: float, step: int, path: Path
) -> None:
    columns = {}
    for alias, expr in queries.items():
        rows: list[list[object]] = []
        for first, last in ranges(start, end, step, PLAIN_POINTS):
            form = {"query": expr, "start": first, "end": last, "step": step}
            response = requests.post(f"{url}/api/v1/query_range", data=form, timeout=60)
            response.raise_for_status()
            rows += response.json()["data"]["result"][0]["values"]
        frame = pd.DataFrame(rows, columns=["timestamp", alias])
        frame["timestamp"] = pd.to_datetime(frame["timestamp"], unit="s", utc=True)
        columns[alias] = frame.set_index("timestamp")[alias].astype(float)
    pd.DataFrame(columns).to_parquet(path)


def download(url: str, queries: dict[str, str], start: float, end: float, step: int) -> int:
    session = requests.Session()
    session.headers["Accept-Encoding"] = "identity"

    def fetch(form: dict[str, object]) -> int:
        return len(session.post(f"{url}/api/v1/query_range", data=form, timeout=60).content)

    most_points = PrometheusSettings().max_points_per_request
    forms = [
        {"query": expr, "start": first, "end": last, "step": step}
        for expr in queries.values()
        for first, last in ranges(start, end, step, most_points)
    ]
    with session, ThreadPoolExecutor(2) as pool:
        return sum(pool.map(fetch, forms))


def promad(
    url: str, queries: dict[str, str], start: float, end: float, step: int, path: Path
) -> None:
    with PrometheusClient(url, PrometheusSettings()) as client:
        now = time.time()
        frames = fetch_history(client, queries, [(start, end)], step, now=now).frames
    write_frames(path, frames, {})


def whole_stage(
    url: str, queries: dict[str, str], start: float, end: float, step: int, artifacts: Path
) -> None:
    settings = {"start_time_iso": start, "end_time_iso": end, "step": f"{step}s"}
    document = {"prometheus_url": url, "queries": queries, "data_settings": settings}
    config = Config.model_validate({**document, "artifacts_dir": artifacts})
    done = collect(config, now=time.time())
    assert max(done.missing_share.values()) == 0, done.missing_share


def ranges(start: float, end: float, step: int, points: int) -> Iterator[tuple[float, float]]:
    while start <= end:
        last = min(start + (points - 1) * step, end)
        yield start, last
        start = last + step


def measure(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Wall seconds of every way in every round, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            if turn:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def report(seconds: dict[str, list[float]], arguments: argparse.Namespace) -> None:
    samples = arguments.days * 86400 / arguments.step * arguments.queries
    print(
        f"{arguments.days:g} days x {arguments.queries} queries at {arguments.step} s "
        f"({samples / 1e6:.2f} M samples), {arguments.rounds} rounds\n"
    )
    print("| way | min s | median s | max s | of plain | of download |")
    print("|---|---|---|---|---|---|")
    for name, each in seconds.items():
        ratios = [ratio(each, seconds[other]) for other in ("plain", "download")]
        spread = [min(each), statistics.median(each), max(each)]
        print(f"| {name} | " + " | ".join(f"{x:.2f}" for x in [*spread, *ratios]) + " |")


def ratio(these: list[float], those: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(these, those, strict=True))


if __name__ == "__main__":
    main()

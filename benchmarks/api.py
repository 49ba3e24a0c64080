"""The latency of the REST API of a daemon that watches a fleet, and of `/metrics` during scoring.

    python -m benchmarks.api [--model linear lstm_autoencoder] [--hosts 100] [--seconds 60]

`promad detect` runs as a process of its own with a tick every 5 seconds, beside the embedded server
in another one. Each client has one connection. "detector alone" scores the same rows in the process
of the benchmark. During the load two clients send batches of 10,000 rows without a pause. A
network is trained for one epoch, as its weights do not matter here. Exits with 1 if a tick was
skipped.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

import numpy as np

from benchmarks.fleet_stages import SEED, START, build_document, write_collected
from benchmarks.processes import run_detect, run_promad, serve_fleet
from benchmarks.tables import format_table
from promad.bundle import BundleStore, load_detector
from promad.config import Config
from promad.data.frame import MetricFrame
from promad.scoring.detector import Detector
from promad.scoring.streaming import score_frame
from promad.simulation.fleet import Fleet, build_fleet
from tests.support.prometheus_server import free_port

FEATURES = 38
INTERVAL = 5.0
KNOWN_HOSTS, KNOWN_DAYS = 20, 0.5
"""What the detector is trained on."""
ROWS = (20, 100, 10_000, 20_000)
BATCH = 10_000
CLIENTS = 2
SCRAPE_PAUSE_SECONDS = 0.05


@dataclass(frozen=True)
class Watched:
    """A daemon that watches a fleet, and its detector."""

    port: int
    fleet: Fleet
    detector: Detector


@contextmanager
def run_daemon(model: str, hosts: int) -> Iterator[Watched]:
    """Train a detector, and run the daemon until the block ends."""
    fleet = build_fleet(seed=SEED, hosts=hosts, features=FEATURES)
    with (
        TemporaryDirectory(prefix="promad-api-") as name,
        serve_fleet(fleet, INTERVAL) as server,
    ):
        folder, port = Path(name).resolve(), free_port()
        document = build_document(folder, fleet.features, INTERVAL, server.url)
        document["training_settings"] = {"model": model, "gate": False}
        if model != "linear":
            document["training_settings"]["epochs"] = 1
        document["real_time_anomaly_detection"] |= {
            "query_interval_seconds": INTERVAL,
            "exporter_port": port,
        }
        path, config = folder / "config.yaml", Config.model_validate(document)
        path.write_text(json.dumps(document))
        write_collected(config, KNOWN_HOSTS, KNOWN_DAYS)
        run_promad(path, "preprocess")
        run_promad(path, "train")
        detector = load_detector(BundleStore.of(config).open_current())
        with run_detect(path, f"http://127.0.0.1:{port}"):
            time.sleep(2 * INTERVAL)
            yield Watched(port, fleet, detector)


class Client:
    """Sends requests over one connection."""

    def __init__(self, port: int) -> None:
        self.connection = HTTPConnection("127.0.0.1", port, timeout=60)

    def get(self, path: str) -> bytes:
        self.connection.request("GET", path)
        return self._read_answer()

    def score(self, body: bytes) -> bytes:
        self.connection.request("POST", "/score", body, {"Content-Type": "application/json"})
        return self._read_answer()

    def _read_answer(self) -> bytes:
        answer = self.connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            sys.exit(f"HTTP {answer.status}: {content[:300].decode()}")
        return content


def time_calls(call: Callable[[], object], repeat: int) -> list[float]:
    """Milliseconds of each call, after one that does not count."""
    call()
    taken = []
    for _ in range(repeat):
        began = time.perf_counter()
        call()
        taken.append(1000 * (time.perf_counter() - began))
    return taken


def describe(taken: Sequence[float]) -> list[str]:
    """The median, the 99 % quantile and the maximum, in milliseconds."""
    return [f"{value:.1f}" for value in np.quantile(taken, [0.5, 0.99, 1])]


def create_body(watched: Watched, group: str, rows: int) -> tuple[bytes, MetricFrame]:
    """A request to score so many samples of a host, and the samples."""
    times = START + INTERVAL * np.arange(rows)
    values = watched.fleet.values(times, np.arange(1))
    labels = (("instance", watched.fleet.hosts.instance[0]),)
    frame = MetricFrame(START, INTERVAL, watched.fleet.features, (labels,), values)
    data = [[float(f"{value:.5g}") for value in row] for row in values[0]]
    return json.dumps({"group": group, "data": data}).encode(), frame


def measure_scoring(watched: Watched, group: str, repeat: int) -> list[list[str]]:
    """For each number of rows: the size, the latency, the detector alone, and the rate of two."""
    found = []
    for rows in ROWS:
        body, frame = create_body(watched, group, rows)
        client = Client(watched.port)
        taken = time_calls(lambda client=client, body=body: client.score(body), repeat)
        alone = np.median(time_calls(lambda frame=frame: score_frame(watched.detector, frame), 7))
        rate = measure_rate(watched.port, body, repeat)
        size = f"{len(body) / 1e3:,.0f} kB"
        found.append([f"{rows:,}", size, *describe(taken), f"{alone:.1f}", f"{rate:.1f}"])
    return found


def measure_rate(port: int, body: bytes, repeat: int) -> float:
    """Requests per second of all clients at once."""

    def ask() -> None:
        client = Client(port)
        time_calls(lambda: client.score(body), repeat)

    threads = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return CLIENTS * (repeat + 1) / (time.perf_counter() - began)


def measure_reading(watched: Watched, group: str, repeat: int) -> list[list[str]]:
    """The size and latency of what the page asks for."""
    client, found = Client(watched.port), []
    for path in ("/api/v1/groups", f"/api/v1/history?group={quote(group)}"):
        size = f"{len(client.get(path)) / 1e3:,.0f} kB"
        taken = time_calls(lambda path=path: client.get(path), repeat)
        found.append([f"`GET {path.partition('?')[0]}`", size, *describe(taken)])
    return found


@dataclass(frozen=True)
class Scrapes:
    """Milliseconds of scrapes of `/metrics`, the ticks meanwhile, and those that were skipped."""

    taken: list[float]
    ticks: float
    skipped: float


def scrape(port: int, seconds: float) -> Scrapes:
    client, taken, bodies = Client(port), list[float](), list[bytes]()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.perf_counter()
        body = client.get("/metrics")
        taken.append(1000 * (time.perf_counter() - began))
        bodies = [*bodies[:1], body]
        time.sleep(SCRAPE_PAUSE_SECONDS)

    def count(name: str) -> float:
        first, last = (
            sum(map(float, re.findall(rf"^{name}\{{.*\}} (\S+)$", text.decode(), re.MULTILINE)))
            for text in (bodies[0], bodies[-1])
        )
        return last - first

    ticks, skipped = "promad_tick_duration_seconds_count", "promad_ticks_skipped_total"
    return Scrapes(taken, count(ticks), count(skipped))


def scrape_under_load(watched: Watched, group: str, seconds: float) -> tuple[Scrapes, list[int]]:
    """Scrape while clients score batches; how many each of them got."""
    body, done, counts = create_body(watched, group, BATCH)[0], threading.Event(), list[int]()

    def score_on() -> None:
        client, count = Client(watched.port), 0
        while not done.is_set():
            client.score(body)
            count += 1
        counts.append(count)

    threads = [threading.Thread(target=score_on) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        return scrape(watched.port, seconds), counts
    finally:
        done.set()
        for thread in threads:
            thread.join()


def measure(model: str, asked: argparse.Namespace) -> float:
    """Print the tables of one model; how many ticks were skipped."""
    with run_daemon(model, asked.hosts) as watched:
        groups = json.loads(Client(watched.port).get("/api/v1/groups"))["groups"]
        group, latency = str(groups[0]["group"]), ["median ms", "p99 ms", "max ms"]
        header = [f"`POST /score`, `{model}`, rows", "body", *latency]
        print(f"{asked.hosts} hosts × {FEATURES}, a tick every {INTERVAL:g} s\n")
        scored = measure_scoring(watched, group, asked.repeat)
        print(format_table([*header, "detector alone, ms", "two clients, requests/s"], scored))
        read = measure_reading(watched, group, asked.repeat)
        print("\n" + format_table(["reading", "body", *latency], read))
        idle = scrape(watched.port, asked.seconds)
        loaded, counts = scrape_under_load(watched, group, asked.seconds)
    rows = [
        [name, f"{len(each.taken)}", *describe(each.taken), f"{each.ticks:g}", f"{each.skipped:g}"]
        for name, each in (("no scoring", idle), (f"{sum(counts)} batches of 10,000 rows", loaded))
    ]
    header = ["`GET /metrics` during", "scrapes", *latency, "ticks", "ticks skipped"]
    print("\n" + format_table(header, rows) + "\n", flush=True)
    return idle.skipped + loaded.skipped


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", nargs="+", default=["linear", "lstm_autoencoder"])
    parser.add_argument("--hosts", type=int, default=100)
    parser.add_argument("--repeat", type=int, default=50, help="requests of each kind")
    parser.add_argument("--seconds", type=float, default=60.0, help="of scraping, idle and loaded")
    asked = parser.parse_args()
    skipped = [measure(model, asked) for model in asked.model]
    sys.exit(any(skipped))


if __name__ == "__main__":
    main()

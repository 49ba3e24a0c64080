"""The latency of the REST API over a real socket, and of /metrics during scoring.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.api [--model linear ...] [--repeat 30]

The server runs in its own process, with models as from `train`, on random data.
Requests share one connection. Latencies are the median, the 90th percentile and
the worst of the repetitions, in milliseconds; the detector alone is measured for the same rows in
the server's process.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import quote

from benchmarks.scoring import fit_detector, host_like
from promad.data.frame import MetricFrame
from promad.detection.running_detector import RunningDetector
from promad.events.verdict import State
from promad.scoring.detector import Detector
from tests.support.served import (
    NOW,
    STEP,
    create_detector,
    create_groups,
    create_running_detectors,
    create_verdict,
    serve_detectors,
)

FEATURES = tuple(f"feature_{number:02d}" for number in range(38))
HISTORY = 720
TRAINED_ON = {"linear": 24_000}
TRAINED_ON_ELSE = 3000


def main() -> None:
    arguments = parse_arguments()
    for model in arguments.model:
        with run_server(create_scorer, model) as (address, alone):
            print(f"POST /score, {len(FEATURES)} features, {model}")
            report_scoring(address, alone, arguments.repeat)
            print("  GET /metrics during scoring")
            report_metrics(address, arguments.repeat)
    for full in (False, True):
        with run_server(create_fleet, (arguments.groups, full)) as (address, megabytes):
            kept = f"{HISTORY} samples of {len(FEATURES)} features each" if full else "nothing"
            print(
                f"{arguments.groups} groups with a history of {kept}: {megabytes:.0f} MB resident"
            )
            report_listing(address, arguments.repeat)
            if full:
                report_history(address, arguments.repeat)
            print(f"  afterwards {read_server_megabytes():.0f} MB")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", nargs="+", default=["linear", "lstm_autoencoder"])
    parser.add_argument("--groups", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=30)
    return parser.parse_args()


# the server's process


@contextmanager
def run_server(build: Callable[..., Any], what: Any) -> Iterator[tuple[str, Any]]:
    """Run a process that serves the result of `build`; yields its address and its measurement."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve_until_stopped, args=(build, what, there))
    process.start()
    try:
        yield here.recv()
    finally:
        here.send("stop")
        process.join()


def serve_until_stopped(
    build: Callable[..., tuple[list[RunningDetector], Any]], what: Any, pipe: Connection
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        running, measured = build(Path(folder), what)
        with serve_detectors(running) as url:
            pipe.send((url.removeprefix("http://"), measured))
            pipe.recv()


def create_scorer(folder: Path, model: str) -> tuple[list[RunningDetector], dict[int, float]]:
    """A detector of that model, and its time for each number of rows in milliseconds."""
    history, test = host_like(TRAINED_ON.get(model, TRAINED_ON_ELSE), len(FEATURES))
    detector = fit_detector(model, history)
    alone = {rows: time_detector(detector, test, rows) for rows in (detector.length, 100, 10_000)}
    return create_running_detectors(folder, features=FEATURES, detector=detector), alone


def time_detector(detector: Detector, test: MetricFrame, rows: int) -> float:
    whole = test if test.samples >= rows else host_like(rows, len(FEATURES))[1]
    frame, took = whole.slice(0, rows), []
    for _ in range(7):
        began = time.perf_counter()
        detector.score(frame)
        took.append(1000 * (time.perf_counter() - began))
    return statistics.median(took)


def create_fleet(folder: Path, what: tuple[int, bool]) -> tuple[list[RunningDetector], float]:
    """Many groups, and the memory of the process in MiB."""
    count, full = what
    running = create_running_detectors(
        folder,
        features=FEATURES,
        groups=create_groups(count),
        states=list(State),
        samples=1,
        capacity=HISTORY,
        detector=create_detector(FEATURES),
    )
    if full:
        for back in range(HISTORY, 0, -1):
            verdict = create_verdict(NOW - STEP * back, FEATURES, 0.5, State.OK)
            for ring in running[0].histories.values():
                ring.add(verdict)
    return running, read_resident_megabytes("self")


def read_resident_megabytes(process: str) -> float:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def read_server_megabytes() -> float:
    """The resident memory of the server, the only child process, in MiB."""
    (child,) = multiprocessing.active_children()
    return read_resident_megabytes(str(child.pid))


# the client


class Client:
    """Sends requests over one connection."""

    def __init__(self, address: str) -> None:
        self.connection = HTTPConnection(address, timeout=60)

    def get(self, path: str) -> bytes:
        self.connection.request("GET", path)
        return self.answer()

    def post(self, body: bytes) -> bytes:
        self.connection.request("POST", "/score", body, {"Content-Type": "application/json"})
        return self.answer()

    def answer(self) -> bytes:
        answer = self.connection.getresponse()
        content = answer.read()
        assert answer.status == 200, content[:300]
        return content


def time_requests(ask: Callable[[], Any], repeat: int) -> list[float]:
    """Milliseconds of each request, after one that does not count."""
    ask()
    took = []
    for _ in range(repeat):
        began = time.perf_counter()
        ask()
        took.append(1000 * (time.perf_counter() - began))
    return took


def format_times(took: Sequence[float]) -> str:
    high = sorted(took)[int(0.9 * (len(took) - 1))]
    return f"{statistics.median(took):8.1f} median {high:8.1f} p90 {max(took):8.1f} worst ms"


def create_body(rows: int) -> bytes:
    _, test = host_like(rows, len(FEATURES))
    return json.dumps({"data": test.values[0].round(4).tolist()}).encode()


def report_scoring(address: str, alone: dict[int, float], repeat: int) -> None:
    for rows, detector in alone.items():
        body, client = create_body(rows), Client(address)
        took = time_requests(lambda body=body, client=client: client.post(body), repeat)
        each = statistics.median(took)
        print(
            f"  {rows:6d} rows {len(body) / 2**20:6.2f} MB {format_times(took)}; "
            f"detector alone {detector:7.1f} ms, {each / detector:4.1f}x; "
            f"two at once {measure_rate(address, body, 2, repeat):5.1f} requests a second"
        )


def measure_rate(address: str, body: bytes, clients: int, repeat: int) -> float:
    """Requests per second of several clients."""

    def one_client() -> None:
        own = Client(address)
        time_requests(lambda: own.post(body), repeat)

    threads = [threading.Thread(target=one_client) for _ in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return clients * (repeat + 1) / (time.perf_counter() - began)


def report_metrics(address: str, repeat: int) -> None:
    """The latency of /metrics, idle and during two requests to score 10,000 rows."""
    client, done, body = Client(address), threading.Event(), create_body(10_000)

    def time_metrics() -> list[float]:
        return time_requests(lambda: client.get("/metrics"), 10 * repeat)

    print(f"    idle            {format_times(time_metrics())}")

    def score_on() -> None:
        own = Client(address)
        while not done.is_set():
            own.post(body)

    threads = [threading.Thread(target=score_on) for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    print(f"    scoring 2 x 10k {format_times(time_metrics())}")
    done.set()
    for thread in threads:
        thread.join()


def report_listing(address: str, repeat: int) -> None:
    client = Client(address)
    size = len(client.get("/api/v1/groups")) / 1024
    took = time_requests(lambda: client.get("/api/v1/groups"), repeat)
    print(f"  GET /api/v1/groups  {size:6.0f} kB {format_times(took)}")


def report_history(address: str, repeat: int) -> None:
    client = Client(address)
    groups = json.loads(client.get("/api/v1/groups"))["groups"]
    name = next(group["group"] for group in groups if group["state"] == State.OK)
    path = f"/api/v1/history?group={quote(name)}"
    for narrowed in ("", f"&features={FEATURES[0]}"):
        size = len(client.get(path + narrowed)) / 1024
        took = time_requests(lambda path=path + narrowed: client.get(path), repeat)
        columns = "1 feature " if narrowed else f"{len(FEATURES)} features"
        print(f"  GET /api/v1/history {size:6.0f} kB {format_times(took)}, {columns}")


if __name__ == "__main__":
    main()

"""A Prometheus, a target that it scrapes, and promad as a user runs it."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import requests

from tests.support.prometheus_server import PrometheusServer, free_port, openmetrics

FEATURES = ("load", "latency", "memory", "errors")
HISTORY_SECONDS = 2400
ROOT = Path(__file__).parents[2]


def normal_value(feature: str, at: float) -> float:
    """A value that goes round once a minute, with noise that belongs to the instant."""
    number = FEATURES.index(feature)
    noise = np.random.default_rng([int(at), number]).normal()
    return 10.0 + number + math.sin(2 * math.pi * at / 60 + number) + 0.1 * float(noise)


@dataclass
class Target:
    """A scrape target whose latency a test can raise."""

    port: int = field(default_factory=free_port)
    spike: float = 0.0

    def __post_init__(self) -> None:
        target = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = target.exposition(time.time()).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def exposition(self, at: float) -> str:
        rise = {"latency": self.spike}
        return "".join(
            f"app_{name} {normal_value(name, at) + rise.get(name, 0.0)!r}\n" for name in FEATURES
        )

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@dataclass
class World:
    """Everything that runs."""

    prometheus: PrometheusServer
    target: Target
    config: Path
    port: int
    detect: subprocess.Popen[str]

    def value(self, expr: str) -> float | None:
        """A sample as Prometheus has it; None if there is no series."""
        answer = requests.get(
            f"{self.prometheus.url}/api/v1/query", params={"query": expr}, timeout=5
        )
        result = answer.json()["data"]["result"]
        return float(result[0]["value"][1]) if result else None

    def metrics(self) -> str:
        return requests.get(f"http://127.0.0.1:{self.port}/metrics", timeout=5).text

    def state(self) -> str:
        found = re.search(r'_state\{.*\bstate="(\w+)".*\} 1\.0$', self.metrics(), re.MULTILINE)
        return found[1] if found else ""

    def api(self, path: str, **parameters: str) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}"
        answer = requests.get(url, params=parameters, timeout=5)
        answer.raise_for_status()  # what `until` tries again: a daemon that starts answers 503
        return answer.json()

    def is_quiet(self) -> bool:
        """Whether the last fifteen seconds were all scored and without an event."""
        states = self.api("history", start=str(time.time() - 15))["states"]
        return len(states) > 10 and set(states) == {"ok"}

    def log(self) -> str:
        return (self.config.parent / "detect.log").read_text()


def until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """What the condition comes to once it is true; the test fails if it does not become so."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            outcome = condition()
        except requests.RequestException:
            outcome = None
        if outcome or time.monotonic() > deadline:
            assert outcome, "it did not come true in time"
            return outcome
        time.sleep(0.2)


def promad(config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "promad", "-c", str(config), *arguments],
        cwd=config.parent,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def build_server(directory: Path, target: Target, port: int) -> PrometheusServer:
    """A server with a history of the target, which it scrapes, as it does promad.

    It evaluates the rules of `promad mixin` in the directory `mixin`.
    """
    jobs = {"app": target.port, "promad": port}
    scrapes = "\n".join(
        f"- {{job_name: {job}, static_configs: [{{targets: ['127.0.0.1:{at}']}}]}}"
        for job, at in jobs.items()
    )
    prometheus = PrometheusServer(directory, scrapes)
    with (directory / "prometheus.yml").open("a") as more:
        more.write(f"rule_files: ['{directory}/mixin/prometheus/*.yaml']\n")
    prometheus.backfill(history(f"127.0.0.1:{target.port}", float(int(time.time()))))
    return prometheus


@contextmanager
def detecting(
    prometheus: PrometheusServer, target: Target, config: Path, port: int
) -> Iterator[World]:
    """Everything at work; all of it ends but the server."""
    world = World(prometheus, target, config, port, start_detect(config))
    try:
        yield world
    finally:
        world.detect.kill()
        world.detect.wait()
        world.target.close()


def start_detect(config: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "promad", "-c", str(config), "detect"]
    with (config.parent / "detect.log").open("w") as log:
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, text=True)


def history(instance: str, end: float) -> str:
    times = [end - age for age in range(HISTORY_SECONDS, 0, -1)]
    return openmetrics(
        {
            f'app_{name}{{instance="{instance}",job="app"}}': [
                (at, normal_value(name, at)) for at in times
            ]
            for name in FEATURES
        }
    )


def configuration(url: str, port: int) -> str:
    queries = "\n".join(f'  {name}: sum(app_{name}{{job="app"}})' for name in FEATURES[:-1])
    return f"""
prometheus_url: {url}
queries:
{queries}
  errors: app_errors
data_settings: {{step: 1s, collection_period_hours: 0.6, cache_chunk_hours: 1}}
training_settings:
  preset: improved
  sequence_length: 10
  epochs: 12
  batch_size: 32
  learning_rate: 0.003
real_time_anomaly_detection:
  query_interval_seconds: 1
  latency_offset: 1s
  stale_after: 5s
  exporter_port: {port}
"""

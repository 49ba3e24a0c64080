"""`promad detect` as a process of its own, on a small bundle, without a Prometheus to ask."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from promad.config import load_config
from promad.stages.preprocess import preprocess
from promad.stages.train import train
from tests.support.prometheus_server import free_port
from tests.support.simulated import NAMES, NOW, frame_of, host_values, silent, write_raw

ROOT = Path(__file__).parents[2]
TRAINED_AT = NOW


def train_small(directory: Path) -> Path:
    """A configuration file with a bundle of the linear model beside it."""
    queries = "\n".join(f"  {name}: {name}" for name in NAMES)
    path = directory / "config.yaml"
    path.write_text(
        f"prometheus_url: http://127.0.0.1:9\nqueries:\n{queries}\n"
        "data_settings: {step: 30s}\n"
        "training_settings: {model: linear, sequence_length: 8, gate: false}\n"
    )
    config = load_config(path)
    write_raw(config, [frame_of(host_values(420))], server="http://127.0.0.1:9")
    preprocess(config)
    train_again(path, 0.0)
    return path


def train_again(path: Path, seconds_later: float = 60.0) -> str:
    """The id of another bundle, which is current then."""
    return train(load_config(path), silent, now=lambda: TRAINED_AT + seconds_later).bundle.id


@dataclass
class DaemonProcess:
    """A running daemon, and the port that it serves."""

    config: Path
    port: int
    process: subprocess.Popen[str]
    url: str
    session: requests.Session = field(default_factory=requests.Session)

    def get(self, path: str = "/metrics", **options: Any) -> requests.Response:
        return self.session.get(f"{self.url}{path}", timeout=5, **options)

    def post(self, path: str, **options: Any) -> requests.Response:
        return self.session.post(f"{self.url}{path}", timeout=30, **options)

    def log(self) -> str:
        return (self.config.parent / "detect.log").read_text()

    def read_metric(self, name: str) -> float | None:
        """The value of a metric without labels; None if it is absent."""
        lines = self.get().text.splitlines()
        return next((float(line.split()[1]) for line in lines if line.startswith(f"{name} ")), None)


@contextmanager
def run_daemon(
    config: Path,
    *arguments: str,
    prefix: str = "",
    scheme: str = "http",
    command: Sequence[str] = (),
    session: Mapping[str, Any] | None = None,
    subcommand: str = "detect",
) -> Iterator[DaemonProcess]:
    """A daemon that answers, until the block ends.

    Args:
        command: what starts `promad` in place of Python, with `PORT` replaced by the port.
        session: attributes of the client's session, such as `auth`.
        subcommand: `detect` or `serve`.
    """
    port = free_port()
    promad = [sys.executable, "-m", "promad", "-c", str(config), subcommand, *arguments]
    listen = [] if command else [f"--web.listen-address=127.0.0.1:{port}"]
    with (config.parent / "detect.log").open("w") as log:
        process = subprocess.Popen(
            [*(part.replace("PORT", str(port)) for part in command), *promad, *listen],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=log,
            text=True,
        )
    daemon = DaemonProcess(config, port, process, f"{scheme}://127.0.0.1:{port}{prefix}")
    daemon.session.trust_env = False  # else it may trust other certificates
    for name, value in (session or {}).items():
        setattr(daemon.session, name, value)
    try:
        wait_until(lambda: _answers(daemon), 30)
        yield daemon
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        daemon.session.close()


def _answers(daemon: DaemonProcess) -> bool:
    """Whether its detectors are at work."""
    assert daemon.process.poll() is None, daemon.log()
    try:
        return "promad_model_info{" in daemon.get().text
    except requests.RequestException:
        return False


def wait_until(condition: Callable[[], Any], seconds: float = 15.0) -> Any:
    """What the condition yields once it is true; the test fails if it does not become so."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not become true in time"
        time.sleep(0.05)
    return found

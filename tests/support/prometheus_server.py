"""A real Prometheus on loopback, for tests and benchmarks; optionally with a history."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from random import SystemRandom
from types import TracebackType
from typing import Any, Self

import pytest
import requests

_INSTALL = "apt-get install prometheus prometheus-alertmanager victoria-metrics openssl systemd"
_READY_SECONDS = 30.0
_STOP_SECONDS = 10.0
_PORTS = (20_000, 32_000)
"""Below those that the system gives to outgoing connections."""


def require_binary(name: str) -> str:
    """The path of an installed program.

    Without it the test is skipped, or failed when PROMAD_REQUIRE_REAL=1.
    """
    path = shutil.which(name)
    if path:
        return path
    message = f"{name} is not installed (on Debian: {_INSTALL})"
    if os.environ.get("PROMAD_REQUIRE_REAL") == "1":
        pytest.fail(message)
    pytest.skip(message)


def find_prometheus_3() -> str:
    """The path of a Prometheus 3.x, which PROMAD_PROMETHEUS_3 names; else the test is skipped."""
    path = os.environ.get("PROMAD_PROMETHEUS_3")
    if not path:
        pytest.skip("PROMAD_PROMETHEUS_3 does not name a Prometheus 3.x")
    return path


def free_port() -> int:
    """A port that nobody listens on, and that no outgoing connection takes meanwhile."""
    while True:
        port = SystemRandom().randrange(*_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def openmetrics(series: dict[str, Sequence[tuple[float, float]]]) -> str:
    """Gauges as OpenMetrics text: `{'cpu{host="a"}': [(unix seconds, value), ...]}`.

    Values are written so that they are read back exactly.
    """
    lines: list[str] = []
    declared: set[str] = set()
    for name, samples in sorted(series.items()):
        family = name.partition("{")[0]
        if family not in declared:
            declared.add(family)
            lines.append(f"# TYPE {family} gauge")
        lines += [f"{name} {float(value)!r} {at}" for at, value in samples]
    return "\n".join([*lines, "# EOF", ""])


class PrometheusServer:
    """Prometheus with its own port and data directory: `backfill`, then `start`.

    As a context manager it is started on entry and stopped on exit. `scrape_configs` is the YAML
    that stands below `scrape_configs:` in its configuration.
    """

    def __init__(
        self,
        directory: Path,
        scrape_configs: str = "[]",
        flags: Sequence[str] = (),
        binary: str | None = None,
    ) -> None:
        self.binary = binary or require_binary("prometheus")
        self.directory = directory
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.flags = tuple(flags)
        self.process: subprocess.Popen[bytes] | None = None
        self.data = directory / "data"
        self.data.mkdir(parents=True, exist_ok=True)
        text = "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
        indented = "\n".join(f"  {line}" for line in scrape_configs.splitlines())
        (directory / "prometheus.yml").write_text(f"{text}scrape_configs:\n{indented}\n")

    def backfill(self, text: str | Path) -> None:
        """Write history, given as OpenMetrics text or a file of it, before the start."""
        source = text if isinstance(text, Path) else self.directory / "history.om"
        if isinstance(text, str):
            source.write_text(text)
        tool = require_binary("promtool")
        command = [tool, "tsdb", "create-blocks-from", "openmetrics"]
        command += ["--max-block-duration=48h", "-q", str(source), str(self.data)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            raise RuntimeError(f"promtool: {done.stdout}{done.stderr}")

    def start(self) -> None:
        """Start it and wait until it is ready."""
        command = [
            self.binary,
            f"--config.file={self.directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.data}",
            "--storage.tsdb.retention.time=3650d",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--web.enable-lifecycle",
            "--log.level=warn",
            *self.flags,
        ]
        with (self.directory / "prometheus.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + _READY_SECONDS
        while not self._ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError((self.directory / "prometheus.log").read_text()[-2000:])
            time.sleep(0.02)

    def _ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/-/ready", timeout=2).status_code == 200
        except requests.RequestException:
            return False

    def stop(self) -> None:
        """Ask it to end (SIGTERM), and wait."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
            self.process = None

    def kill(self) -> None:
        """End it as a crash would (SIGKILL)."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(_STOP_SECONDS)
            self.process = None

    def restart(self) -> None:
        """Stop it if it runs, and start it on the same port with the same data."""
        self.stop()
        self.start()

    def query(self, expr: str, at: float | None = None) -> list[dict[str, Any]]:
        """The `result` of an instant query, asked without promad's own client."""
        form = {"query": expr, **({} if at is None else {"time": f"{at:.3f}"})}
        response = requests.post(f"{self.url}/api/v1/query", data=form, timeout=10)
        response.raise_for_status()
        result: list[dict[str, Any]] = response.json()["data"]["result"]
        return result

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

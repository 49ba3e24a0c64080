"""A real VictoriaMetrics on loopback, for tests."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import requests

from tests.support.prometheus_server import free_port, require_binary

_READY_SECONDS = 30.0
_STOP_SECONDS = 10.0


@contextmanager
def victoria_metrics(
    directory: Path,
    series: Mapping[str, Sequence[tuple[float, float]]],
    flags: Sequence[str] = (),
    auth: tuple[str, str] | None = None,
) -> Iterator[str]:
    """The URL of a server that holds these series: `{'cpu{host="a"}': [(seconds, value), ...]}`.

    `auth` is the user and the password that it wants.
    Without the program the test is skipped, or failed when PROMAD_REQUIRE_REAL=1.
    """
    url = f"127.0.0.1:{free_port()}"
    command = [
        require_binary("victoria-metrics"),
        f"-httpListenAddr={url}",
        f"-storageDataPath={directory / 'data'}",
        *flags,
    ]
    session = requests.Session()
    if auth is not None:
        session.auth = auth
        command += [f"-httpAuth.username={auth[0]}", f"-httpAuth.password={auth[1]}"]
    with (directory / "victoria-metrics.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _await(session, f"http://{url}/health", process)
        _load(session, f"http://{url}", series)
        yield f"http://{url}"
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_STOP_SECONDS)


def _await(session: requests.Session, url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        try:
            if session.get(url, timeout=2).ok:
                return
        except requests.RequestException:
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("victoria-metrics did not start")
        time.sleep(0.05)


def _load(
    session: requests.Session, url: str, series: Mapping[str, Sequence[tuple[float, float]]]
) -> None:
    lines = [
        f"{name} {value!r} {round(at * 1000)}\n"
        for name, samples in series.items()
        for at, value in samples
    ]
    session.post(
        f"{url}/api/v1/import/prometheus", data="".join(lines), timeout=30
    ).raise_for_status()
    session.get(f"{url}/internal/force_flush", timeout=30).raise_for_status()

"""`promad demo --hosts` and `promad bench`: a fleet without any Prometheus."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.prometheus_server import free_port

ROOT = Path(__file__).parents[2]


def promad(*arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "promad", *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False
    )


@pytest.mark.slow
def test_two_faults_on_a_fleet_are_two_incidents_and_nothing_else(tmp_path: Path) -> None:
    listen = f"--web.listen-address=127.0.0.1:{free_port()}"
    done = promad(
        "demo", "--hosts=20", "--until-detected", listen, f"--artifacts={tmp_path}", timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert re.search(r"error_burst detected \d+m(30s)? after .*, 1 incident, 7 of 7", done.stdout)
    assert re.search(r"slow_disk detected \d+m(30s)? after .*, 1 incident, 1 of 1", done.stdout)
    assert "demo: 0 other incidents" in done.stdout


def test_a_fleet_of_too_few_hosts_is_a_usage_error() -> None:
    done = promad("demo", "--hosts=3")
    assert (done.returncode, "--hosts must be 10 to 1000, not 3" in done.stderr) == (2, True)


@pytest.mark.slow
def test_a_bench_measures_ticks_memory_and_scrapes(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    done = promad(
        *("bench", "--groups=12", "--features=4", "--ticks=3", "--interval=15"),
        *("--fit", f"--json={path}"),
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(path.read_text())
    assert (found["groups"], found["features"], found["ticks"]) == (12, 4, 3)
    assert found["samples_read_per_tick"] == 48
    assert found["tick_cpu_seconds_p50"] > 0
    assert 0 < found["tick_wall_seconds_p50"] <= found["tick_wall_seconds_max"]
    assert found["metrics_series"] > 12 * 10
    assert found["groups_that_fit"] > 12
    assert f"{found['groups_that_fit']} groups of 4 features fit this machine" in done.stdout

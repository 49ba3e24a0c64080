"""`promad demo --hosts` and `promad bench`: a fleet without any Prometheus."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from promad.evaluation.capacity import Measured, conclude
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
        f"--json={path}",
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(path.read_text())
    assert (found["groups"], found["features"], found["ticks"]) == (12, 4, 3)
    assert found["samples_read_per_tick"] == 48
    assert found["tick_cpu_seconds_p50"] > 0
    assert 0 < found["tick_wall_seconds_p50"] <= found["tick_wall_seconds_max"]
    assert found["metrics_series"] > 12 * 10
    assert "bench: 12 groups of 4 features, every 15 s, 3 ticks" in done.stdout


@pytest.mark.slow
def test_a_bench_trains_weights_of_each_group(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    done = promad(
        *("bench", "--groups=6", "--features=3", "--ticks=3", "--model-scope=per_group"),
        f"--json={path}",
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(path.read_text())
    assert (found["groups"], found["model"], found["model_scope"]) == (6, "linear", "per_group")
    assert "3 ticks; linear, per_group" in done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--model=nearest",), "--model nearest: no such model — use one of"),
        (
            ("--model=tranad", "--model-scope=per_group"),
            "--model-scope per_group supports the model linear only; --model is tranad — use",
        ),
    ],
)
def test_a_bench_of_no_such_model_is_a_usage_error(options: tuple[str, ...], message: str) -> None:
    done = promad("bench", *options)
    assert (done.returncode, message in done.stderr, done.stdout) == (2, True, "")


def test_what_fits_follows_from_the_costs_of_two_fleets() -> None:
    def measured(groups: int, wall: float, memory: float) -> Measured:
        return Measured(
            *(groups, 4, 10.0, 3, wall, wall, wall, 0.01, None, memory, groups * 4),
            *(1000, 1000, 100, 0.001, "", 0.0),
        )

    fitted = conclude([measured(100, 0.5, 100.0), measured(500, 1.5, 100.0)])
    assert (fitted.groups_that_fit, fitted.limiting_resource) == (1900, "time of a tick")

"""`promad serve` scores what it is sent, with bundles that it only reads."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from promad.bundle import open_detector
from promad.clock import RealClock
from promad.config import load_config
from promad.errors import BundleError
from promad.stages.serve import serve
from tests.support.daemon_process import (
    DaemonProcess,
    run_daemon,
    train_again,
    train_small,
    wait_until,
)
from tests.support.detectors import score_rows
from tests.support.simulated import NAMES, frame_of, host_values
from tests.support.small_fleet import SAMPLES, SmallFleet, serve_fleet, train_fleet, write_config

ROWS = 40


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration file, with a bundle beside it."""
    return train_small(tmp_path_factory.mktemp("served"))


@pytest.fixture
def own(trained: Path, tmp_path: Path) -> Path:
    """The same in a directory of the test's own."""
    shutil.copytree(trained.parent, tmp_path / "own", symlinks=True)
    return tmp_path / "own" / trained.name


@pytest.fixture(scope="module")
def service(trained: Path) -> Iterator[DaemonProcess]:
    with run_daemon(trained, subcommand="serve") as running:
        yield running


def list_files(directory: Path) -> dict[str, int]:
    """Every file, and when it was written."""
    return {
        str(path.relative_to(directory)): path.stat().st_mtime_ns for path in directory.rglob("*")
    }


def samples() -> list[list[float]]:
    rows: list[list[float]] = host_values(ROWS).tolist()
    return rows


def test_scores_are_those_of_the_bundle_and_nothing_is_written(service):
    directory = service.config.parent
    before = list_files(directory)
    answer = service.post("/score", json={"data": samples(), "include_per_timestep": True})
    assert answer.status_code == 200, answer.text
    found = [row["score"] for row in answer.json()["per_timestep"] if row["score"] is not None]
    detector = open_detector(load_config(service.config)).detector
    expected = score_rows(detector, frame_of(host_values(ROWS))).score
    assert len(found) == len(expected) > ROWS / 2
    np.testing.assert_allclose(found, expected, atol=1e-4)
    after = list_files(directory)
    assert {name for name in after if after[name] != before.get(name)} <= {"detect.log"}


def test_it_is_ready_at_once_and_names_the_bundle(service):
    bundle = open_detector(load_config(service.config)).bundle.id
    assert service.get("/-/ready").status_code == 200
    assert service.get("/health").json() == {
        "status": "ready",
        "available": [bundle],
        "loaded": [bundle],
    }
    [described] = service.get("/config").json()
    assert (described["bundle"], described["features"]) == (bundle, list(NAMES))


@pytest.mark.parametrize("path", ["/", "/api/v1/groups", "/api/v1/events", "/api/v1/incidents"])
def test_what_nobody_watches_is_not_shown(service, path):
    assert service.get(path).status_code == 404


def test_its_metrics_tell_of_the_bundle_but_of_no_group(service):
    text = service.get("/metrics").text
    assert "promad_model_info{" in text
    assert "anomaly_detector_" not in text
    assert service.read_metric("promad_config_last_reload_successful") == 1.0


def test_a_reload_loads_the_new_bundle(own):
    with run_daemon(own, subcommand="serve") as running:
        bundle = train_again(own)
        running.process.send_signal(signal.SIGHUP)
        wait_until(lambda: running.get("/health").json()["loaded"] == [bundle])


def test_a_bundle_that_is_damaged_leaves_the_one_in_use(own):
    with run_daemon(own, subcommand="serve") as running:
        loaded = running.get("/health").json()["loaded"]
        directory = open_detector(load_config(own)).bundle.directory
        os.replace(directory, f"{directory}.gone")
        running.process.send_signal(signal.SIGHUP)
        wait_until(lambda: running.read_metric("promad_config_last_reload_successful") == 0.0)
        assert running.get("/health").json()["loaded"] == loaded
        assert running.post("/score", json={"data": samples()}).status_code == 200


def test_without_a_bundle_it_does_not_start(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("queries: {a: up}\n")
    with (
        pytest.raises(BundleError, match="promad train"),
        serve([load_config(path)], RealClock(), ("127.0.0.1", 0)),
    ):
        pytest.fail("it started")


def test_of_a_fleet_the_groups_of_the_training_are_scored(tmp_path):
    with serve_fleet(SmallFleet({"a": (0, SAMPLES), "b": (0, SAMPLES)})) as server:
        config = load_config(write_config(tmp_path / "config.yaml", server.url))
        train_fleet(config)
    detector = open_detector(config).detector
    with serve([config], RealClock(), ("127.0.0.1", 0)) as (service, port):
        names = [status.group for status in service.served()[0].snapshot().groups]
        assert names == list(detector.table.groups)
        group = f'web{{instance="{names[0][0][1]}"}}'
        answer = ask(port.number, {"data": [[1.0] * len(config.features)] * 20, "group": group})
        assert answer["group"] == group
        assert answer["n_scored"] > 0


def ask(port: int, body: dict[str, Any]) -> dict[str, Any]:
    answer = requests.post(f"http://127.0.0.1:{port}/score", json=body, timeout=10)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found

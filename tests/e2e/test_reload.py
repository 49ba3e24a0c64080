"""A running daemon is asked to reload in every way there is."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from promad.bundle import BundleStore
from promad.config import load_config
from tests.support.daemon_process import (
    DaemonProcess,
    run_daemon,
    train_again,
    train_small,
    wait_until,
)
from tests.support.running_world import promad

PREFIX = "/promad"
LAUNCHER = (sys.executable, "-m", "tests.support.pass_socket", "PORT")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a configuration and two bundles, to be copied."""
    config = train_small(tmp_path_factory.mktemp("trained"))
    train_again(config)
    return config.parent


def copy(trained: Path, directory: Path) -> Path:
    shutil.copytree(trained, directory, symlinks=True, dirs_exist_ok=True)
    return directory / "config.yaml"


@pytest.fixture(scope="module")
def daemon(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """A daemon on a socket that was passed to it, below a prefix."""
    config = copy(trained, tmp_path_factory.mktemp("reload"))
    options = ("--web.enable-lifecycle", "--web.external-url=http://p.example/promad/")
    arguments = (*options, "--web.systemd-socket")
    with run_daemon(config, *arguments, prefix=PREFIX, command=LAUNCHER) as running:
        yield running


def loaded(daemon: DaemonProcess) -> str:
    (one,) = daemon.get("/config").json()
    return str(one["bundle"])


def test_a_socket_of_systemd_is_served(daemon: DaemonProcess) -> None:
    assert daemon.get("/-/healthy").status_code == 200
    assert f"detect: serving on http://localhost:{daemon.port}{PREFIX}/" in daemon.log()
    (one,) = daemon.get("/config").json()
    assert one["config"]["web"]["external_url"] == "http://p.example/promad"


def test_the_port_reloads(daemon: DaemonProcess) -> None:
    before, after = loaded(daemon), train_again(daemon.config, 120.0)
    assert loaded(daemon) == before != after
    foreign = {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}
    assert daemon.post("/-/reload", headers=foreign).status_code == 403
    assert loaded(daemon) == before
    assert daemon.post("/-/reload").text == "promad reloaded its configuration.\n"
    assert loaded(daemon) == after


def test_a_rollback_takes_effect_at_once(daemon: DaemonProcess) -> None:
    newest = loaded(daemon)
    done = promad(daemon.config, "models", "rollback", "--reload")
    assert done.returncode == 0, done.stderr
    rolled_back, reloaded = done.stdout.splitlines()
    process = daemon.process.pid
    assert reloaded == f"reload: process {process} has loaded the configuration and the bundles"
    assert rolled_back == f"models: rolled back to {loaded(daemon)}"
    assert loaded(daemon) != newest
    done = promad(daemon.config, "models", "promote", newest, "--reload")
    assert (done.returncode, loaded(daemon)) == (0, newest)


def test_promad_reload_prints_the_result(daemon: DaemonProcess) -> None:
    done = promad(daemon.config, "reload")
    expected = (
        f"reload: process {daemon.process.pid} has loaded the configuration and the bundles\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")


def test_a_mute_takes_effect_by_a_reload(daemon: DaemonProcess) -> None:
    before, muted = daemon.config.read_text(), 'anomaly_detector_muted{detector="promad"} 1.0'
    assert "anomaly_detector_muted{" not in daemon.get().text
    daemon.config.write_text(f"{before}mute: [{{from: 2020-01-01, to: 2120-01-01}}]\n")
    try:
        assert promad(daemon.config, "reload").returncode == 0
        wait_until(lambda: muted in daemon.get().text)
    finally:
        daemon.config.write_text(before)
    assert daemon.post("/-/reload").status_code == 200
    wait_until(lambda: "anomaly_detector_muted{" not in daemon.get().text)


def test_promad_reload_prints_what_is_wrong(daemon: DaemonProcess) -> None:
    before = daemon.config.read_text()
    try:
        daemon.config.write_text(before + "steps: 1s\n")
        done = promad(daemon.config, "reload")
        assert (done.returncode, done.stdout) == (2, "")
        assert "steps: unknown key" in done.stderr
        assert daemon.read_metric("promad_config_last_reload_successful") == 1, "not asked"
        first, *_ = load_config_features(before)
        daemon.config.write_text(before.replace(f"  {first}: {first}\n", ""))
        done = promad(daemon.config, "reload")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(
            f"promad: reload failed in process {daemon.process.pid}, which continues as before: "
        )
        assert done.stderr.count("\n") == 1
        assert daemon.read_metric("promad_config_last_reload_successful") == 0
        answer = daemon.post("/-/reload")
        assert (answer.status_code, answer.text.partition(":")[0]) == (500, "reload failed")
    finally:
        daemon.config.write_text(before)
    assert daemon.post("/-/reload").status_code == 200
    assert daemon.read_metric("promad_config_last_reload_successful") == 1


def load_config_features(text: str) -> list[str]:
    lines = text.split("queries:\n")[1].splitlines()
    return [line.split(":")[0].strip() for line in lines if line.startswith("  ")]


def test_after_all_that_it_still_stops(daemon: DaemonProcess) -> None:
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.process.wait(10) == 0
    done = promad(daemon.config, "reload")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no promad detect runs on this directory" in done.stderr


def test_changed_content_is_loaded_by_itself(trained: Path, tmp_path: Path) -> None:
    """As a ConfigMap of Kubernetes: the file is a link, and what it leads to changes at once."""
    config = copy(trained, tmp_path)
    text = config.read_text()
    for number in (1, 2):
        (tmp_path / f"v{number}").mkdir()
        (tmp_path / f"v{number}" / "config.yaml").write_text(text)
    with (tmp_path / "v2" / "config.yaml").open("a") as more:
        more.write("real_time_anomaly_detection: {stale_after: 77s}\n")
    (tmp_path / "..data").symlink_to("v1")
    config.unlink()
    config.symlink_to("..data/config.yaml")
    with run_daemon(config, "--config.auto-reload-interval=1s") as daemon:
        (tmp_path / "next").symlink_to("v2")
        (tmp_path / "next").rename(tmp_path / "..data")
        wait_until(lambda: read_stale_after(daemon) == 77.0)
        older = BundleStore.of(load_config(config)).rollback().id
        wait_until(lambda: loaded(daemon) == older)
        assert daemon.post("/-/reload").status_code == 403


def read_stale_after(daemon: DaemonProcess) -> float:
    (one,) = daemon.get("/config").json()
    return float(one["config"]["real_time_anomaly_detection"]["stale_after"])

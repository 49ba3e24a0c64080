"""The daemon as a whole: what it serves, what a reload changes and what it never does."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import numpy as np
import pytest
import requests
import structlog

from promad.cli.logs import LogFormat, LogLevel, configure_logging
from promad.clock import RealClock
from promad.config import Config, Query
from promad.data.frame import single_group
from promad.detection.daemon import Daemon
from promad.detection.threshold_file import FILE_NAME as THRESHOLD_FILE
from promad.errors import BundleError, ConfigError, DataError, PromadError
from promad.events.event_log import FILE_NAME, EventLog
from promad.events.events import AnomalyEvent
from promad.events.verdict import FeatureView, State, Verdict
from promad.stages.detect import detect
from promad.stages.preprocess import preprocess
from promad.stages.train import train
from tests.support.simulated import NAMES, NOW, START, silent, write_raw


def reachable(config: Config) -> Config:
    """The configuration for a server that refuses at once: the daemon is blind and quick."""
    return config.model_copy(update={"prometheus_url": "http://127.0.0.1:9"})


@contextmanager
def running(config: Config) -> Iterator[Daemon]:
    with detect([reachable(config)], RealClock(), "127.0.0.1", 0) as daemon:
        yield daemon


def metrics(daemon: Daemon) -> str:
    return requests.get(f"http://127.0.0.1:{daemon.port}/metrics", timeout=5).text


def test_the_configuration_in_use_is_dated(sketched) -> None:
    with running(sketched.config) as daemon:
        text = metrics(daemon)
    assert "\npromad_config_last_reload_successful 1.0\n" in text
    assert "\npromad_config_last_reload_success_timestamp_seconds 1." in text


def test_a_reload_takes_the_bundle_that_is_current_now(sketched) -> None:
    config = sketched.config
    before = sketched.bundle.id
    with running(config) as daemon:
        assert f'bundle="{before}"' in metrics(daemon)
        after = train(
            config, lambda *_: None, now=lambda: sketched.bundle.trained_at + 60
        ).bundle.id
        assert after != before
        daemon.reload(lambda: [reachable(config)])
        text = metrics(daemon)
        assert f'bundle="{after}"' in text
        assert f'bundle="{before}"' not in text
        assert [one.bundle.id for one in daemon.served()] == [after]


@pytest.mark.parametrize(
    "failure",
    [ConfigError(["config.yaml:3: steps: unknown key"]), BundleError("no bundle"), DataError("no")],
)
def test_a_reload_that_fails_is_told_and_everything_goes_on(sketched, failure) -> None:
    def read() -> list[Config]:
        raise failure

    with running(sketched.config) as daemon, structlog.testing.capture_logs() as lines:
        working = daemon.served()
        daemon.reload(read)
        assert daemon.served() == working
        assert "\npromad_config_last_reload_successful 0.0\n" in metrics(daemon)
        daemon.reload(lambda: [reachable(sketched.config)])
        assert "\npromad_config_last_reload_successful 1.0\n" in metrics(daemon)
    told = [line["error"] for line in lines if line["event"] == "reload failed"]
    assert told == [str(failure)]


def test_a_reload_without_a_fitting_bundle_goes_on_with_the_one_before(sketched) -> None:
    other = sketched.config.model_copy(update={"queries": {"new": Query(expr="up")}})
    with running(sketched.config) as daemon:
        daemon.reload(lambda: [other])
        assert "\npromad_config_last_reload_successful 0.0\n" in metrics(daemon)
        assert daemon.served()[0].config.features == sketched.config.features


def test_which_detectors_there_are_takes_a_restart_to_change(sketched) -> None:
    another = reachable(sketched.config).model_copy(update={"name": "another"})
    with running(sketched.config) as daemon, structlog.testing.capture_logs() as lines:
        daemon.reload(lambda: [another])
    assert "reload cannot add or remove detectors; restart promad" in [
        line.get("error") for line in lines
    ]


def test_events_are_kept_in_the_artifacts_directory(sketched) -> None:
    with running(sketched.config):
        assert (sketched.config.artifacts_dir / FILE_NAME).exists()


def test_a_damaged_event_log_is_moved_aside_and_the_daemon_starts(sketched) -> None:
    path = sketched.config.artifacts_dir / FILE_NAME
    path.write_bytes(b"not a database " * 100)
    with structlog.testing.capture_logs() as lines, running(sketched.config):
        pass
    assert path.with_name(f"{FILE_NAME}.damaged").read_bytes().startswith(b"not a database")
    assert "event log damaged; starting a new one" in [line["event"] for line in lines]


def test_an_event_log_of_a_newer_promad_is_no_reason_to_overwrite_it(sketched) -> None:
    log = EventLog(sketched.config.artifacts_dir / FILE_NAME)
    log._connection.execute("PRAGMA user_version = 99")
    log.close()
    with pytest.raises(DataError, match="is of version 99"), running(sketched.config):
        pass


@pytest.mark.parametrize("failure", [ValueError("x"), RecursionError(), MemoryError()])
def test_no_file_that_cannot_be_read_ends_the_daemon(sketched, failure, monkeypatch) -> None:
    with running(sketched.config) as daemon, structlog.testing.capture_logs() as lines:

        def fail(*_: object) -> None:
            raise failure

        with monkeypatch.context() as patch:
            patch.setattr("promad.detection.daemon.open_detector", fail)
            daemon.reload(lambda: [reachable(sketched.config)])
        assert "\npromad_config_last_reload_successful 0.0\n" in metrics(daemon)
        assert daemon.find_trouble() == ""
        daemon.reload(lambda: [reachable(sketched.config)])
        assert "\npromad_config_last_reload_successful 1.0\n" in metrics(daemon)
    assert "reload failed" in [line["event"] for line in lines]


def test_a_changed_port_is_said_to_need_a_restart(sketched) -> None:
    live = sketched.config.real_time_anomaly_detection.model_copy(update={"exporter_port": 9})
    changed = sketched.config.model_copy(update={"real_time_anomaly_detection": live})
    with running(sketched.config) as daemon, structlog.testing.capture_logs() as lines:
        daemon.reload(lambda: [reachable(changed)])
    assert "exporter_port changed; restart promad to listen on it" in [
        line["event"] for line in lines
    ]


def test_two_daemons_do_not_share_a_directory(sketched) -> None:
    with running(sketched.config) as daemon:
        taken = pytest.raises(PromadError, match="another promad detect uses this directory")
        with taken, running(sketched.config):
            pass
        daemon.reload(lambda: [reachable(sketched.config)])
    with running(sketched.config):
        pass


def test_a_loop_that_has_stopped_is_not_healthy(sketched) -> None:
    with running(sketched.config) as daemon:
        assert daemon.find_trouble() == ""
        daemon._stop.set()
        daemon._running[0].thread.join()
        assert daemon.find_trouble() == "detector promad has stopped"
        answer = requests.get(f"http://127.0.0.1:{daemon.port}/-/healthy", timeout=5)
        assert (answer.status_code, answer.text) == (
            503,
            "promad is not healthy: detector promad has stopped.\n",
        )


def test_log_lines_that_nobody_reads_end_nothing(monkeypatch) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

        def flush(self) -> None:
            raise OSError("No space left on device")

    monkeypatch.setattr("sys.stderr", Gone())
    configure_logging(LogLevel.INFO, LogFormat.LOGFMT)
    structlog.get_logger().warning("nobody reads this", reason="gone")


def begin_event(daemon: Daemon, now: float) -> AnomalyEvent:
    """An open event of the only group, as if it had been detected."""
    state = daemon._running[0].only.live.state
    features = state.events.features
    view = FeatureView(features[0], 2.0, 1.0, 5.0, 1.0, elevation=3.0, since=now - 90)
    peak = Verdict(now - 60, State.ANOMALOUS, 1.0, score=2.86, features=(view,))
    event = AnomalyEvent("promad", now - 90, now - 60, None, peak)
    nothing = [0.0] * len(features)
    content = {
        "scored_until": now - 30,
        "deviating": {features[0]: now - 90},
        "current": asdict(event),
        "rising": None,
        "above": 0,
        "below": 1,
        "last_above": now - 60,
        "onset": {"at": now - 90, "level": nothing, "shift": nothing, "largest": 7.0},
        "held": [5.0, *nothing[1:]],
    }
    state.resume(0, content)
    state.events.begun[0] = 4
    return event


def test_an_open_event_continues_over_a_reload_onto_another_bundle(sketched) -> None:
    now = time.time()
    with running(sketched.config) as daemon:
        event = begin_event(daemon, now)
        before = daemon.served()[0].bundle.id
        train(sketched.config, silent, now=lambda: NOW + 7)
        daemon.reload(lambda: [reachable(sketched.config)])
        assert daemon.served()[0].bundle.id != before
        after = daemon._running[0].only.live.state
        continued = after.events.open_event(0)
        assert (continued.id, continued.peak_ratio) == (event.id, 2.86)
        assert after.events.begun.tolist() == [4]
        assert after.deviating_since[0, 0] == now - 90
        assert after.scored_until.tolist() == [now - 30]
        assert daemon.served()[0].events.find(is_open=False) == []


def test_what_is_measured_in_units_of_a_bundle_continues_with_the_same_bundle_only(
    sketched,
) -> None:
    now = time.time()
    with running(sketched.config) as daemon:
        begin_event(daemon, now)
        daemon.reload(lambda: [reachable(sketched.config)])
        same = daemon._running[0].only.live.state
        assert (same.onsets.largest[0], same.held.largest[0, 0]) == (7.0, 5.0)
        train(sketched.config, silent, now=lambda: NOW + 7)
        daemon.reload(lambda: [reachable(sketched.config)])
        other = daemon._running[0].only.live.state
        assert other.events.open_event(0) is not None
        assert np.isnan(other.onsets.at[0])
        assert other.held.largest[0, 0] == 0.0


def test_a_bundle_with_another_step_begins_from_scratch(sketched) -> None:
    data = sketched.config.data_settings.model_copy(update={"step": 60.0})
    slower = sketched.config.model_copy(update={"data_settings": data})
    with running(sketched.config) as daemon:
        event = begin_event(daemon, time.time())
        log, state = daemon._running[0].events, daemon._running[0].only.live.state
        log.record(event, sketched.bundle.id, event.peak.at)
        log.remember(state.names[0], sketched.bundle.id, state.to_json(0))
        write_raw(slower, [single_group(START, 60.0, NAMES, sketched.values)])
        preprocess(slower)
        train(slower, silent, now=lambda: NOW + 7)
        daemon.reload(lambda: [reachable(slower)])
        state = daemon._running[0].only.live.state
        assert state.events.open_event(0) is None
        assert np.isnan(state.scored_until[0])
        (ended,) = daemon.served()[0].events.find(is_open=False)
        assert (ended.event.id, ended.end_reason) == (event.id, "bundle")


@pytest.mark.parametrize("damage", ["fifo", "deep", "directory", "link"])
def test_no_saved_threshold_state_prevents_the_start(sketched, damage) -> None:
    path = sketched.config.artifacts_dir / THRESHOLD_FILE
    if damage == "fifo":
        os.mkfifo(path)
    elif damage == "deep":
        path.write_text("[" * 100_000)
    elif damage == "directory":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    with structlog.testing.capture_logs() as lines, running(sketched.config) as daemon:
        assert daemon.find_trouble() == ""
    assert "saved threshold state is unreadable; starting fresh" in [
        each["event"] for each in lines
    ]

"""From PromQL to a flag in Prometheus: the stages and the daemon as a user runs them.

One Prometheus with a backfilled history scrapes one target and one `promad detect`; the tests of
this file follow one another on it.
"""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import requests

from promad.config.durations import format_instant, parse_instant
from promad.events.event_log import EventLog
from tests.support import dashboards
from tests.support.prometheus_server import free_port
from tests.support.running_world import (
    FEATURES,
    Target,
    World,
    build_server,
    configuration,
    detecting,
    promad,
    start_detect,
    until,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("world")
    target, port = Target(), free_port()
    prometheus = build_server(directory, target, port)
    config = directory / "config.yaml"
    config.write_text(configuration(prometheus.url, port))
    assert promad(config, "mixin", "-o", str(directory / "mixin")).returncode == 0
    with prometheus:
        stages = promad(config, "run", "--retrain")
        assert stages.returncode == 0, stages.stdout + stages.stderr
        with detecting(prometheus, target, config, port) as all_of_it:
            yield all_of_it


def test_the_stages_leave_their_files(world: World) -> None:
    artifacts = world.config.parent / "artifacts"
    names = {path.name for path in artifacts.iterdir()}
    assert names >= {
        "prometheus_metrics_data.parquet",
        "processed_metrics_data.parquet",
        "fitted_scaler.joblib",
        "normal_sequences.npy",
        "anomalous_sequences.npy",
        "bundles",
    }
    bundle = {path.name for path in (artifacts / "bundles" / "current").iterdir()}
    assert bundle >= {
        "manifest.json",
        "model.onnx",
        "fitted_scaler.joblib",
        "training_history_loss.png",
        "reconstruction_error_histogram.png",
    }
    assert bundle & {"lstm_autoencoder_model.keras", "lstm_autoencoder_model_filtered.keras"}


def test_check_config_finds_every_query_answered(world: World) -> None:
    checked = promad(world.config, "check-config", "--online")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert checked.stdout.count("1 series") == len(FEATURES)


def test_the_daemon_becomes_ready_and_scores_without_tensorflow(world: World) -> None:
    until(lambda: requests.get(f"http://127.0.0.1:{world.port}/-/ready", timeout=5).ok)
    until(lambda: world.state() == "ok")
    maps = Path(f"/proc/{world.detect.pid}/maps").read_text()
    assert "onnxruntime" in maps
    assert "tensorflow" not in maps


def test_a_spike_is_flagged_in_prometheus_once_and_explained(world: World) -> None:
    until(world.is_quiet, 180)
    until(lambda: world.value("anomaly_detector_is_anomaly_detected") == 0)
    before = world.value("anomaly_detector_total_anomalies_count_total") or 0
    world.target.spike = 8.0
    until(lambda: world.value("anomaly_detector_is_anomaly_detected") == 1)
    assert (world.value("anomaly_detector_score") or 0) > 1
    top = "topk(1, anomaly_detector_feature_contribution_ratio{%s})"
    assert world.value(top % 'feature_name="latency"') == world.value(top % "")
    time.sleep(5)
    world.target.spike = 0.0
    until(lambda: world.value("anomaly_detector_is_anomaly_detected") == 0)
    assert world.value("anomaly_detector_total_anomalies_count_total") == before + 1
    assert 'msg="anomaly began"' in world.log()
    *_, ended = (line for line in world.log().splitlines() if 'msg="anomaly ended"' in line)
    assert 'top_features="latency' in ended


def test_the_event_is_kept_and_explained_alike_by_api_log_and_replay(world: World) -> None:
    event = until(lambda: [each for each in world.api("events")["events"] if not each["open"]])[0]
    assert event["features"][0]["name"] == "latency"
    assert event["peak_score"] > 1
    ended = next(
        line for line in world.log().splitlines() if event["id"] in line and "end=" in line
    )
    assert event["id"] in ended
    assert event["paragraph"] in world.log()
    explained = world.api("explain", group="promad", at=str(event["peak_at"]))
    assert (explained["state"], explained["features"][0]["name"]) == ("anomalous", "latency")
    moment = format_instant(event["peak_at"])
    told = promad(world.config, "explain", "--at", moment)
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith(f"promad at {moment}: anomalous\n")
    assert re.search(r"latency: \d+% of the deviation", told.stdout)
    # not the seconds between the backfilled history and the first scrape: an event of the replay
    quiet = format_instant(event["start"] - 15)
    replayed = promad(world.config, "backtest", "--from", quiet)
    assert replayed.returncode == 0, replayed.stderr
    starts = re.findall(r"^  [0-9a-f]{12}  (\S+)", replayed.stdout, re.MULTILINE)
    assert abs(parse_instant(starts[0]) - event["start"]) <= 2


def test_every_panel_of_every_dashboard_has_data_but_of_remote_write(world: World) -> None:
    until(lambda: world.value("min_over_time(up{job='promad'}[20s]) > 0"), 90)
    empty, folder = {}, world.config.parent / "mixin" / "grafana" / "dashboards"
    for where, expr in dashboards.every_target(folder):
        query = dashboards.substitute(expr, __rate_interval="15s")
        now = time.time()
        answer = requests.post(
            f"{world.prometheus.url}/api/v1/query_range",
            data={"query": query, "start": now - 30, "end": now, "step": 1},
            timeout=5,
        ).json()
        told = answer.get("warnings") or answer.get("infos")
        if told or not answer.get("data", {}).get("result"):
            empty[where] = (query, answer)
    for where in dashboards.list_received(folder):
        del empty[where]  # this daemon polls
    assert not empty


def test_every_rule_is_evaluated_and_the_anomaly_has_fired(world: World) -> None:
    answer = requests.get(f"{world.prometheus.url}/api/v1/rules", timeout=5).json()
    rules = {rule["name"]: rule for group in answer["data"]["groups"] for rule in group["rules"]}
    assert {rule["health"] for rule in rules.values()} == {"ok"}
    (alert,) = rules["PromadAnomaly"]["alerts"]
    assert alert["annotations"]["description"].startswith("Score: ")


def test_a_server_that_goes_away_makes_the_group_blind_and_back_again(world: World) -> None:
    world.prometheus.kill()
    # a server that dies within a poll has answered its first queries
    until(lambda: "query load and 3 more" in world.api("groups")["groups"][0]["why"])
    text = world.metrics()
    for withdrawn in ("score", "is_anomaly_detected", "latest_reconstruction_error_mse"):
        assert f"\nanomaly_detector_{withdrawn}{{" not in text
    assert "\nanomaly_detector_feature_" not in text
    assert '\npromad_query_up{detector="promad",query="load"} 0.0' in text
    shown = world.api("group", group="promad")
    assert (shown["group"]["state"], shown["group"]["score"]) == ("blind", None)
    assert "load" in shown["failed_queries"]
    assert shown["explanation"]["paragraph"].startswith("Blind: query load and 3 more failed")
    assert requests.get(f"http://127.0.0.1:{world.port}/-/healthy", timeout=5).ok
    world.prometheus.start()
    until(lambda: world.state() == "ok", 90)
    assert world.detect.poll() is None
    assert 'msg="query failed"' in world.log()
    assert 'msg="query answered again"' in world.log()


def test_a_target_that_goes_away_makes_the_group_blind(world: World) -> None:
    until(lambda: world.state() == "ok")
    world.target.close()
    until(lambda: world.state() == "blind")
    assert "no sample of" in world.api("groups")["groups"][0]["why"]


def test_sighup_takes_what_the_file_says_now_or_says_why_not(world: World) -> None:
    world.target = Target(port=world.target.port)
    before = world.config.read_text()
    worked = "\npromad_config_last_reload_successful"
    world.config.write_text(before + "steps: 1s\n")
    world.detect.send_signal(signal.SIGHUP)
    until(lambda: f"{worked} 0.0" in world.metrics())
    assert "steps: unknown key" in world.log()
    until(lambda: world.state() == "ok", 90)
    world.config.write_text(before.replace("stale_after: 5s", "stale_after: 6s"))
    world.detect.send_signal(signal.SIGHUP)
    until(lambda: f"{worked} 1.0" in world.metrics())
    (loaded,) = requests.get(f"http://127.0.0.1:{world.port}/config", timeout=5).json()
    assert loaded["config"]["real_time_anomaly_detection"]["stale_after"] == 6.0
    assert len(world.api("history")["times"]) > 10
    until(lambda: world.state() == "ok", 90)


def test_a_second_daemon_on_the_same_port_says_so_and_ends(world: World) -> None:
    second = promad(world.config, "detect")
    assert second.returncode == 1
    assert f":{world.port} (Address already in use)" in second.stderr
    assert second.stderr.count("\n") == 1


def test_sigterm_ends_the_daemon_within_five_seconds(world: World) -> None:
    world.detect.send_signal(signal.SIGTERM)
    assert world.detect.wait(timeout=5) == 0


def test_events_outlast_the_daemon(world: World) -> None:
    with closing(EventLog(world.config.parent / "artifacts" / "events.db")) as log:
        assert any(found.event.top_features[0].name == "latency" for found in log.find())


def test_a_daemon_whose_server_is_down_at_the_start_is_blind_and_recovers(world: World) -> None:
    world.detect.kill()
    world.detect.wait()
    world.prometheus.kill()
    world.detect = start_detect(world.config)
    until(lambda: world.state() == "blind")
    ready = requests.get(f"http://127.0.0.1:{world.port}/-/ready", timeout=5)
    assert ready.status_code == 503
    world.prometheus.start()
    until(lambda: world.state() == "ok", 90)
    assert requests.get(f"http://127.0.0.1:{world.port}/-/ready", timeout=5).ok

"""A real Prometheus sends to promad by remote write: the same scores as by polling, and a catch-up.

Time is that of the samples: they lie in the near future, which Prometheus stores and sends at once.
"""

from __future__ import annotations

import math
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from promad.config import Config, PrometheusSettings, load_config
from promad.data.artifacts import write_frames
from promad.data.frame import MetricFrame, align_up
from promad.detection.daemon import Daemon
from promad.events.verdict import State
from promad.mixin.deployment import Deployment
from promad.mixin.features import render_remote_write
from promad.mixin.writing import build_feature_files
from promad.prometheus.remote_write import RemoteWriter
from promad.stages.detect import detect
from promad.stages.preprocess import preprocess
from promad.stages.train import train
from promad.web.serving import WebOptions
from tests.support.daemon_process import run_daemon
from tests.support.prometheus_server import (
    PrometheusServer,
    find_prometheus_3,
    free_port,
    require_binary,
)
from tests.support.promtool import Story
from tests.support.remote_write_messages import compress, encode_version_1, feature
from tests.support.small_fleet import FEATURES, STEP, TRAINED, SmallFleet
from tests.support.small_fleet import at as trained_at

LENGTH = 6
SCORED = 7
LATE = 7.0
"""Seconds by which samples are older than their grid time, as the results of rules are."""
HOSTS = ("a", "b", "c")
FLEET = SmallFleet(dict.fromkeys(HOSTS, (0, 900)))
Values = Mapping[str, Mapping[str, float | None]]


class SteppedClock:
    """It is what a test says, in unix seconds."""

    def __init__(self, at: float) -> None:
        self.at = at

    def now(self) -> float:
        return self.at

    def elapsed(self) -> float:
        return self.at

    def wait_until(self, at: float, stop: threading.Event) -> None:
        while self.at < at and not stop.is_set():
            stop.wait(0.01)


URL = "http://prometheus.invalid"


def train_fleet(directory: Path, grouped: bool) -> Path:
    """A directory with a bundle and a configuration, whose queries select what is recorded."""
    queries = "".join(
        f'  {name}: \'promad:feature{{detector="web", feature_name="{name}"}}\'\n'
        for name in FEATURES
    )
    (directory / "config.yaml").write_text(
        f"name: web\nprometheus_url: {URL}\nqueries:\n{queries}"
        + ("group_by: [instance]\n" if grouped else "")
        + "data_settings: {step: 30s}\n"
        f"training_settings: {{model: linear, sequence_length: {LENGTH}, gate: false}}\n"
        "real_time_anomaly_detection: {query_interval_seconds: 30, latency_offset: 0s}\n"
    )
    config = load_config(directory / "config.yaml")
    frames = [
        MetricFrame(
            trained_at(0),
            STEP,
            FEATURES,
            ((("instance", host),) if grouped else (),),
            FLEET.values(host)[None, :TRAINED],
        )
        for host in (HOSTS if grouped else HOSTS[:1])
    ]
    write_frames(config.artifacts_dir / config.data_settings.output_filename, frames, {})
    preprocess(config)
    train(config, lambda *_: None, now=lambda: trained_at(900))
    return directory


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_fleet(tmp_path_factory.mktemp("grouped"), grouped=True)


@pytest.fixture(scope="module")
def trained_alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_fleet(tmp_path_factory.mktemp("alone"), grouped=False)


def copy_config(trained: Path, directory: Path, url: str) -> Config:
    """The same for another server, in a directory of its own."""
    shutil.copytree(trained, directory, symlinks=True)
    path = directory / "config.yaml"
    path.write_text(path.read_text().replace(URL, url))
    return load_config(path)


@dataclass
class Live:
    """A Prometheus that sends to a daemon, another daemon that polls it, and what both found.

    Attributes:
        sent: how many samples Prometheus was given.
        scores: by daemon, group and time its score; None if it has none.
    """

    writer: RemoteWriter
    clock: SteppedClock
    daemons: dict[str, Daemon]
    base: float
    sent: int = 0
    scores: dict[str, dict[tuple[Any, float], float | None]] = field(
        default_factory=lambda: {"polls": {}, "receives": {}}
    )

    def at(self, sample: int) -> float:
        return self.base + STEP * sample

    def store(self, sample: int, values: Values) -> None:
        """Let Prometheus have samples that were recorded before a grid time, by host and query."""
        at = self.at(sample) - LATE
        series = {
            (
                ("__name__", "promad:feature"),
                ("detector", "web"),
                ("feature_name", name),
                ("instance", host),
            ): [(at, value)]
            for host, of_host in values.items()
            for name, value in of_host.items()
        }
        self.writer.push(series)
        self.sent += len(series)

    def await_received(self) -> None:
        """Wait until the daemon has all that Prometheus was given."""
        registry = self.daemons["receives"].registry
        name, labels = "promad_remote_write_samples_total", {"detector": "web"}
        wait_for(lambda: registry.get_sample_value(name, labels) == self.sent)

    def tick(self, sample: int) -> None:
        """Let both daemons judge a sample."""
        before = {name: count_ticks(daemon) for name, daemon in self.daemons.items()}
        self.clock.at = self.at(sample)
        for name, daemon in self.daemons.items():
            wait_for(lambda name=name, daemon=daemon: count_ticks(daemon) > before[name])
            self.scores[name] |= read_scores(daemon, self.at(sample))


def wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30.0
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def statuses(daemon: Daemon) -> Any:
    (served,) = daemon.served()
    return served.snapshot().groups


def count_ticks(daemon: Daemon) -> float:
    name, labels = "promad_tick_duration_seconds_count", {"detector": "web"}
    return daemon.registry.get_sample_value(name, labels) or 0.0


def read_newest(daemon: Daemon) -> float | None:
    """Unix time of the newest sample that was received."""
    name = "promad_remote_write_newest_sample_timestamp_seconds"
    return daemon.registry.get_sample_value(name, {"detector": "web"})


def read_scores(daemon: Daemon, at: float) -> dict[tuple[Any, float], float | None]:
    return {(each.group, at): each.verdict.score for each in statuses(daemon)}


@contextmanager
def run_both(
    trained: Path,
    directory: Path,
    *,
    binary: str | None = None,
    protobuf: str | None = None,
) -> Iterator[Live]:
    """Both daemons, before their first sample."""
    port = free_port()
    server = PrometheusServer(
        directory, flags=["--web.enable-remote-write-receiver"], binary=binary
    )
    polls, receives = (
        copy_config(trained, directory / name, server.url) for name in ("polls", "receives")
    )
    url = f"http://127.0.0.1:{port}/api/v1/write"
    sends = yaml.safe_load(render_remote_write(Deployment.from_configs([receives], "promad"), url))
    sends["remote_write"][0]["queue_config"]["batch_send_deadline"] = "50ms"
    if protobuf:
        sends["remote_write"][0]["protobuf_message"] = protobuf
    with (directory / "prometheus.yml").open("a") as file:
        file.write(yaml.safe_dump(sends))
    with ExitStack() as stack:
        stack.enter_context(server)
        base = align_up(time.time() + 15.0, STEP)
        clock = SteppedClock(base - STEP)
        daemons = {
            "polls": stack.enter_context(detect([polls], clock, "127.0.0.1", 0)),
            "receives": stack.enter_context(
                detect([receives], clock, "127.0.0.1", port, web=WebOptions(receives=True))
            ),
        }
        for daemon in daemons.values():
            wait_for(lambda daemon=daemon: count_ticks(daemon) == 1)
        writer = RemoteWriter(f"{server.url}/api/v1/write", server.url, PrometheusSettings())
        stack.callback(writer.close)
        yield Live(writer, clock, daemons, base)


def values(sample: int) -> dict[str, dict[str, float | None]]:
    """What the hosts do, which is like what they were trained on."""
    return {
        host: dict(zip(FEATURES, FLEET.values(host)[TRAINED + sample].tolist(), strict=True))
        for host in HOSTS
    }


def compare(live: Live, least: int) -> None:
    """All scores of both daemons are the same, and there are some."""
    polled, received = live.scores["polls"], live.scores["receives"]
    assert polled.keys() == received.keys()
    scored = [key for key, score in polled.items() if score is not None]
    assert len(scored) >= least
    assert [key for key, score in received.items() if score is not None] == scored
    for key in scored:
        assert received[key] == pytest.approx(polled[key], rel=1e-9)
    assert count_catch_ups(live.daemons["receives"], "failure") == 0


def count_catch_ups(daemon: Daemon, result: str) -> float | None:
    labels = {"detector": "web", "result": result}
    return daemon.registry.get_sample_value("promad_remote_write_catch_ups_total", labels)


def test_scores_are_those_of_polling(trained: Path, tmp_path: Path) -> None:
    """Also where samples are missing, not finite, or the end of a series."""
    with run_both(trained, tmp_path) as live:
        for sample in range(LENGTH + SCORED):
            sent = values(sample)
            if sample == LENGTH + 2:
                del sent["a"]["cpu"]  # the last value is repeated
                sent["b"]["latency"] = math.nan
                sent["c"] = dict.fromkeys(FEATURES)  # staleness markers
            live.store(sample, sent)
            live.await_received()
            live.tick(sample)
        compare(live, least=2 * SCORED - 1)
        ended = live.scores["receives"][(("instance", "c"),), live.at(LENGTH + 2)]
        assert ended is None


def test_scores_of_one_group_are_those_of_polling(trained_alone: Path, tmp_path: Path) -> None:
    with run_both(trained_alone, tmp_path) as live:
        for sample in range(LENGTH + SCORED):
            live.store(sample, {"a": values(sample)["a"]})
            live.await_received()
            live.tick(sample)
        compare(live, least=SCORED)


def test_the_second_version_of_the_protocol_brings_the_same(trained: Path, tmp_path: Path) -> None:
    version = "io.prometheus.write.v2.Request"
    with run_both(trained, tmp_path, binary=find_prometheus_3(), protobuf=version) as live:
        for sample in range(LENGTH + 2):
            live.store(sample, values(sample))
            live.await_received()
            live.tick(sample)
        compare(live, least=2 * len(HOSTS))


def test_what_was_not_received_is_queried_after_a_restart(trained: Path, tmp_path: Path) -> None:
    """A daemon that starts late has the whole window at its first tick."""
    with run_both(trained, tmp_path) as live:
        for sample in range(LENGTH + 2):
            live.store(sample, values(sample))  # most are too far ahead of the clock to be taken
        receives = live.daemons["receives"]
        receives.stop()
        (config,) = [each.config for each in receives.served()]
        ticks, live.clock.at = count_ticks(receives), live.at(LENGTH + 1)
        receives.start([config])
        wait_for(lambda: count_ticks(receives) > ticks)
        assert {each.verdict.state for each in statuses(receives)} == {State.OK}
        live.store(LENGTH + 2, values(LENGTH + 2))
        wait_for(lambda: read_newest(receives) == live.at(LENGTH + 2) - LATE)
        live.tick(LENGTH + 2)
        compare(live, least=len(HOSTS))
        assert count_catch_ups(receives, "success") in {2, 3}  # both starts, and the first sample


def test_a_sender_that_stops_makes_every_group_blind(trained: Path, tmp_path: Path) -> None:
    """What was scored before is withdrawn once it is too old, and never repeated as normal."""
    with run_both(trained, tmp_path) as live:
        for sample in range(LENGTH + 1):
            live.store(sample, values(sample))
            live.await_received()
            live.tick(sample)
        assert {each.verdict.state for each in statuses(live.daemons["receives"])} == {State.OK}
        for sample in range(LENGTH + 1, LENGTH + 7):
            live.tick(sample)
        found = statuses(live.daemons["receives"])
        assert {each.verdict.state for each in found} == {State.BLIND}
        assert found[0].verdict.why == "query cpu and 2 more failed: not_received"


def test_the_command_takes_samples_with_its_flag(trained: Path, tmp_path: Path) -> None:
    copy_config(trained, tmp_path / "here", "http://127.0.0.1:9")
    at = round(1000 * time.time())
    series = [(feature("web", name, instance="a"), [(at, 1.0)]) for name in FEATURES]
    body = compress(encode_version_1(series))
    flag = "--web.enable-remote-write-receiver"
    with run_daemon(tmp_path / "here" / "config.yaml", flag) as daemon:
        assert daemon.post("/api/v1/write", data=body).status_code == 204
        assert 'promad_remote_write_samples_total{detector="web"} 3.0' in daemon.get().text


# What the mixin writes


CONFIG = """\
name: web
group_by: [instance]
queries: {load: load, rate: 'sum by (instance) (rate(requests_total[2m]))', now: time()}
data_settings: {step: 30s}
real_time_anomaly_detection: {stale_after: 1m}
"""


def write_feature_rules(directory: Path) -> tuple[Path, Deployment]:
    path = directory / "config.yaml"
    path.write_text(CONFIG)
    deployment = Deployment.from_configs([load_config(path)], "promad")
    (text,) = build_feature_files(deployment).values()
    rules = directory / "features.yaml"
    rules.write_text(text)
    return rules, deployment


def test_promtool_accepts_the_rules_and_the_block(tmp_path: Path) -> None:
    rules, deployment = write_feature_rules(tmp_path)
    block = tmp_path / "prometheus.yml"
    block.write_text(render_remote_write(deployment, "https://promad.example/api/v1/write"))
    for kind, path in (("rules", rules), ("config", block)):
        done = subprocess.run(
            [require_binary("promtool"), "check", kind, str(path)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_rules_record_what_is_fresh_and_nothing_else(tmp_path: Path) -> None:
    """A value is recorded for each group, until the samples behind it are too old."""
    rules, _ = write_feature_rules(tmp_path)
    story = Story().then({'load{instance="a"}': 2.0, 'load{instance="b"}': 3.0}, 3)
    recorded = 'promad:feature{detector="web", feature_name="load"}'
    expected = [
        (f'promad:feature{{detector="web", feature_name="load", instance="{host}"}}', value)
        for host, value in (("a", 2.0), ("b", 3.0))
    ]
    checks = [
        {
            "expr": recorded,
            "eval_time": at,
            "exp_samples": [
                {"labels": labels, "value": value} for labels, value in (expected if there else [])
            ],
        }
        for at, there in (("2m", True), ("3m30s", True), ("4m", False))
    ]
    document = {
        "rule_files": [str(rules)],
        "evaluation_interval": "30s",
        "tests": [
            {
                "interval": "30s",
                "input_series": [
                    {**each, "values": f"{each['values']} _x20"} for each in story.series()
                ],
                "promql_expr_test": checks,
            }
        ],
    }
    path = tmp_path / "test.yaml"
    path.write_text(yaml.safe_dump(document))
    done = subprocess.run(
        [require_binary("promtool"), "test", "rules", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr

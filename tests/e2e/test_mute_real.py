"""Maintenance on a real Prometheus: a muted event is recorded, and alerts only afterwards."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from promad.config import load_config
from promad.mixin.deployment import Deployment
from promad.mixin.writing import build_rule_files
from promad.stages.collect import collect
from promad.stages.preprocess import preprocess
from promad.stages.train import train
from tests.support.prometheus_server import free_port
from tests.support.running_world import (
    Target,
    World,
    build_server,
    configuration,
    detecting,
    until,
)

MUTE = """
mute:
  - name: upgrade
    query: max(app_maintenance)
"""
FIRING = 'ALERTS{alertname="PromadAnomaly", alertstate="firing"}'


@dataclass
class MaintainedTarget(Target):
    """A target that says whether it is in maintenance."""

    in_maintenance: bool = False

    def exposition(self, at: float) -> str:
        return f"{super().exposition(at)}app_maintenance {int(self.in_maintenance)}\n"


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("mute")
    target, port = MaintainedTarget(), free_port()
    prometheus = build_server(directory, target, port)
    config = directory / "config.yaml"
    text = configuration(prometheus.url, port).replace("preset: improved", "model: linear")
    config.write_text(text + MUTE)
    loaded = load_config(config)
    for name, rules in build_rule_files(Deployment.from_configs([loaded], "promad")).items():
        (directory / "mixin" / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / "mixin" / name).write_text(rules)
    with prometheus:
        collect(loaded, now=time.time())
        preprocess(loaded)
        train(loaded, lambda *_: None, now=time.time)
        with detecting(prometheus, target, config, port) as running:
            yield running


@pytest.mark.slow  # waits for scrapes and evaluations of a real Prometheus
def test_an_event_in_maintenance_is_recorded_as_muted_and_alerts_after_it(world: World) -> None:
    target = world.target
    assert isinstance(target, MaintainedTarget)
    until(lambda: world.state() == "ok")
    target.in_maintenance = True
    until(lambda: 'anomaly_detector_muted{detector="promad"} 1.0' in world.metrics())
    target.spike = 30.0
    (event,) = until(lambda: world.api("events", open="true")["events"])
    assert (event["muted"], event["unmuted_at"]) == ("upgrade", None)
    until(lambda: world.value("anomaly_detector_score > 1"))
    until(lambda: world.value("anomaly_detector_anomalous_since_timestamp_seconds"))
    time.sleep(3)
    assert world.value("anomaly_detector_is_anomaly_detected") is None
    assert world.value(FIRING) is None
    target.in_maintenance = False
    until(lambda: world.value(FIRING))
    event = world.api(f"events/{event['id']}")
    assert event["open"]
    assert event["unmuted_at"] > event["flagged_at"]
    assert world.value("sum(promad_mute_query_failures_total)") == 0
    assert "mute began" in world.log()
    assert "mute ended" in world.log()

"""A small simulated fleet through HTTP: collect, preprocess, train, detect."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import pytest
import requests

from promad.clock import FastClock
from promad.config import Config
from promad.simulation import SimulationServer
from promad.simulation.fleet import build_fleet, make_fault
from promad.stages.collect import collect
from promad.stages.detect import detect
from promad.stages.preprocess import preprocess
from promad.stages.train import train

pytestmark = pytest.mark.slow

START = 1_750_000_020.0 + 20 * 86400.0
SPEED = 60.0
HOSTS = 6
FEATURES = 6


def config_of(directory, url):
    fleet = build_fleet(seed=1, hosts=HOSTS, features=FEATURES)
    return Config.model_validate(
        {
            "artifacts_dir": directory,
            "prometheus_url": url,
            "group_by": ["instance"],
            "queries": {name: name for name in fleet.features},
            "data_settings": {"collection_period_hours": 24, "step": "30s"},
            "training_settings": {"model": "linear", "sequence_length": 10, "gate": False},
            "real_time_anomaly_detection": {"query_interval_seconds": 30},
        }
    )


def await_metrics(url, condition):
    """The first metrics for which a condition holds, within a minute."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        text = requests.get(f"{url}/metrics", timeout=5).text
        if condition(text):
            return text
        time.sleep(0.2)
    raise AssertionError(text[-3000:])


def test_a_fleet_is_watched_and_a_fault_is_found_on_its_host(tmp_path):
    fleet = build_fleet(seed=1, hosts=HOSTS, features=FEATURES)
    names = [labels["instance"] for labels in fleet.labels]
    fault = make_fault("cpu_saturation", names[:1], START + 1800)
    clock = FastClock(START, SPEED)
    with SimulationServer(replace(fleet, faults=(fault,)), clock.now) as url:
        config = config_of(tmp_path, url)
        collected = collect(config, now=START)
        assert (collected.groups, collected.groups_refused) == (HOSTS, 0)
        preprocess(config)
        train(config, lambda *_: None, now=lambda: START)
        with detect([config], clock, "127.0.0.1", 0) as daemon:
            served = f"http://127.0.0.1:{daemon.port}"
            ok = re.compile(r'_state{[^}]*state="ok"[^}]*} 1')
            await_metrics(served, lambda text: len(ok.findall(text)) == HOSTS)
            assert requests.get(f"{served}/-/ready", timeout=5).status_code == 200
            anomalous = re.compile(r'_state{[^}]*instance="([^"]+)"[^}]*state="anomalous"[^}]*} 1')
            text = await_metrics(served, anomalous.search)
            assert names[0] in anomalous.findall(text)
            events = requests.get(f"{served}/api/v1/events", timeout=5).text
            assert names[0] in events

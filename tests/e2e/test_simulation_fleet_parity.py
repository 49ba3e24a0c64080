"""A real Prometheus that imports or scrapes the simulated fleet holds the fleet's samples."""

import json
import time

import numpy as np
import pytest
import requests

from promad.simulation import SimulationServer
from promad.simulation.exposition import iterate_openmetrics
from promad.simulation.fleet import Churn, build_fleet
from tests.support.prometheus_server import PrometheusServer

NOW = 1_795_000_005.0
FLEET = build_fleet(7, 24, features=18, churn=Churn(0.25, 7200.0, NOW - 86400.0, NOW + 86400.0))


def ask(url: str, **grid) -> dict[str, dict]:
    answer = requests.post(f"{url}/api/v1/query_range", data=grid, timeout=10).json()
    return {each["metric"]["instance"]: each for each in answer["data"]["result"]}


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """Where the real one answers, and where the simulated one does."""
    real = PrometheusServer(tmp_path_factory.mktemp("prometheus"))
    times = np.arange(NOW - 1800, NOW + 1, 15)
    real.backfill("".join(iterate_openmetrics(FLEET, times)))
    with real, SimulationServer(FLEET, clock=lambda: NOW) as simulated:
        yield real.url, simulated


@pytest.mark.parametrize(
    "query", ["host_load1", 'host_memory_used_bytes{job="web"}', "host_metric_017"]
)
def test_imported_history_is_what_the_simulated_server_answers(servers, query):
    stored, simulated = (
        ask(url, query=query, start=NOW - 1500, end=NOW, step=15) for url in servers
    )
    steady = [
        each["instance"]
        for each, born, gone in zip(FLEET.labels, FLEET.hosts.born, FLEET.hosts.gone, strict=True)
        if born < NOW - 1800 and gone > NOW and each["instance"] in simulated
    ]
    assert len(steady) > 5
    assert all(stored[name] == simulated[name] for name in steady)
    assert set(simulated) <= set(stored)  # nothing marks the end of a series in a file


def test_a_scraped_fleet_keeps_its_own_labels(tmp_path):
    with SimulationServer(FLEET, clock=lambda: NOW) as simulated:
        scrape = {
            "job_name": "fleet",
            "honor_labels": True,
            "scrape_interval": "1s",
            "static_configs": [{"targets": [simulated.removeprefix("http://")]}],
        }
        with PrometheusServer(tmp_path, scrape_configs=json.dumps([scrape])) as real:
            deadline = time.monotonic() + 20
            while not (found := _ask_now(real.url)) and time.monotonic() < deadline:
                time.sleep(0.2)
    alive = FLEET.find_alive(np.array([NOW]))
    assert sorted(found, key=str) == sorted((FLEET.labels[row] for row in alive), key=str)


def _ask_now(url: str) -> list[dict]:
    answer = requests.get(f"{url}/api/v1/query", params={"query": "host_load1"}, timeout=5).json()
    series = [each["metric"] for each in answer["data"]["result"]]
    return [{key: each[key] for key in each if key != "__name__"} for each in series]

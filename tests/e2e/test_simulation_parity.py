"""The simulated server beside a real Prometheus that holds the same samples."""

import json
import re

import numpy as np
import pytest
import requests

from promad.prometheus.freshness import unite_queries
from promad.simulation import FEATURES, SimulatedHost, SimulationServer
from tests.support.prometheus_server import PrometheusServer, openmetrics

NOW = 1_795_000_005.0
HOST = SimulatedHost(seed=7, restarted_at=NOW - 7 * 86400)
STORED = ("host_load1", "host_tcp_connections", "host_memory_used_bytes", "app_latency_p50_seconds")


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """Where the real one answers, and where the simulated one does."""
    real = PrometheusServer(tmp_path_factory.mktemp("prometheus"))
    real.backfill(openmetrics({f"{name}{LABELS}": list(scraped(name)) for name in STORED}))
    with real, SimulationServer(HOST, clock=lambda: NOW) as simulated:
        yield real.url, simulated


LABELS = '{instance="demo-host:9100",job="demo"}'


def scraped(name):
    times = np.arange(NOW - 3600, NOW + 1, 15)
    values = HOST.values(times)[:, list(FEATURES).index(name)]
    return zip(times.tolist(), values.tolist(), strict=True)


def both(servers, path, **parameters) -> tuple[requests.Response, requests.Response]:
    real, simulated = (
        requests.post(f"{url}/api/v1/{path}", data=parameters, timeout=10) for url in servers
    )
    return real, simulated


GRID = {"start": NOW - 1800, "end": NOW, "step": 30}
RANGES = [
    {"query": "host_load1", **GRID},
    {"query": "host_memory_used_bytes", **GRID},
    {"query": "app_latency_p50_seconds", **GRID},
    {"query": "timestamp(host_load1)", **GRID},
    {"query": "host_load1", **GRID, "step": "1m"},
    {"query": "host_load1", "start": NOW - 100.25, "end": NOW, "step": 7.5},
    {"query": "no_such_metric", **GRID},
    {"query": 'host_load1{job!="demo"}', **GRID},
    {"query": 'host_load1{instance=~"demo.+",missing=""}', **GRID},
]


@pytest.mark.parametrize("form", RANGES, ids=lambda form: f"{form['query']}-{form['step']}")
def test_a_range_query_is_answered_byte_for_byte_alike(servers, form):
    real, simulated = both(servers, "query_range", **form)
    assert simulated.text == real.text
    assert simulated.headers["content-type"] == real.headers["content-type"]


@pytest.mark.parametrize("query", ["host_tcp_connections", "timestamp(host_load1)", "no_such"])
@pytest.mark.parametrize("at", [NOW, NOW - 60.5])
def test_an_instant_query_is_answered_byte_for_byte_alike(servers, query, at):
    real, simulated = both(servers, "query", query=query, time=at)
    assert simulated.text == real.text


def test_a_selector_of_several_series_finds_the_same_ones(servers):
    names = '{__name__=~"host_load1|host_tcp_connections"}'
    answers = [
        sorted(json.dumps(series) for series in answer.json()["data"]["result"])
        for answer in both(servers, "query_range", query=names, **GRID)
    ]
    assert answers[0] == answers[1]
    assert len(answers[0]) == 2


@pytest.mark.parametrize("query", ["{}", "timestamp({})"])
@pytest.mark.parametrize("label", ["united_query", "age_source"])
def test_united_queries_find_the_same_series(servers, query, label):
    names = ["host_load1", "no_such_metric", "host_tcp_connections", "host_load1"]
    united = unite_queries([query.format(name) for name in names], label)
    answers = [
        sorted(json.dumps(series) for series in answer.json()["data"]["result"])
        for answer in both(servers, "query_range", query=united, **GRID)
    ]
    assert answers[0] == answers[1]
    assert len(answers[0]) == 3


WRONG = [
    {"start": ""},
    {"start": "yesterday"},
    {"end": NOW - 9999},
    {"step": ""},
    {"step": "x"},
    {"step": "0"},
    {"step": "-1"},
    {"step": "0.01"},
    {"query": ""},
    {"query": "up{"},
    {"query": "{}"},
]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_a_bad_request_is_refused_in_the_same_words(servers, wrong):
    real, simulated = both(servers, "query_range", **{"query": "host_load1", **GRID, **wrong})
    assert simulated.status_code == real.status_code == 400
    message = re.sub("^1:[0-9]+: ", 'invalid parameter "query": ', real.json()["error"])
    assert simulated.json() == {**real.json(), "error": message}


@pytest.mark.parametrize("path", ["api/v1/status/buildinfo", "-/ready", "api/v1/nothing"])
def test_other_pages_have_the_same_status_type_and_keys(servers, path):
    real, simulated = (requests.get(f"{url}/{path}", timeout=10) for url in servers)
    assert simulated.status_code == real.status_code
    assert simulated.headers["content-type"] == real.headers["content-type"]
    if real.headers["content-type"] == "application/json":
        assert simulated.json().keys() == real.json().keys()
        assert simulated.json()["data"].keys() == real.json()["data"].keys()

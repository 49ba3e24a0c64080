"""A fleet on a real Prometheus: joins with node_exporter, dashboards, rules, check-config."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from prometheus_client import CollectorRegistry, start_http_server

from promad.config import load_config
from promad.exposition import Snapshot, SnapshotCollector
from tests.support import dashboards
from tests.support.fleet_scrapes import name_hosts, scrape_fleet
from tests.support.prometheus_server import (
    PrometheusServer,
    free_port,
    openmetrics,
    require_binary,
)
from tests.support.promtool import STEP
from tests.support.scrapes import OK, PREFIX

ROOT = Path(__file__).parents[2]
OFFSET = "latency_offset: 1s"
README = (ROOT / "README.md").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Fleet:
    """A Prometheus that scrapes a host, and promad with and without `honor_labels`."""

    server: PrometheusServer
    host: str


def read_scrape_job() -> dict[str, object]:
    """The job of the README."""
    (block,) = re.findall(r"^ *scrape_configs:\n(.*?)^ *```$", README, re.MULTILINE | re.DOTALL)
    (job,) = yaml.safe_load(block)
    return dict(job)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    exporter = require_binary("prometheus-node-exporter")
    host = f"127.0.0.1:{free_port()}"
    other = "db-1:9100"
    status = replace(OK, last_scored_at=time.time())
    groups = tuple(replace(status, group=(("instance", name),)) for name in (host, other))
    registry, port = CollectorRegistry(), free_port()
    registry.register(SnapshotCollector(lambda: [Snapshot("promad", PREFIX, groups)]))
    web, thread = start_http_server(port, "127.0.0.1", registry)
    promad = {"scrape_interval": "1s", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
    jobs = [
        {"job_name": "node", "static_configs": [{"targets": [host]}]},
        {**read_scrape_job(), **promad},
        {"job_name": "wrong", **promad},
    ]
    node = subprocess.Popen(
        [exporter, f"--web.listen-address={host}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    server = PrometheusServer(tmp_path_factory.mktemp("fleet"), json.dumps(jobs))
    try:
        with server:
            # as old as what is asked for
            _wait_for(server, "rate(node_cpu_seconds_total[2m] offset 3s)")
            _wait_for(server, f"{PREFIX}state{{job='promad'}}")
            _wait_for(server, f"{PREFIX}state{{job='wrong'}}")
            yield Fleet(server, host)
    finally:
        node.kill()
        node.wait()
        web.shutdown()
        web.server_close()
        thread.join()


def _wait_for(server: PrometheusServer, expr: str) -> None:
    deadline = time.monotonic() + 20
    while not server.query(expr):
        assert time.monotonic() < deadline, expr
        time.sleep(0.1)


def test_the_metrics_of_a_host_join_with_those_of_its_exporter(fleet: Fleet) -> None:
    expr = f'node_load1 * on (instance) group_left () {PREFIX}state{{job="promad", state="ok"}}'
    (joined,) = fleet.server.query(expr)
    assert joined["metric"]["instance"] == fleet.host
    hidden = f'{PREFIX}state{{job="wrong", exported_instance="{fleet.host}", state="ok"}}'
    (alone,) = fleet.server.query(hidden)
    assert alone["metric"]["instance"] != fleet.host


def check_online(tmp_path: Path, text: str) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "promad", "-c", str(path), "check-config", "--online"]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def test_every_shipped_query_yields_one_series_for_each_host(fleet: Fleet, tmp_path) -> None:
    text = (ROOT / "config.yaml").read_text(encoding="utf-8")
    for expr in load_config(ROOT / "config.yaml").promql.values():
        found = [each["metric"] for each in fleet.server.query(expr)]
        assert found in ([{"instance": fleet.host}], []), expr
    text = text.replace("http://localhost:9090", fleet.server.url)
    for shipped, fast in (("step: 30s", "step: 1s"), ("latency_offset: auto", OFFSET)):
        assert shipped in text
        text = text.replace(shipped, fast)
    done = check_online(tmp_path, text)
    hidden = [line for line in done.stdout.splitlines() if "exported_instance" in line]
    assert hidden == [
        'anomaly_detector_state: job "wrong" stores the label instance of the groups as '
        "exported_instance, so their series do not join with those of the groups — add "
        "honor_labels: true to this job in the scrape configuration"
    ]
    assert done.returncode == 3
    assert "  load1: 1 group, 1 series, newest sample " in done.stdout
    assert "  expected: 1 group of 15 features, up to " in done.stdout


def test_a_query_with_several_series_for_a_host_is_refused_with_its_labels(fleet, tmp_path) -> None:
    done = check_online(
        tmp_path,
        f"name: other\nprometheus_url: {fleet.server.url}\ngroup_by: [instance]\n"
        "queries: {load: node_load1, cpu: node_cpu_seconds_total, gone: node_nothing}\n"
        f"data_settings: {{step: 1s}}\nreal_time_anomaly_detection: {{{OFFSET}}}\n",
    )
    assert done.returncode == 3
    assert "  load: 1 group, 1 series" in done.stdout
    assert "  cpu: node_cpu_seconds_total: several series of one group in 1 of 1 groups" in (
        done.stdout
    )
    assert "sum by (instance) (…)" in done.stdout
    assert "  gone: node_nothing: no series in the requested period" in done.stdout
    assert "problems with 2 of 3 queries" in done.stdout


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    """A Prometheus with an hour of a fleet with an incident, and the rules of deploy."""
    directory = tmp_path_factory.mktemp("recorded")
    server = PrometheusServer(directory)
    rules = f"rule_files: ['{ROOT}/deploy/prometheus/*.yaml']\n"
    with (directory / "prometheus.yml").open("a") as more:
        more.write(rules)
    start = float(int(time.time())) - 1800
    scrape = scrape_fleet(name_hosts(6), (1, 2), (3,), begun=1)
    times = range(0, 1800, STEP)
    server.backfill(
        openmetrics(
            {
                name.replace(", ", ","): [
                    (start + at, float(value(at) if callable(value) else value)) for at in times
                ]
                for name, value in scrape.items()
            }
        )
    )
    with server:
        _wait_for(server, "{__name__=~'detector:.*expected_ratio1w'}")
        yield server


def test_every_panel_of_a_fleet_has_data_but_of_remote_write(recorded: PrometheusServer) -> None:
    empty = {}
    for where, expr in dashboards.every_target():
        query = dashboards.substitute(expr, __rate_interval="5m", __range="20m")
        now = time.time()
        form = {"query": query, "start": now - 30, "end": now, "step": 1}
        answer = requests.post(f"{recorded.url}/api/v1/query_range", data=form, timeout=5).json()
        if answer.get("warnings") or not answer.get("data", {}).get("result"):
            empty[where] = (query, answer)
    for where in dashboards.list_received():
        del empty[where]  # this daemon polls
    assert not empty


def _read_rules(server: PrometheusServer) -> list[dict[str, Any]]:
    answer = requests.get(f"{server.url}/api/v1/rules", timeout=5).json()
    return [rule for group in answer["data"]["groups"] for rule in group["rules"]]


def test_every_rule_of_a_fleet_is_evaluated(recorded: PrometheusServer) -> None:
    deadline = time.monotonic() + 10
    rules = _read_rules(recorded)
    while {rule["health"] for rule in rules} != {"ok"}:
        assert time.monotonic() < deadline, rules
        time.sleep(0.2)
        rules = _read_rules(recorded)
    (alert,) = next(rule for rule in rules if rule["name"] == "PromadIncident")["alerts"]
    assert alert["annotations"]["description"].startswith("2 groups (33.3% of those monitored)")

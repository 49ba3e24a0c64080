"""`promad init` on real servers: what each preset returns, and that what it writes works."""

import re
import subprocess
import time
from contextlib import contextmanager

import pytest
import requests
import yaml
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from promad.cli.commands.check_config import run_check, run_fleet_check
from promad.config import load_config
from promad.presets import PRESETS, list_metrics, load_preset
from promad.stages.init import InitRequest, init
from tests.support.exporter_samples import SECONDS, build_history, read_history, serve_samples
from tests.support.prometheus_server import (
    PrometheusServer,
    free_port,
    openmetrics,
    require_binary,
)
from tests.support.promtool import promtool
from tests.support.victoria_metrics import victoria_metrics

SAMPLES = (*PRESETS[1:], "jvm-client_java")
STEP = 30.0

EXPECTED = {
    "windows": {
        "cpu_busy_ratio": 0.2,
        "processor_queue_length": 2,
        "memory_free_bytes": 8000e6,
        "virtual_memory_free_bytes": 12000e6,
        "memory_committed_ratio": 0.25,
        "memory_swap_pages": 2,
        "disk_read_bytes": 3e6,
        "disk_written_bytes": 1e6,
        "disk_busy_ratio": 0.25,
        "disk_free_ratio": 0.25,
        "network_received_bytes": 100000,
        "network_sent_bytes": 20000,
        "system_threads": 2400,
        "context_switches": 10000,
        "system_calls": 50000,
        "nvidia_smi_utilization_gpu_ratio": 0.35,
        "nvidia_smi_utilization_memory_ratio": 0.12,
        "nvidia_smi_temperature_gpu": 54,
        "nvidia_smi_power_draw_watts": 120.5,
        "nvidia_smi_fan_speed_ratio": 0.4,
    },
    "kubernetes": {
        "cpu_cores": 2,
        "cpu_throttled_ratio": 0.1,
        "memory_working_set_bytes": 500e6,
        "network_received_bytes": 30000,
        "network_sent_bytes": 5000,
        "disk_read_bytes": 1000,
        "disk_written_bytes": 2000,
        "pods_running": 2,
        "pods_pending": 1,
        "pods_ready": 1,
        "container_restarts": 0.01,
        "replicas_unavailable": 1,
    },
    "postgres": {
        "connections": 12,
        "connections_active": 3,
        "connections_idle_in_transaction": 1,
        "longest_transaction_seconds": 4,
        "commits": 100,
        "rollbacks": 1,
        "rows_fetched": 1000,
        "rows_inserted": 10,
        "rows_updated": 20,
        "blocks_read": 5,
        "blocks_hit": 500,
        "temporary_bytes": 10000,
        "deadlocks": 0.01,
        "locks": 7,
        "replication_lag_seconds": 0.5,
        "database_size_bytes": 5000e6,
    },
    "nvidia-dcgm": {
        "gpu_utilization_ratio": 0.87,
        "memory_copy_utilization_ratio": 0.35,
        "tensor_active_ratio": 0.42,
        "framebuffer_used_ratio": 0.75,
        "gpu_temperature_celsius": 41,
        "memory_temperature_celsius": 48,
        "power_watts": 310.5,
        "sm_clock_megahertz": 1410,
        "memory_clock_megahertz": 1593,
        "pcie_replays": 0.01,
        "nvlink_bandwidth": 2,
    },
    "jvm": {
        "heap_used_bytes": 400e6,
        "nonheap_used_bytes": 90e6,
        "buffers_used_bytes": 8e6,
        "allocated_bytes": 10e6,
        "gc_time_ratio": 0.01,
        "gc_collections": 0.2,
        "threads": 45,
        "threads_blocked": 1,
        "classes_loaded": 14321,
        "cpu_cores": 0.5,
        "cpu_usage_ratio": 0.125,
        "open_files": 240,
        "http_requests": 10.02,
        "http_busy": 0.7,
        "http_errors": 0.02,
    },
    "redis": {
        "clients": 25,
        "clients_blocked": 2,
        "memory_used_bytes": 50e6,
        "memory_fragmentation_ratio": 1.15,
        "commands": 1000,
        "command_time_ratio": 0.03,
        "keyspace_hits": 500,
        "keyspace_misses": 50,
        "keys": 10000,
        "keys_expired": 1,
        "keys_evicted": 0.1,
        "network_received_bytes": 100000,
        "network_sent_bytes": 500000,
        "cpu_cores": 0.15,
        "connections_rejected": 0.01,
        "replicas": 1,
    },
    "nginx": {
        "requests": 100,
        "connections_accepted": 10,
        "connections_dropped": 0.1,
        "connections_active": 291,
        "connections_reading": 6,
        "connections_writing": 179,
        "connections_waiting": 106,
    },
    "blackbox": {
        "probe_success": 1,
        "probe_duration_seconds": 0.21,
        "dns_lookup_seconds": 0.01,
        "http_connect_seconds": 0.02,
        "http_tls_seconds": 0.05,
        "http_processing_seconds": 0.08,
        "http_transfer_seconds": 0.03,
        "http_status_code": 200,
        "http_body_bytes": 12345,
        "http_redirects": 1,
        "icmp_round_trip_seconds": 0.004,
    },
    "jvm-client_java": {
        "heap_used_bytes": 200e6,
        "nonheap_used_bytes": 70e6,
        "buffers_used_bytes": 4e6,
        "allocated_bytes": 2e6,
        "gc_time_ratio": 0.005,
        "gc_collections": 0.1,
        "threads": 30,
        "threads_blocked": 2,
        "classes_loaded": 8000,
        "cpu_cores": 0.25,
        "open_files": 120,
    },
}
"""What the queries of each sample return; all other queries of a preset return nothing."""


@pytest.fixture(scope="module")
def end():
    """The end of the history, from which on the samples are scraped."""
    return time.time() // STEP * STEP


@pytest.fixture(scope="module")
def server(tmp_path_factory, end):
    """A Prometheus with an hour of every exporter, which scrapes them on."""
    history = {}
    for sample in SAMPLES:
        history |= read_history(sample, end, STEP)
    with run_node_exporter() as node, serve_samples(SAMPLES, end - SECONDS) as jobs:
        history |= build_history(read_values(node), "node", node, end, STEP)
        jobs = f"- job_name: node\n  static_configs: [{{targets: ['{node}']}}]\n{jobs}"
        prometheus = PrometheusServer(tmp_path_factory.mktemp("prometheus"), jobs)
        prometheus.backfill(openmetrics(history))
        with prometheus:
            wait_for_targets(prometheus)
            yield prometheus


def wait_for_targets(prometheus):
    """Wait until every target was scraped: Prometheus finds them some seconds after its start."""
    deadline = time.monotonic() + 60
    while not prometheus.query(f"count(up == 1) == {len(SAMPLES) + 1}"):
        assert time.monotonic() < deadline, prometheus.query("up")
        time.sleep(0.1)


@contextmanager
def run_node_exporter():
    """The address of a real node_exporter."""
    address = f"127.0.0.1:{free_port()}"
    command = [require_binary("prometheus-node-exporter"), f"--web.listen-address={address}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield address
    finally:
        process.terminate()
        process.wait(10)


def read_values(address):
    """What node_exporter exposes of the preset's metrics, without types: values of the past."""
    wanted = set(list_metrics(load_preset("node")))
    url = f"http://{address}/metrics"
    retry = Retry(20, backoff_factor=0.05, backoff_max=0.5)
    with requests.Session() as session:
        session.mount("http://", HTTPAdapter(max_retries=retry))
        lines = session.get(url, timeout=10).text.splitlines()
    return "\n".join(line for line in lines if re.split(r"[{ ]", line)[0] in wanted)


def ask(server, preset, instance, end):
    """The value of each query that has one series of the instance, rounded."""
    values = {}
    for alias, query in load_preset(preset).queries.items():
        found = server.query(query.fill(load_preset(preset).group_by, 120.0), end)
        own = [each for each in found if each["metric"].get("instance", instance) == instance]
        if own:
            (one,) = own
            values[alias] = float(f"{float(one['value'][1]):.6g}")
    return values


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_preset_returns_what_its_exporter_exposes(server, end, sample):
    preset = sample.removesuffix("-client_java")
    assert ask(server, preset, f"{sample}:1", end) == EXPECTED[sample]


def test_promtool_accepts_every_query(tmp_path):
    rules = [
        {"record": f"preset:{alias}", "expr": query.fill(load_preset(preset).group_by, 120.0)}
        for preset in PRESETS
        for alias, query in load_preset(preset).queries.items()
    ]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "presets", "rules": rules}]}))
    promtool("check", "rules", path)


def test_every_exporter_has_a_configuration_that_passes_the_check(server, tmp_path, capsys):
    report = init(InitRequest(tmp_path / "config.yaml", url=server.url), time.time())
    assert report.skipped == {}
    assert report.server.unread == ()
    assert report.server.intervals == dict.fromkeys(["node", *SAMPLES], 1.0)
    written = {one.draft.name: one for one in report.written}
    assert list(written) == list(PRESETS)
    assert written["node"].path.name == "config.yaml"
    assert written["nvidia-dcgm"].path.name == "config-nvidia-dcgm.yaml"
    for preset, one in written.items():
        config = load_config(one.path)
        assert config.name == preset
        assert set(config.queries) | set(one.draft.left_out) == set(load_preset(preset).queries)
        assert run_fleet_check(config) == 0, capsys.readouterr().out
    assert written["windows"].draft.left_out == {}
    assert (written["node"].fit.groups, written["jvm"].fit.groups) == (1, 2)


def test_the_node_preset_fits_a_real_node_exporter(server, tmp_path):
    """What a kernel may lack is left out; all else has one series of the one host."""
    path = tmp_path / "config.yaml"
    (one,) = init(InitRequest(path, "node", server.url), time.time()).written
    config = load_config(path)
    assert {"cpu_busy_ratio", "load1", "memory_available_ratio"} <= set(config.queries)
    assert all(why.startswith("the server has no node_") for why in one.draft.left_out.values())
    assert one.draft.timing.interval == 1.0
    for expr in config.promql.values():
        (series,) = server.query(expr)
        assert set(series["metric"]) == {"instance"}


def test_one_group_passes_the_check_too(server, tmp_path, capsys):
    path = tmp_path / "config.yaml"
    init(InitRequest(path, "redis", server.url, group_by=()), time.time())
    config = load_config(path)
    assert config.group_by == ()
    assert len(config.queries) == len(load_preset("redis").queries)
    assert run_check(config) == 0, capsys.readouterr().out


def test_victoria_metrics_lacks_endpoints_but_not_a_configuration(tmp_path, capsys):
    history = read_history("redis", time.time() // STEP * STEP, STEP)
    with victoria_metrics(tmp_path, history, ["-retentionPeriod=100y"]) as url:
        report = init(InitRequest(tmp_path / "config.yaml", url=url), time.time())
        (one,) = report.written
        assert (one.draft.name, one.draft.timing.interval, one.fit.groups) == ("redis", STEP, 1)
        assert 3300 <= one.fit.history <= 3700
        assert [each.partition(" (")[0] for each in report.server.unread] == ["retention"]
        assert run_fleet_check(load_config(one.path)) == 0, capsys.readouterr().out

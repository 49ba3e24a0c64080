"""The daemon of a linear bundle is small: it never loads what only training and files need."""

import json
import math
import re
from pathlib import Path

import numpy as np
import requests

from promad.config import load_config
from promad.data.frame import single_group
from promad.stages.preprocess import preprocess
from promad.stages.train import train
from tests.support.prometheus_server import free_port
from tests.support.prometheus_stub import Asked, Say, matrix, stub_server
from tests.support.running_world import start_detect, until
from tests.support.simulated import silent, write_raw

ALIASES = tuple(f"query_{number}" for number in range(24))
STEP = 30.0
HEAVY = ("pandas", "pyarrow", "tensorflow", "sklearn", "scipy", "onnxruntime", "matplotlib")
MOST_MEGABYTES = 72.0
"""Of the process alone: how much of a library's file is in memory depends on the file system."""


def answer(asked: Asked) -> Say:
    """As many samples of any query as are asked for, with labels of more than 8 kB."""
    if asked.path.endswith("/query"):
        return Say(body='{"status":"success","data":{"resultType":"vector","result":[]}}')
    start, step = float(asked.form["start"]), float(asked.form["step"])
    times = [start + step * sample for sample in range(asked.points)]
    ages = "timestamp(" in asked.form["query"]
    samples = [(at, at if ages else 1.0 + math.sin(at)) for at in times]
    return Say(body=matrix({(("pad", "x" * 8000),): samples}))


def write_config(directory: Path, url: str, port: int) -> Path:
    content = {
        "prometheus_url": url,
        "queries": dict.fromkeys(ALIASES, "up"),
        "training_settings": {"model": "linear"},
        "real_time_anomaly_detection": {
            "query_interval_seconds": 1,
            "latency_offset": "1s",
            "exporter_port": port,
        },
    }
    path = directory / "config.yaml"
    path.write_text(json.dumps(content))
    return path


def find_loaded(process: int) -> set[str]:
    """The packages with compiled modules in the memory of a process."""
    text = Path(f"/proc/{process}/maps").read_text()
    return set(re.findall(r"/site-packages/([^/\n]+)/", text))


def measure_memory(process: int) -> float:
    """The resident memory of a process without files, in megabytes."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+) kB", status)[1]) * 1024 / 1e6


def test_the_daemon_of_a_linear_bundle_stays_small(tmp_path):
    values = np.random.default_rng(3).normal(size=(400, len(ALIASES)))
    port = free_port()
    with stub_server(answer) as stub:
        path = write_config(tmp_path, stub.url, port)
        config = load_config(path)
        write_raw(config, [single_group(1_750_000_000.0, STEP, ALIASES, values)])
        preprocess(config)
        train(config, silent, now=lambda: 1_760_000_000.0)
        daemon = start_detect(path)
        try:
            url = f"http://127.0.0.1:{port}"
            ticks = re.compile(r"^promad_tick_duration_seconds_count\S* [3-9]", re.MULTILINE)
            until(lambda: ticks.search(requests.get(f"{url}/metrics", timeout=5).text))
            until(
                lambda: len(requests.get(f"{url}/api/v1/history", timeout=5).json()["times"]) > 400
            )
            for page in ("", "api/v1/groups", "api/v1/events", "api/v1/incidents"):
                assert requests.get(f"{url}/{page}", timeout=5).ok, page
            loaded, memory = find_loaded(daemon.pid), measure_memory(daemon.pid)
            metrics = requests.get(f"{url}/metrics", timeout=5).text
        finally:
            daemon.terminate()
            daemon.wait()
    assert re.search(r"^anomaly_detector_score\S* \d", metrics, re.MULTILINE), metrics
    assert "numpy" in loaded
    assert loaded.isdisjoint(HEAVY)
    assert memory <= MOST_MEGABYTES

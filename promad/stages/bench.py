"""`promad bench`: what a tick of a fleet costs on this machine, and how many groups it can watch.

The real daemon polls a server, judges, publishes and is scraped; only its clock does not wait. The
detector is trained on a small simulated fleet, or on all of it where each group has weights of its
own; all groups are simulated hosts, unless a Prometheus server that has such series is given.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

import numpy as np

from promad.config import Config
from promad.config.durations import format_duration
from promad.data.artifacts import write_groups
from promad.data.frame import MetricFrame
from promad.data.groups import sort_labels
from promad.errors import DataError
from promad.evaluation.capacity import Fit, Measured, conclude, shares
from promad.simulation.fleet import build_fleet
from promad.simulation.process import ServerCpu, serve_fleet
from promad.stages.detect import detect
from promad.stages.preprocess import preprocess
from promad.stages.train import train

WARM_TICKS = 3
"""Ticks at the start that are not measured: they read the history."""

_TRAINED_ON = 10
_TRAINING_SAMPLES, _MOST_TRAINING_SAMPLES = 2880, 5760
_OWN_TRAINING_SAMPLES = 720
"""Where each group has weights of its own, of which more samples would not change the cost."""
_EPOCHS = 1
_SEED = 11
_START = 1_767_268_800.0
"""Midday, after the training has seen the jobs of a night."""


@dataclass(frozen=True)
class BenchOptions:
    """What to measure.

    Attributes:
        groups, features: how many groups, and queries.
        interval: seconds between ticks, and between samples.
        ticks: how many are measured.
        url: a Prometheus server that has the simulated fleet's series; None for the embedded one.
        model: its name in the configuration.
        model_scope: `pooled`, one model for all groups, or `per_group`.
    """

    groups: int
    features: int
    interval: float
    ticks: int
    url: str | None = None
    model: str = "linear"
    model_scope: str = "pooled"

    @property
    def trained_on(self) -> int:
        """How many groups are trained on; others are calibrated by these, at the same cost."""
        return self.groups if self.model_scope == "per_group" else _TRAINED_ON

    @property
    def training_samples(self) -> int:
        """Samples of each of them: of a day at least, within bounds."""
        if self.model_scope == "per_group":
            return _OWN_TRAINING_SAMPLES
        day = round(86400 / self.interval)
        return min(max(day, _TRAINING_SAMPLES), _MOST_TRAINING_SAMPLES)


@dataclass
class _Ticks:
    """What was seen at the end of each tick."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    server: list[float] = field(default_factory=list)


class _TickingClock:
    """A clock that goes on to the next tick as soon as the daemon waits for it."""

    def __init__(self, now: Synchronized[float], ticks: int, server: ServerCpu) -> None:
        self._now, self._left, self._server = now, ticks + 1, server
        self.seen = _Ticks()
        self.done = threading.Event()

    def now(self) -> float:
        return float(self._now.value)

    def elapsed(self) -> float:
        return float(self._now.value)

    def wait_until(self, at: float, stop: threading.Event) -> None:
        self._left -= 1
        if self._left <= 0:
            self.done.set()
            stop.wait()
            return
        self._now.value = at
        self.seen.wall.append(time.perf_counter())
        self.seen.cpu.append(time.process_time())
        self.seen.server.append(self._server.read())


def measure(options: BenchOptions, artifacts: Path) -> Measured:
    """Run the daemon for some ticks.

    Args:
        artifacts: an empty directory for the detector.

    Raises:
        PromadError: if the server does not answer, or has no such series.
    """
    now = multiprocessing.get_context("spawn").Value("d", _START, lock=False)
    with _serve(options, now) as (url, process):
        config = _build_config(options, url, artifacts)
        _train_aside(config, options)
        if options.url is not None:
            now.value = time.time() - (WARM_TICKS + options.ticks) * options.interval
        clock = _TickingClock(now, WARM_TICKS + options.ticks, ServerCpu(process, url))
        with detect([config], clock, "127.0.0.1", 0) as daemon:
            clock.done.wait()
            (served,) = daemon.served()
            groups = len(served.snapshot().groups)
            bytes_read = daemon.count_bytes_read()
            scrapes, body = _scrape(daemon.port)
    if groups < options.groups:
        raise DataError(f"{url}: only {groups} of {options.groups} groups have samples")
    return _summarise(options, clock.seen, bytes_read, scrapes, body)


def fit(options: BenchOptions, artifacts: Path) -> Fit:
    """Measure two fleets, and conclude how many groups fit this machine.

    Costs are a constant and so much for each group. Raises as `measure`.
    """
    sizes = sorted({max(10, options.groups // 5), options.groups})
    found = []
    for groups in sizes:
        found.append(measure(replace(options, groups=groups), artifacts / str(groups)))
    return conclude(found)


def _summarise(
    options: BenchOptions, seen: _Ticks, bytes_read: int, scrapes: list[float], body: bytes
) -> Measured:
    wall, cpu, server = (
        np.diff(values)[WARM_TICKS - 1 :] for values in (seen.wall, seen.cpu, seen.server)
    )
    numbers: dict[str, Any] = {
        "groups": options.groups,
        "features": options.features,
        "model": options.model,
        "model_scope": options.model_scope,
        "interval_seconds": options.interval,
        "ticks": len(wall),
        "tick_wall_seconds_p50": float(np.median(wall)),
        "tick_wall_seconds_p90": float(np.quantile(wall, 0.9)),
        "tick_wall_seconds_max": float(wall.max()),
        "tick_cpu_seconds_p50": float(np.median(cpu)),
        "server_cpu_seconds_p50": None if np.isnan(server).any() else float(np.mean(server)),
        "rss_mb": _read_rss_mb(),
        "samples_read_per_tick": options.groups * options.features,
        "bytes_read_per_tick": bytes_read // (WARM_TICKS + options.ticks),
        "metrics_bytes": len(body),
        "metrics_series": sum(not line.startswith(b"#") for line in body.splitlines()),
        "scrape_seconds_p50": float(np.median(scrapes)),
    }
    plain = Measured(**numbers, limiting_resource="", limiting_share=0.0)
    used = shares(plain)
    limiting = max(used, key=lambda name: used[name])
    return Measured(**numbers, limiting_resource=limiting, limiting_share=used[limiting])


def _scrape(port: int) -> tuple[list[float], bytes]:
    """How long some scrapes take, and what they return."""
    taken, body = [], b""
    for _ in range(5):
        began = time.perf_counter()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
            body = answer.read()
        taken.append(time.perf_counter() - began)
    return taken, body


@contextmanager
def _serve(options: BenchOptions, now: Synchronized[float]) -> Iterator[tuple[str, int | None]]:
    """A server of the fleet: its URL, and its process if it is ours."""
    if options.url is not None:
        yield options.url, None
        return
    with serve_fleet(_SEED, options.groups, options.features, options.interval, now) as found:
        yield found


def _build_config(options: BenchOptions, url: str, artifacts: Path) -> Config:
    fleet = build_fleet(seed=_SEED, hosts=1, features=options.features)
    interval = format_duration(options.interval)
    return Config.model_validate(
        {
            "name": "bench",
            "prometheus_url": url,
            "artifacts_dir": artifacts,
            "group_by": ["instance"],
            "max_groups": max(1, options.groups),
            "queries": {name: name for name in fleet.features},
            "data_settings": {"step": interval},
            "training_settings": {
                "model": options.model,
                "model_scope": options.model_scope,
                "gate": False,
                **({} if options.model == "linear" else {"epochs": _EPOCHS}),
            },
            "real_time_anomaly_detection": {
                "query_interval_seconds": options.interval,
                "latency_offset": "1s",
                "stale_after": format_duration(4 * options.interval),
            },
        }
    )


def _train_aside(config: Config, options: BenchOptions) -> None:
    """Train in a process of its own, so that its memory is not taken for the daemon's.

    Raises:
        DataError: if that fails.
    """
    spawn = multiprocessing.get_context("spawn")
    training = spawn.Process(target=_train, args=(config, options))
    training.start()
    training.join()
    if training.exitcode != 0:
        raise DataError("the training of the detector failed — run promad check-config")


def _train(config: Config, options: BenchOptions) -> None:
    step = config.data_settings.step
    fleet = build_fleet(seed=_SEED, hosts=options.trained_on, features=options.features)
    times = _START - step * np.arange(options.training_samples, 0, -1)
    values = fleet.values(np.asarray(times, np.float64))
    metadata: Mapping[str, str] = {
        "server": config.prometheus_url,
        "queries": json.dumps(config.promql),
        "step_seconds": repr(step),
    }
    frames = (
        [
            MetricFrame(
                float(times[0]),
                step,
                config.features,
                (sort_labels({"instance": labels["instance"]}),),
                values[row : row + 1],
            )
        ]
        for row, labels in enumerate(fleet.labels)
    )
    path = config.artifacts_dir / config.data_settings.output_filename
    write_groups(path, step, ["instance"], frames, lambda: metadata)
    preprocess(config)
    train(config, lambda *_: None, now=lambda: _START)


def _read_rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

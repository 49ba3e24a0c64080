"""A server that answers for a few groups, of which some come and go; what the stages make of it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from promad.config import Config
from promad.config.durations import format_instant
from promad.data.artifacts import write_frames
from promad.data.frame import MetricFrame
from promad.stages.collect import collect
from promad.stages.preprocess import preprocess
from promad.stages.train import train
from promad.training.fleet_material import FleetMaterial, draw_material
from promad.training.processed_file import locate_processed, read_fleet
from promad.training.processing import ProcessingOptions
from tests.support.prometheus_stub import Asked, Say, Stub, stub_server

START = 1_795_000_020.0
STEP = 30.0
TRAINED, SAMPLES = 700, 900
FEATURES = ("cpu", "latency", "requests")
_SELECTOR = re.compile(r'(\w+)(?:\{instance="([^"]*)"\})?')


def at(sample: int) -> float:
    """Unix seconds of a sample."""
    return START + STEP * sample


@dataclass(frozen=True)
class Fault:
    """From sample `first` to `last` - 1, latency and requests of these groups jump."""

    groups: tuple[str, ...]
    first: int
    last: int


@dataclass(frozen=True)
class SmallFleet:
    """Groups, when they live (samples), and what goes wrong.

    Attributes:
        lives: by instance its first sample and the one after its last.
        alerts: alerts that fire, by labels: their first and last sample.
    """

    lives: Mapping[str, tuple[int, int]]
    faults: tuple[Fault, ...] = ()
    alerts: Mapping[tuple[tuple[str, str], ...], tuple[int, int]] = field(default_factory=dict)

    def values(self, instance: str) -> np.ndarray:
        """Values of a group, (samples, features), NaN while it does not live."""
        number = sorted(self.lives).index(instance)
        noise = np.random.default_rng([number, 5]).normal(size=(SAMPLES, len(FEATURES)))
        wave = np.sin(np.arange(SAMPLES)[:, np.newaxis] / [20.0, 33.0, 47.0])
        scale = 10.0 ** min(number, 2)  # a new group is like one that was trained on
        values = scale * (5.0 + number % 3 + wave + 0.2 * noise)
        for fault in self.faults:
            if instance in fault.groups:
                jumps = np.where(np.arange(fault.first, fault.last) % 2, 1.0, -1.0)
                values[fault.first : fault.last, 1:] += 4.0 * scale * jumps[:, np.newaxis]
        first, last = self.lives[instance]
        values[:first] = values[last:] = math.nan
        return values

    def answer(self, asked: Asked) -> Say:
        """The series of a plain selector; nothing for any other query."""
        expr = asked.form.get("query", "")
        selector = _SELECTOR.fullmatch(expr)
        start, end = (float(asked.form.get(key, "0")) for key in ("start", "end"))
        step = float(asked.form.get("step", STEP))
        times = [start + step * i for i in range(round((end - start) / step) + 1)]
        places = [round((time - START) / STEP) for time in times]
        result: list[dict[str, object]] = []
        if expr.startswith("ALERTS"):
            result = [
                {
                    "metric": {"__name__": "ALERTS", "alertstate": "firing", **dict(labels)},
                    "values": [
                        [time, "1"]
                        for time, place in zip(times, places, strict=True)
                        if first <= place <= last
                    ],
                }
                for labels, (first, last) in self.alerts.items()
            ]
        elif selector is not None and selector[1] in FEATURES:
            wanted = [each for each in self.lives if selector[2] in {None, each}]
            column = FEATURES.index(selector[1])
            for instance in wanted:
                values = self._cached(instance)[:, column]
                samples = [
                    [time, repr(float(values[place]))]
                    for time, place in zip(times, places, strict=True)
                    if 0 <= place < SAMPLES and not math.isnan(values[place])
                ]
                labels = {"__name__": selector[1], "instance": instance, "job": "node"}
                result.append({"metric": labels, "values": samples})
        kept = [series for series in result if series["values"]]
        document = {"status": "success", "data": {"resultType": "matrix", "result": kept}}
        return Say(body=json.dumps(document))

    _known: dict[str, np.ndarray] = field(default_factory=dict)

    def _cached(self, instance: str) -> np.ndarray:
        if instance not in self._known:
            self._known[instance] = self.values(instance)
        return self._known[instance]


@contextmanager
def serve_fleet(fleet: SmallFleet) -> Iterator[Stub]:
    """A server that answers for a fleet."""
    with stub_server(fleet.answer) as stub:
        yield stub


def write_config(path: Path, url: str, **sections: str) -> Path:
    """A configuration file for the fleet.

    Args:
        sections: `model` names it; `training` and `live` add keys, as YAML flow; `more` is text.
    """
    queries = "".join(f"  {name}: {name}\n" for name in FEATURES)
    training = f"model: {sections.get('model', 'linear')}, sequence_length: 6, gate: false"
    live = "query_interval_seconds: 30, forget_after: 10m, latency_offset: 0s, exporter_port: 0"
    path.write_text(
        f"name: web\nprometheus_url: {url}\ngroup_by: [instance]\n"
        "incidents: {join_similar_within: 0s, return_within: 0s}\n"
        f"artifacts_dir: {path.parent / 'artifacts'}\nqueries:\n{queries}"
        f"data_settings: {{step: 30s, start_time_iso: '{format_instant(at(0))}', "
        f"end_time_iso: '{format_instant(at(TRAINED))}'}}\n"
        f"training_settings: {{{', '.join(filter(None, [training, sections.get('training')]))}}}\n"
        f"real_time_anomaly_detection: "
        f"{{{', '.join(filter(None, [live, sections.get('live')]))}}}\n"
        f"{sections.get('more', '')}"
    )
    return path


def train_fleet(config: Config) -> None:
    """Collect, preprocess and train."""
    collect(config, now=at(SAMPLES))
    preprocess(config)
    train(config, lambda *_: None, now=lambda: at(SAMPLES))


def open_material(config: Config) -> FleetMaterial:
    """What `train` reads of the fleet that was preprocessed."""
    source = read_fleet(locate_processed(config), ProcessingOptions.of(config))
    settings = config.training_settings
    return draw_material(
        source, settings.sequence_length, settings.max_training_windows, settings.seed
    )


def write_collected(config: Config, fleet: SmallFleet) -> None:
    """What `collect` would have left of a fleet, without a server."""
    frames = []
    for instance, (first, last) in fleet.lives.items():
        if first < TRAINED:
            values = fleet.values(instance)[np.newaxis, first : min(last, TRAINED)]
            group = (("instance", instance),)
            frames.append(MetricFrame(at(first), STEP, FEATURES, (group,), values))
    path = config.artifacts_dir / config.data_settings.output_filename
    config.artifacts_dir.mkdir(parents=True, exist_ok=True)
    write_frames(path, frames, {})

"""Nezha's fleet of 46 pods with labelled faults: what is caught and named, beside chance.

Yu et al. 2023, "Nezha: Interpretable fine-grained root causes analysis for microservices on
multi-modal observability data", ESEC/FSE. Two days, whose pods have different names.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.fleet_replay import make_config, replay, train_fleet
from promad.config import Config
from promad.data.frame import MetricFrame
from promad.data.groups import Grouping
from promad.events.incidents import Incident

DAYS = ("2023-01-29", "2023-01-30")
STEP = 60.0
HOUR = 3600.0
QUIET_AFTER = 0.5 * HOUR
HELD_OUT = 2 * HOUR
BEFORE, AFTER = 60.0, 300.0
"""Seconds around a fault's time in which an incident that begins there catches it."""
RESOURCE = frozenset({"network_delay", "cpu_contention"})
SHIFTS = 200

TO_WORKLOAD = {
    "source_labels": ["pod"],
    "regex": "(.*)-[^-]+-[^-]+",
    "target_label": "workload",
}
"""The rule that names the workload of a pod."""


@dataclass(frozen=True)
class KnownFault:
    """When which pod had which fault; `time` in unix seconds."""

    time: float
    pod: str
    kind: str


@dataclass(frozen=True)
class Day:
    """A day of all pods: `times` (samples,), and `values` (samples, features) of each pod."""

    times: NDArray[np.float64]
    features: tuple[str, ...]
    values: dict[str, NDArray[np.float64]]
    faults: tuple[KnownFault, ...]

    @property
    def quiet_from(self) -> float:
        """Unix seconds from which nothing is wrong any more."""
        return max(fault.time for fault in self.faults) + QUIET_AFTER

    def cut(self, grouping: Grouping, start: float, end: float) -> MetricFrame:
        """All groups between two times."""
        rows = (self.times >= start) & (self.times < end)
        groups = [grouping.find_group((("pod", pod),)) for pod in self.values]
        known = {labels: pod for labels, pod in zip(groups, self.values, strict=True) if labels}
        values = np.stack([self.values[pod][rows] for pod in known.values()])
        return MetricFrame(float(self.times[rows][0]), STEP, self.features, tuple(known), values)


def read_day(folder: Path, day: str) -> Day:
    """A day as it was published; a latency without requests is 0."""
    table = pq.read_table(folder / f"{day}.parquet")
    features = tuple(name for name in table.column_names if name not in {"timestamp", "pod"})
    times, place = np.unique(table["timestamp"].to_numpy(), return_inverse=True)
    pods = np.array(table["pod"].to_pylist())
    rows = np.column_stack([table[name].to_numpy() for name in features]).astype(np.float64)
    values = {}
    for pod in np.unique(pods).tolist():
        own = pods == pod
        values[pod] = np.full((len(times), len(features)), np.nan)
        values[pod][place[own]] = np.nan_to_num(rows[own])
    with (folder / "faults.csv").open() as file:
        faults = tuple(
            KnownFault(float(row["time"]), row["pod"], row["type"])
            for row in csv.DictReader(file)
            if row["day"] == day
        )
    return Day(times.astype(np.float64), features, values, faults)


def measure_nezha(folder: Path, work: Path, per_day: float = 1.0) -> dict[str, Any]:
    """Figures by how groups are named and what is trained on.

    Args:
        per_day: the alert budget, in incidents a day.
    """
    days = [read_day(folder, name) for name in DAYS]
    found: dict[str, Any] = {}
    for by in ("pod", "workload"):
        for name, train, test in (*zip(DAYS, days[::-1], days, strict=True),):
            found[f"{by}, other day, {name}"] = _measure(
                train, test, by, per_day, work, same_day=False
            )
        for name, day in zip(DAYS, days, strict=True):
            if by == "workload":
                found[f"{by}, same day, {name}"] = _measure(
                    day, day, by, per_day, work, same_day=True
                )
    return found


def _measure(
    train: Day, test: Day, by: str, per_day: float, work: Path, *, same_day: bool
) -> dict[str, Any]:
    config = _configure(work / by, train.features, by, per_day)
    grouping = Grouping.of(config)
    end = float(train.times[-1]) + STEP
    trained_until = end - HELD_OUT if same_day else end
    frame = train.cut(grouping, train.quiet_from, trained_until)
    trained = train_fleet(config, ([frame.of_group(row)] for row in range(len(frame.groups))))
    parts = [test.cut(grouping, float(test.times[0]), test.quiet_from)]
    if same_day:
        parts += [test.cut(grouping, trained_until, end)]
        incidents = [
            incident for part in parts for incident in replay(trained, [part]).incidents.values()
        ]
        quiet = HELD_OUT
    else:
        whole = test.cut(grouping, float(test.times[0]), float(test.times[-1]) + STEP)
        incidents = list(replay(trained, [whole]).incidents.values())
        quiet = float(test.times[-1]) - test.quiet_from
    return compare(incidents, test, grouping, quiet)


def _configure(folder: Path, features: Sequence[str], by: str, per_day: float) -> Config:
    rules = [TO_WORKLOAD] if by == "workload" else []
    return make_config(
        folder,
        features,
        (by,),
        group_relabel_configs=rules,
        data_settings={"step": "60s"},
        real_time_anomaly_detection={"alert_budget": {"false_alarms_per_week": 7 * per_day}},
    )


def compare(
    incidents: Sequence[Incident], day: Day, grouping: Grouping, quiet_seconds: float
) -> dict[str, Any]:
    """What the incidents say about a day's faults, beside what chance would."""
    faults = day.faults
    starts = np.array([incident.start for incident in incidents])
    in_faults = starts[starts < day.quiet_from]
    begin, end = float(day.times[0]), day.quiet_from
    resource = [fault for fault in faults if fault.kind in RESOURCE]
    caught = {fault: first for fault in faults if (first := _find(incidents, fault)) is not None}
    windows = [(fault.time - BEFORE, fault.time + AFTER) for fault in faults]
    false = [at for at in in_faults if not any(low <= at <= high for low, high in windows)]
    named = {
        most: sum(
            grouping.find_group((("pod", fault.pod),))
            in [member.labels for member in incident.members[:most]]
            for fault, incident in caught.items()
        )
        for most in (1, 3)
    }
    groups = len(day.values)
    chance_named = {
        most: sum(min(most, len(incident.members)) for incident in caught.values()) / groups
        for most in (1, 3)
    }
    return {
        "incidents": len(incidents),
        "faults": len(faults),
        "caught": len(caught),
        "caught_by_chance": _expect(in_faults, faults, begin, end),
        "resource": len(resource),
        "resource_caught": sum(fault in caught for fault in resource),
        "resource_by_chance": _expect(in_faults, resource, begin, end),
        "false_in_faults": len(false),
        "false_per_day_among_faults": len(false) * 24 * HOUR / (end - begin),
        "in_quiet_hours": len(starts) - len(in_faults),
        "per_day_in_quiet_hours": (len(starts) - len(in_faults)) * 24 * HOUR / quiet_seconds,
        "first_named": named[1],
        "first_by_chance": chance_named[1],
        "three_named": named[3],
        "three_by_chance": chance_named[3],
    }


def _find(incidents: Sequence[Incident], fault: KnownFault) -> Incident | None:
    """The first incident that catches a fault."""
    return next(
        (
            incident
            for incident in sorted(incidents, key=lambda each: each.start)
            if fault.time - BEFORE <= incident.start <= fault.time + AFTER
        ),
        None,
    )


def _expect(
    starts: NDArray[np.float64], faults: Sequence[KnownFault], begin: float, end: float
) -> float:
    """How many faults the same incidents would catch if they came at other times: a mean."""
    times = np.array([fault.time for fault in faults])
    if not len(starts):
        return 0.0

    def count(shift: float) -> int:
        moved = begin + (starts - begin + shift) % (end - begin)
        gap = moved[np.newaxis] - times[:, np.newaxis]
        return int(((gap >= -BEFORE) & (gap <= AFTER)).any(axis=1).sum())

    shifts = np.random.default_rng(0).uniform(0, end - begin, SHIFTS)
    return float(np.mean([count(shift) for shift in shifts.tolist()]))

"""NAB, the Numenta Anomaly Benchmark: the seven series whose causes are known.

Lavin and Ahmad 2015, "Evaluating real-time anomaly detection algorithms: the Numenta anomaly
benchmark", ICMLA. MIT licence. NAB's probationary part, the first 15 % of a series and 750 rows at
most, is what to train on; the rest is the test part. Its times carry no zone and are read as UTC.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from promad.datasets.entity_files import Content, Get, check_content
from promad.errors import DataError

_FOLDER = "numenta/NAB/ea702d75cc2258d9d7dd35ca8e5e2539d71f3140"
_WINDOWS, _POINTS = "labels/combined_windows.json", "labels/combined_labels.json"
SHARED = (f"{_FOLDER}/{_WINDOWS}", f"{_FOLDER}/{_POINTS}")
_GROUP = "realKnownCause"
_PROBATION_SHARE = 0.15
_MOST_PROBATION = 750

_SERIES = (
    "ambient_temperature_system_failure",
    "cpu_utilization_asg_misconfiguration",
    "ec2_request_latency_system_failure",
    "machine_temperature_system_failure",
    "nyc_taxi",
    "rogue_agent_key_hold",
    "rogue_agent_key_updown",
)
_HEADINGS = ("kind", "start_timestamp", "end_timestamp", "test_start", "test_end")


def entities(get: Get) -> Sequence[str]:
    """The series."""
    return _SERIES


def read(entity: str, get: Get) -> Content:
    """One series.

    Raises:
        DataError: if its files do not hold what they should.
    """
    name = f"{_GROUP}/{entity}.csv"
    files = [get(path, None) for path in (f"{_FOLDER}/data/{name}", *SHARED)]
    try:
        lines = list(csv.DictReader(files[0].decode().splitlines()))
        windows, points = (json.loads(file) for file in files[1:])
        times = np.array([_seconds(line["timestamp"]) for line in lines], np.int64)
        values = np.array([[float(line["value"])] for line in lines])
        spans = [("window", _seconds(start), _seconds(end)) for start, end in windows[name]]
        spans += [("point", _seconds(point), _seconds(point)) for point in points[name]]
    except (KeyError, ValueError) as error:
        raise DataError(f"nab: {entity}: no series with labelled windows ({error})") from error
    return check_content("nab", entity, _content(times, values, spans))


def _content(
    times: np.ndarray, values: np.ndarray, spans: Sequence[tuple[str, int, int]]
) -> Content:
    last = min(int(_PROBATION_SHARE * len(values)), _MOST_PROBATION)
    test_times = times[last:]
    labels = np.zeros(len(test_times), np.bool_)
    anomalies: list[Sequence[str]] = [_HEADINGS]
    for kind, start, end in spans:
        rows = np.flatnonzero((test_times >= start) & (test_times <= end))
        if kind == "window":
            labels[rows] = True
        anomalies.append((kind, *map(str, (start, end, rows[0], rows[-1]))))
    return Content(
        values[:last],
        values[last:],
        labels,
        anomalies=anomalies,
        train_times=times[:last],
        test_times=test_times,
    )


def _seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())

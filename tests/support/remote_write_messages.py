"""Remote-write messages of both versions, encoded by the library of Protocol Buffers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import cramjam
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

VERSION_2 = "io.prometheus.write.v2.Request"
_Field = tuple[str, int, str, bool]
_TYPES = {"double": 1, "int64": 3, "string": 9, "uint32": 13}
_MESSAGES: Mapping[str, Mapping[str, Sequence[_Field]]] = {
    "prometheus": {
        "Label": [("name", 1, "string", False), ("value", 2, "string", False)],
        "Sample": [("value", 1, "double", False), ("timestamp", 2, "int64", False)],
        "Exemplar": [("value", 2, "double", False)],
        "Histogram": [("sum", 3, "double", False)],
        "TimeSeries": [
            ("labels", 1, "Label", True),
            ("samples", 2, "Sample", True),
            ("exemplars", 3, "Exemplar", True),
            ("histograms", 4, "Histogram", True),
        ],
        "MetricMetadata": [("help", 4, "string", False)],
        "WriteRequest": [
            ("timeseries", 1, "TimeSeries", True),
            ("metadata", 3, "MetricMetadata", True),
        ],
    },
    "io.prometheus.write.v2": {
        "Sample": [("value", 1, "double", False), ("timestamp", 2, "int64", False)],
        "Histogram": [("sum", 4, "double", False)],
        "Exemplar": [("value", 2, "double", False)],
        "Metadata": [("help_ref", 3, "uint32", False)],
        "TimeSeries": [
            ("labels_refs", 1, "uint32", True),
            ("samples", 2, "Sample", True),
            ("histograms", 3, "Histogram", True),
            ("exemplars", 4, "Exemplar", True),
            ("metadata", 5, "Metadata", False),
            ("created_timestamp", 6, "int64", False),
        ],
        "Request": [("symbols", 4, "string", True), ("timeseries", 5, "TimeSeries", True)],
    },
}

Sent = tuple[Mapping[str, str], Sequence[tuple[int, float]]]
"""The labels of a series, and its samples: unix milliseconds and a value."""


@cache
def _pool() -> Any:
    pool = descriptor_pool.DescriptorPool()
    for package, messages in _MESSAGES.items():
        file = descriptor_pb2.FileDescriptorProto(
            name=f"{package}.proto", package=package, syntax="proto3"
        )
        for name, fields in messages.items():
            message = file.message_type.add(name=name)
            for field, number, kind, repeated in fields:
                added = message.field.add(name=field, number=number, label=3 if repeated else 1)
                added.type = _TYPES.get(kind, 11)
                if kind not in _TYPES:
                    added.type_name = f".{package}.{kind}"
        pool.Add(file)
    return pool


def message(name: str) -> Any:
    """The class of a message, by its whole name."""
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(name))


def encode_version_1(series: Iterable[Sent], **others: int) -> bytes:
    """A `prometheus.WriteRequest`; `others` are numbers of `metadata`, `exemplars`, `histograms`
    in the last series.
    """
    request = message("prometheus.WriteRequest")()
    for labels, samples in series:
        added = request.timeseries.add()
        for name, value in sorted(labels.items()):
            added.labels.add(name=name, value=value)
        for at, value in samples:
            added.samples.add(value=value, timestamp=at)
    for _ in range(others.get("exemplars", 0)):
        request.timeseries[-1].exemplars.add(value=1.0)
    for _ in range(others.get("histograms", 0)):
        request.timeseries[-1].histograms.add(sum=1.0)
    for _ in range(others.get("metadata", 0)):
        request.metadata.add(help="about")
    encoded: bytes = request.SerializeToString()
    return encoded


def encode_version_2(series: Iterable[Sent], **others: int) -> bytes:
    """An `io.prometheus.write.v2.Request`; `others` as in `encode_version_1`."""
    request = message(VERSION_2)()
    symbols = {"": 0}
    for labels, samples in series:
        added = request.timeseries.add()
        for pair in sorted(labels.items()):
            added.labels_refs.extend(symbols.setdefault(each, len(symbols)) for each in pair)
        for at, value in samples:
            added.samples.add(value=value, timestamp=at)
    request.symbols.extend(symbols)
    for _ in range(others.get("exemplars", 0)):
        request.timeseries[-1].exemplars.add(value=1.0)
    for _ in range(others.get("histograms", 0)):
        request.timeseries[-1].histograms.add(sum=1.0)
    if others.get("metadata"):
        request.timeseries[-1].metadata.help_ref = 0
        request.timeseries[-1].metadata.SetInParent()
    encoded: bytes = request.SerializeToString()
    return encoded


def compress(body: bytes) -> bytes:
    """A block of snappy."""
    return bytes(cramjam.snappy.compress_raw(body))


def feature(detector: str, alias: str, **labels: str) -> dict[str, str]:
    """The labels of a recorded series."""
    own = {"__name__": "promad:feature", "detector": detector, "feature_name": alias}
    return {**own, **labels}

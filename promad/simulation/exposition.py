"""What simulated hosts expose: text for Prometheus to scrape, or to import as history."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping

import numpy as np

from promad.data.groups import list_matchers
from promad.simulation.host import FEATURES
from promad.simulation.noise import Floats
from promad.simulation.numbers import format_numbers
from promad.simulation.targets import Ints, Target

_BLOCK = 1_000_000
"""Samples that are computed at once."""


def format_exposition(target: Target, at: float) -> str:
    """All series of the hosts that are alive at unix seconds `at`, in Prometheus's text format.

    The labels of each host are among those of its series: scrape it with `honor_labels: true`.
    """
    times = np.array([at])
    rows = target.find_alive(times)
    values = target.values(times, rows, range(len(target.features)))[:, 0, :]
    labels = [_format_labels(target.labels[row]) for row in rows.tolist()]
    text = io.StringIO()
    for name, column in zip(target.features, values.T, strict=True):
        text.write(_format_header(name))
        for own, value in zip(labels, format_numbers(column), strict=True):
            if value != "nan":
                text.write(f"{name}{own} {value}\n")
    return text.getvalue()


def iterate_openmetrics(target: Target, times: Floats) -> Iterator[str]:
    """The history at unix `times` (samples,) as OpenMetrics, piece by piece.

    `promtool tsdb create-blocks-from openmetrics` imports it. It reads the whole file once for
    each block of two hours, or of `--max-block-duration`.
    """
    stamps = [f" {text}\n" for text in format_numbers(times)]
    rows = target.find_alive(times)
    for feature, name in enumerate(target.features):
        yield _format_header(name)
        for start in range(0, len(rows), width := max(1, _BLOCK // len(times))):
            yield from _format_history(target, feature, rows[start : start + width], times, stamps)
    yield "# EOF\n"


def _format_history(
    target: Target, feature: int, rows: Ints, times: Floats, stamps: list[str]
) -> Iterator[str]:
    """The samples of one feature on some hosts, a piece for each host."""
    values = target.values(times, rows, [feature])[:, :, 0]
    for row, own in zip(rows.tolist(), values, strict=True):
        series = target.features[feature] + _format_labels(target.labels[row])
        pairs = zip(format_numbers(own), stamps, strict=True)
        yield "".join([f"{series} {value}{stamp}" for value, stamp in pairs if value != "nan"])


def _format_header(name: str) -> str:
    return f"# HELP {name} {FEATURES.get(name, 'A generic gauge.')}\n# TYPE {name} gauge\n"


def _format_labels(labels: Mapping[str, str]) -> str:
    return f"{{{list_matchers(tuple(labels.items()))}}}".replace('", ', '",')

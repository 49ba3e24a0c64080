"""The alerts that fired in a past period."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from promad.data.groups import Labels, sort_labels
from promad.prometheus.client import PrometheusClient
from promad.prometheus.grid import Span, requests_for
from promad.prometheus.one_series import format_labels
from promad.prometheus.parsing import MOST_SERIES, Series

_OF_ALERTS = {"__name__", "alertstate"}


ALERTS_FIRING = 'ALERTS{alertstate="firing", alertname!~"Promad.*"}'
"""Firing alerts, without promad's own."""


@dataclass(frozen=True)
class Alert:
    """One time that an alert fired, in unix seconds; `labels` is the text of its `series`."""

    labels: str
    start: float
    end: float
    series: Labels = ()


def fetch_alerts(client: PrometheusClient, span: Span, step: float) -> tuple[Alert, ...]:
    """Every time that an alert fired, oldest first, without promad's own.

    Raises:
        PrometheusError: if the query fails.
    """
    found: list[Alert] = []
    for part in requests_for([span], step, client.max_points):
        answer = client.query_range(
            ALERTS_FIRING, part.start, part.end, step, most_series=MOST_SERIES
        )
        for series in answer.series:
            found += _split_firing(series, step)
    return tuple(sorted(found, key=lambda alert: (alert.start, alert.labels)))


def _split_firing(series: Series, step: float) -> Iterator[Alert]:
    labels = {name: value for name, value in series.labels if name not in _OF_ALERTS}
    text = format_labels(sort_labels(labels))
    bounds = np.flatnonzero(np.diff(series.times) > 1.5 * step) + 1
    for times in np.split(series.times, bounds):
        yield Alert(text, float(times[0]), float(times[-1]), sort_labels(labels))

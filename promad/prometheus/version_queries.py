"""What the queries of `markers` mark: the versions that there are, and changes over a period."""

from __future__ import annotations

from promad.data.groups import Grouping, Labels
from promad.events.markers import Marker, MarkerBook, collect_versions
from promad.prometheus.client import PrometheusClient
from promad.prometheus.grid import Span, requests_for
from promad.prometheus.parsing import MOST_SERIES

_INSTANT_STEP = 60.0
"""Of a range that is one time only."""


def ask_versions(
    client: PrometheusClient, query: str, at: float, grouping: Grouping
) -> dict[Labels, frozenset[str]]:
    """The versions at a time, in unix seconds, by the labels of groups that they are about.

    Raises:
        PrometheusError: if the query fails.
    """
    answer = client.query_range(query, at, at, _INSTANT_STEP, most_series=MOST_SERIES)
    series = ((each.labels, float(each.values[-1])) for each in answer.series if len(each.values))
    return collect_versions(series, grouping)


def fetch_markers(
    client: PrometheusClient, name: str, query: str, span: Span, step: float, grouping: Grouping
) -> list[Marker]:
    """What was deployed within a span, oldest first, as far as it is seen at steps of a grid.

    Raises:
        PrometheusError: if the query fails.
    """
    book, markers = MarkerBook(), []
    for part in requests_for([span], step, client.max_points):
        answer = client.query_range(query, part.start, part.end, step, most_series=MOST_SERIES)
        values: dict[float, list[tuple[Labels, float]]] = {}
        for series in answer.series:
            for at, value in zip(series.times.tolist(), series.values.tolist(), strict=True):
                values.setdefault(at, []).append((series.labels, value))
        for at in sorted(values):
            found, _ = book.follow(name, at, collect_versions(values[at], grouping))
            markers += found
    return markers

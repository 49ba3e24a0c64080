"""What the queries of `mute` mute: now, and over the time that is collected or replayed.

A series mutes while its value is not zero or, as in `data_settings.exclude`, while it is there if
the expression is a comparison that filters. It mutes the groups that have its labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from promad.data.gaps import find_runs
from promad.data.groups import Grouping, Labels
from promad.errors import PrometheusError
from promad.events.mutes import MarkedSeries, MuteMarks
from promad.prometheus.client import PrometheusClient
from promad.prometheus.grid import Span, requests_for
from promad.prometheus.marks import Flags, ask_marked, find_filters, flag_marked
from promad.prometheus.parsing import MOST_SERIES, Answer

_INSTANT_STEP = 60.0
"""Of a range that is one time only."""


def ask_muting(
    client: PrometheusClient, query: str, at: float, grouping: Grouping, *, filters: bool
) -> tuple[Labels, ...]:
    """The series that mute at a time, in unix seconds: of each those labels that groups have.

    Args:
        filters: whether the query is a comparison that filters.

    Raises:
        PrometheusError: if the query fails.
    """
    answer = client.query_range(query, at, at, _INSTANT_STEP, most_series=MOST_SERIES)
    muting = (
        grouping.find_part(series.labels)
        for series in answer.series
        if (~np.isnan(series.values) & (filters | (series.values != 0))).any()
    )
    return tuple(dict.fromkeys(labels for labels in muting if labels is not None))


@dataclass(frozen=True)
class FetchedMutes:
    """What mutes when, with the number of requests and of points it took."""

    marks: MuteMarks
    requests: int = 0
    points: int = 0


def fetch_mute_marks(
    client: PrometheusClient,
    queries: Iterable[str],
    spans: Sequence[Span],
    step: float,
    grouping: Grouping,
    *,
    allow_partial: bool = False,
) -> FetchedMutes:
    """When the series of each query mute, within the spans.

    Raises:
        PrometheusError: if a query fails, or the server warns and `allow_partial` is not set; it
            says that the query is one of `mute`.
    """
    marks: dict[str, list[MarkedSeries]] = {}
    requests = points = 0
    for query in queries:
        found: dict[Labels, list[tuple[float, float]]] = {}
        filters = find_filters(query)
        for part in requests_for(spans, step, client.max_points):
            answer = _ask(client, query, part, step, allow_partial)
            requests += 1
            points += sum(len(series.values) for series in answer.series)
            flags: dict[Labels, Flags] = {}
            for series in answer.series:
                labels = grouping.find_part(series.labels)
                if labels is None:
                    continue
                own = flag_marked(client, query, [series], filters, part, step)
                flags[labels] = own | flags[labels] if labels in flags else own
            for labels, marked in flags.items():
                found.setdefault(labels, []).extend(
                    (part.start + first * step, part.start + (last - 1) * step)
                    for first, last in find_runs(marked)
                )
        marks[query] = [MarkedSeries(labels, ranges) for labels, ranges in found.items() if ranges]
    return FetchedMutes(marks, requests, points)


def _ask(
    client: PrometheusClient, query: str, part: Span, step: float, allow_partial: bool
) -> Answer:
    try:
        return ask_marked(client, query, part, step, allow_partial)
    except PrometheusError as error:
        raise type(error)(f"mute: {error}", error.reason, error.fault) from error

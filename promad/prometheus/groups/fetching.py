"""Fetching one part of a fleet's history: one query over a stretch of time, for all groups.

It may be done by a worker that has nothing but the task.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from promad.config import PrometheusSettings
from promad.data.frame import points_between
from promad.data.groups import Labels
from promad.errors import PrometheusError
from promad.parallel.backend import open_engine
from promad.parallel.engine import Backend, Engine
from promad.parallel.running import Failure, run_each
from promad.prometheus.client import PrometheusClient
from promad.prometheus.grid import Span, find_places, find_stretch, requests_for
from promad.prometheus.groups.rows import list_common_times
from promad.prometheus.one_series import check_warnings
from promad.prometheus.parsing import TableAnswer, read_labels

Values = NDArray[np.float64]

_POINTS_IN_ALL = 1_000_000
"""Samples of all series that one request may bring, once it is known how many series there are."""
_FIRST_POINTS = 20


@dataclass(frozen=True)
class Part:
    """What is asked.

    Attributes:
        span: the grid times.
        step: seconds between samples.
        most_series: series that an answer may have.
        allow_partial: whether answers with warnings are accepted.
        series_seen: how many series the query is known to have; 1 if that is not known.
    """

    expr: str
    span: Span
    step: float
    most_series: int
    allow_partial: bool
    series_seen: int = 1


@dataclass(frozen=True)
class FetchedPart:
    """What a part brought.

    Attributes:
        labels: of each series.
        values: float64 (series, samples); NaN = missing.
        requests: how many requests were made of the server.
        points: how many samples they brought.
        warned: whether the server warned that samples may be missing.
    """

    labels: list[Labels]
    values: Values
    requests: int
    points: int
    warned: bool


def download_part(client: PrometheusClient, part: Part) -> list[bytes]:
    """The answers for a part; the first is small while the number of series is unknown."""
    step, most, span, seen = part.step, part.most_series, part.span, part.series_seen
    bodies: list[bytes] = []
    start = span.start
    if seen == 1:
        end = min(span.end, span.start + (_FIRST_POINTS - 1) * step)
        bodies += client.range_bodies(part.expr, start, end, step, most_series=most)
        seen, start = max(1, bodies[-1].count(b'"metric"')), end + step
    points = max(_FIRST_POINTS, min(client.max_points, _POINTS_IN_ALL // seen))
    if start <= span.end + step / 2:
        for each in requests_for([Span(start, span.end)], step, points):
            bodies += client.range_bodies(part.expr, each.start, each.end, step, most_series=most)
    return bodies


def read_part(client: PrometheusClient, part: Part, bodies: Sequence[bytes]) -> FetchedPart:
    """What the answers for a part hold.

    Raises:
        PrometheusError: if they cannot be understood, or the server warns and that is not accepted.
    """
    answers = client.read_tables(bodies, part.expr, part.most_series)
    for answer in answers:
        check_warnings(part.expr, answer.warnings, part.allow_partial)
    try:
        labels, values = _join(answers, part.span, part.step)
    except ValueError as error:
        raise client.bad_answer(part.expr, str(error)) from None
    points = sum(len(answer.table.values) for answer in answers)
    return FetchedPart(
        labels, values, len(bodies), points, any(answer.warnings for answer in answers)
    )


def _join(answers: Sequence[TableAnswer], part: Span, step: float) -> tuple[list[Labels], Values]:
    """The label sets of all answers, each once, and their samples over the part."""
    row_of: dict[Labels, int] = {}
    for answer in answers:
        for metric in answer.table.metrics:
            row_of.setdefault(read_labels(metric), len(row_of))
    values = np.full((len(row_of), points_between(part.start, part.end, step)), np.nan)
    for answer in answers:
        table = answer.table
        rows = np.array([row_of[read_labels(metric)] for metric in table.metrics], np.int64)
        times = list_common_times(table)
        stretch = None if times is None else find_stretch(times, part, step)
        if stretch is None:
            place = find_places(table.times, part, step)
            values[np.repeat(rows, table.counts), place] = table.values
        else:
            values[rows, stretch] = table.values.reshape(len(rows), -1)
    return list(row_of), values


@dataclass(frozen=True)
class Workers:
    """What fetches in place of this process.

    Attributes:
        settings: what the server is asked with; its secrets travel.
        requests: that are made of the server at the same time, by all workers together.
    """

    engine: Engine
    url: str
    settings: PrometheusSettings
    requests: int


@contextmanager
def open_workers(
    backend: Backend | None, url: str, settings: PrometheusSettings
) -> Iterator[Workers | None]:
    """The workers of a backend; None without one.

    Raises:
        PromadError: if the backend cannot be used.
    """
    if backend is None:
        yield None
        return
    with open_engine(backend) as engine:
        yield Workers(engine, url, settings, backend.requests)


def fetch_on_workers(
    workers: Workers, parts: Iterable[Part]
) -> Iterator[tuple[int, FetchedPart | PrometheusError]]:
    """What each part brought, or why it failed, with its place, as they finish."""
    connection = (workers.url, workers.settings)
    items = enumerate(parts)
    for place, found in run_each(_fetch, connection, items, workers.engine, workers.requests):
        if isinstance(found, Failure):
            yield place, PrometheusError(found.reason, "bad_answer")
        elif isinstance(found, FetchedPart):
            yield place, found
        else:
            yield place, PrometheusError(*found)


def _fetch(
    connection: tuple[str, PrometheusSettings], part: Part
) -> FetchedPart | tuple[str, str, str]:
    """What a part brought, or the message, reason and fault of the error."""
    with closing(PrometheusClient(*connection)) as client:
        try:
            return read_part(client, part, download_part(client, part))
        except PrometheusError as error:
            return str(error), error.reason, error.fault

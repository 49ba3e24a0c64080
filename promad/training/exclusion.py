"""What training leaves out: periods, and stretches of time that PromQL marks.

`collect` asks the server which samples the expressions mark and keeps that beside the values;
`preprocess` cuts the marked samples and those within periods out of the data.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import promql_parser
from numpy.typing import NDArray

from promad.config import Config
from promad.config.durations import format_instant
from promad.config.settings import Exclusion
from promad.data.filling import runs
from promad.data.frame import MetricFrame, points_between
from promad.errors import DataError
from promad.prometheus import Answer, PrometheusClient, Series
from promad.prometheus.grid import Span, on_grid, requests_for
from promad.prometheus.one_series import check_warnings

Flags = NDArray[np.bool_]
Marks = Mapping[str, Sequence[tuple[float, float]]]
"""By expression the stretches that it marks, each from a first to a last sample, unix seconds."""

PERIOD = "period"
"""The reason of what was left out for its time alone."""

_COMPARISONS = {"==", "!=", ">", "<", ">=", "<="}


@dataclass(frozen=True)
class Stretch:
    """Samples left out, from the first to the last, in unix seconds, and the reason.

    The reason is the expression that marked them, or "period".
    """

    start: float
    end: float
    samples: int
    why: str

    @property
    def line(self) -> str:
        """As the manifest has it: start/end and the reason."""
        return f"{format_instant(self.start)}/{format_instant(self.end)} {self.why}"


@dataclass(frozen=True)
class Marked:
    """What the expressions mark, and what it took to learn that."""

    marks: Marks
    requests: int
    points: int


def expressions(config: Config) -> tuple[str, ...]:
    """The PromQL among `data_settings.exclude`."""
    found = (entry.expr for entry in config.data_settings.exclude)
    return tuple(dict.fromkeys(expr for expr in found if expr is not None))


def fetch_marks(
    client: PrometheusClient,
    exprs: Iterable[str],
    spans: Sequence[Span],
    step: float,
    *,
    allow_partial: bool = False,
) -> Marked:
    """Ask the server which samples of the spans each expression marks.

    A sample is marked if any series of the answer marks it: by being there, where the expression
    is a comparison that filters, and by not being zero, where it is anything else. No series at
    all marks nothing.

    Raises:
        PrometheusError: if a query fails, or the server warns and `allow_partial` is not set.
    """
    marks: dict[str, list[tuple[float, float]]] = {}
    requests = points = 0
    for expr in exprs:
        marks[expr] = []
        filters = is_filter(promql_parser.parse(expr))
        for span in spans:
            parts = []
            for part in requests_for([span], step):
                answer = _asked(client, expr, part, step, allow_partial)
                requests += 1
                points += sum(len(series.values) for series in answer.series)
                parts.append(_marked(client, expr, answer.series, filters, part, step))
            for first, last in runs(np.concatenate(parts)):
                marks[expr].append((span.start + first * step, span.start + (last - 1) * step))
    return Marked(marks, requests, points)


def _asked(
    client: PrometheusClient, expr: str, part: Span, step: float, allow_partial: bool
) -> Answer:
    answer = client.query_range(expr, part.start, part.end, step)
    check_warnings(expr, answer, allow_partial)
    return answer


def is_filter(tree: Any) -> bool:
    """Whether a parsed expression keeps the samples for which a comparison holds.

    Such a sample has the value that was compared, which may well be zero, as in `up == 0`. Only the
    comparison at the top counts, or to the left of `and` and `unless`, or on a side of `or`; within
    a function or an aggregation it does not: write `up == 0` rather than `max(up == 0)`.

    >>> is_filter(promql_parser.parse("up == 0")), is_filter(promql_parser.parse("up == bool 0"))
    (True, False)
    """
    while isinstance(tree, promql_parser.ParenExpr):
        tree = tree.expr
    if not isinstance(tree, promql_parser.BinaryExpr):
        return False
    operator = str(tree.op)
    if operator in _COMPARISONS:
        return tree.modifier is None or not tree.modifier.return_bool
    if operator == "or":
        return is_filter(tree.lhs) or is_filter(tree.rhs)
    return operator in {"and", "unless"} and is_filter(tree.lhs)


def _marked(
    client: PrometheusClient,
    expr: str,
    answer: Sequence[Series],
    filters: bool,
    span: Span,
    step: float,
) -> Flags:
    """Which grid times of the span are marked by any series: bool (samples,)."""
    marked = np.zeros(points_between(span.start, span.end, step), np.bool_)
    for series in answer:
        known = ~np.isnan(series.values)
        chosen = np.ones_like(known) if filters else known & (series.values != 0)
        hits = replace(series, times=series.times[chosen], values=np.ones(chosen.sum()))
        try:
            marked |= ~np.isnan(on_grid(hits, span, step))
        except ValueError as error:
            raise client.bad_answer(expr, str(error)) from None
    return marked


def stretches(
    config: Config, metadata: Mapping[str, str], frames: Sequence[MetricFrame], source: object
) -> tuple[Stretch, ...]:
    """What the configuration has left out of collected frames, entry by entry.

    Args:
        metadata: that of the collected file, in which `collect` left the marks.
        source: the file, for messages.

    Raises:
        DataError: if an expression was not there yet when the data was collected.
    """
    marks = json.loads(metadata.get("marks", "{}"))
    for expr in expressions(config):
        if expr not in marks:
            raise DataError(
                f"{source}: was collected without asking for {expr}, which "
                "data_settings.exclude has now — run promad collect again"
            )
    found = []
    for entry in config.data_settings.exclude:
        spans = marks[entry.expr] if entry.expr else _period(entry)
        found += [
            stretch for frame in frames for stretch in _within(frame, spans, entry.expr or PERIOD)
        ]
    return tuple(found)


def _period(entry: Exclusion) -> list[tuple[float, float]]:
    return [] if entry.start is None or entry.end is None else [(entry.start, entry.end)]


def _within(
    frame: MetricFrame, spans: Iterable[tuple[float, float]], why: str
) -> Iterator[Stretch]:
    """The stretches of the frame that lie in any of the spans."""
    for first, last in runs(_inside(frame, spans)):
        times = frame.times[[first, last - 1]]
        yield Stretch(float(times[0]), float(times[1]), last - first, why)


def _inside(frame: MetricFrame, spans: Iterable[tuple[float, float]]) -> Flags:
    tolerance, inside = frame.step * 1e-3, np.zeros(frame.samples, np.bool_)
    for start, end in spans:
        inside |= (frame.times >= start - tolerance) & (frame.times <= end + tolerance)
    return inside


def outside(frames: Sequence[MetricFrame], left_out: Iterable[Stretch]) -> list[MetricFrame]:
    """The frames without the stretches, cut in two at each."""
    spans = [(stretch.start, stretch.end) for stretch in left_out]
    return [
        frame.slice(first, last) for frame in frames for first, last in runs(~_inside(frame, spans))
    ]


def described(config: Config) -> str:
    """`data_settings.exclude` as text, to tell whether it is still the same."""
    return json.dumps([entry.model_dump() for entry in config.data_settings.exclude])

"""Exclusion marks: which samples the expressions of `data_settings.exclude` mark.

`collect` asks the server for them and stores them beside the values, so that `preprocess`, which
speaks to no server, can cut the marked samples out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import promql_parser
import structlog
from numpy.typing import NDArray

from promad.config.promql import mask_strings, parse_promql
from promad.data.frame import points_between
from promad.data.gaps import find_runs
from promad.prometheus.client import PrometheusClient
from promad.prometheus.grid import Span, on_grid, requests_for
from promad.prometheus.one_series import check_warnings, flatten_text
from promad.prometheus.parsing import MOST_SERIES, Answer, Series

Flags = NDArray[np.bool_]
Marks = Mapping[str, Sequence[tuple[float, float]]]
"""By expression the ranges of samples it marks, from a first to a last one, in unix seconds."""

log = structlog.get_logger()

_COMPARISONS = {"==", "!=", ">", "<", ">=", "<="}


@dataclass(frozen=True)
class Marked:
    """What the expressions mark, with the number of requests and of points it took."""

    marks: Marks
    requests: int
    points: int


def fetch_marks(
    client: PrometheusClient,
    exprs: Iterable[str],
    spans: Sequence[Span],
    step: float,
    *,
    allow_partial: bool = False,
) -> Marked:
    """Which samples of the spans each expression marks, as the server has it.

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
        filters = find_filters(expr)
        for span in spans:
            parts = []
            for part in requests_for([span], step, client.max_points):
                answer = ask_marked(client, expr, part, step, allow_partial)
                requests += 1
                points += sum(len(series.values) for series in answer.series)
                parts.append(flag_marked(client, expr, answer.series, filters, part, step))
            for first, last in find_runs(np.concatenate(parts)):
                marks[expr].append((span.start + first * step, span.start + (last - 1) * step))
    return Marked(marks, requests, points)


def ask_marked(
    client: PrometheusClient, expr: str, part: Span, step: float, allow_partial: bool
) -> Answer:
    """The samples of an expression.

    Raises:
        PrometheusError: if the query fails, or the server warns and `allow_partial` is not set.
    """
    answer = client.query_range(expr, part.start, part.end, step, most_series=MOST_SERIES)
    check_warnings(expr, answer.warnings, allow_partial)
    return answer


def find_filters(expr: str) -> bool:
    """Whether the expression is known to filter; what its strings hold does not matter."""
    try:
        return is_filter(parse_promql(mask_strings(expr)))
    except ValueError:
        log.warning(
            "unknown PromQL; samples with the value 0 do not count", expr=flatten_text(expr)
        )
        return False


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


def flag_marked(
    client: PrometheusClient,
    expr: str,
    answer: Sequence[Series],
    filters: bool,
    span: Span,
    step: float,
) -> Flags:
    """Which grid times of the span are marked by any series: bool (samples,).

    Args:
        filters: whether the expression is a comparison that filters.

    Raises:
        PrometheusError: if the samples are not on the grid.
    """
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

"""What an expression selects: each selector with its metric, its range and the function around."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import promql_parser

from promad.config.promql import parse_promql

_MODIFIERS = re.compile(r"(?: (?:offset|@) [-\w.]+)+$")


@dataclass(frozen=True)
class Selection:
    """One selector within an expression.

    Attributes:
        metric: its metric name; empty if it has none.
        selector: its PromQL without offset and @.
        function: the innermost function whose argument it is; empty if there is none.
        range_seconds: of a range selector, or of the subquery around; None if it has none.
        offset: seconds that it looks back; negative if it looks ahead.
        is_fixed: whether it has @, so that it does not move with time.
        is_subquery: whether the range is that of a subquery.
    """

    metric: str
    selector: str
    function: str = ""
    range_seconds: float | None = None
    offset: float = 0.0
    is_fixed: bool = False
    is_subquery: bool = False


def list_selections(expr: str) -> list[Selection]:
    """The selectors of an expression, in its order; none if the local parser does not know it.

    >>> [found] = list_selections('sum(rate(errors_total{job="a"}[5m] offset 1h))')
    >>> found.selector, found.function, found.range_seconds, found.offset
    ('errors_total{job="a"}', 'rate', 300.0, 3600.0)
    """
    try:
        tree = parse_promql(expr)
    except ValueError:
        return []
    return list(_find_selections(tree, Selection("", "")))


def _find_selections(node: Any, around: Selection) -> Iterator[Selection]:
    """The selectors in a part of a syntax tree; `around` has what surrounds it."""
    match type(node).__name__:
        case "VectorSelector":
            text = _MODIFIERS.sub("", node.prettify())
            yield replace(_add_modifiers(around, node), metric=_find_name(node), selector=text)
        case "MatrixSelector":
            found = replace(around, range_seconds=node.range.total_seconds())
            yield from _find_selections(node.vector_selector, found)
        case "SubqueryExpr":
            seconds = node.range.total_seconds()
            inside = replace(_add_modifiers(around, node), range_seconds=seconds, is_subquery=True)
            yield from _find_selections(node.expr, inside)
        case "Call":
            for argument in node.args:
                yield from _find_selections(argument, _enter_function(around, node.func.name))
        case "BinaryExpr":
            for side in (node.lhs, node.rhs):
                yield from _find_selections(side, around)
        case "ParenExpr" | "UnaryExpr" | "AggregateExpr":
            yield from _find_selections(node.expr, around)


def _enter_function(around: Selection, name: str) -> Selection:
    return replace(around, function=name, range_seconds=None, is_subquery=False)


def _add_modifiers(around: Selection, node: Any) -> Selection:
    offset = 0.0 if node.offset is None else node.offset.total_seconds()
    fixed = around.is_fixed or node.at is not None
    return replace(around, offset=around.offset + offset, is_fixed=fixed)


def _find_name(node: Any) -> str:
    """The metric name of a selector, also if it is a matcher."""
    if node.name:
        return str(node.name)
    for matcher in node.matchers.matchers:
        if matcher.name == "__name__" and matcher.op == promql_parser.MatchOp.Equal:
            return str(matcher.value)
    return ""

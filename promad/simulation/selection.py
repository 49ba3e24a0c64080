"""Which series a PromQL expression means, for the few forms that the simulation answers.

A selector, alone or in timestamp(); one of these aggregated by labels that tell hosts apart, which
changes their labels alone; any of these for one host alone; several of these, each with a label of
its own; and selectors unless they have recent samples, which selects nothing, because every host is
scraped until it is gone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import promql_parser
from promql_parser import (
    AggregateExpr,
    BinaryExpr,
    Call,
    MatchOp,
    MatrixSelector,
    ParenExpr,
    StringLiteral,
    VectorSelector,
)

SUPPORTED = "the simulation supports a vector selector, alone or in timestamp()"
_HOST = "instance"
_OF_ONE_SERIES = frozenset({"min", "max", "sum", "avg"})
"""Aggregations of which one series is its own result."""
_OF_NO_SERIES = _OF_ONE_SERIES | {"count"}


class BadDataError(ValueError):
    """A request that cannot be answered; its text is the `error` of the answer."""


@dataclass(frozen=True)
class Selection:
    """The series that an expression means.

    Attributes:
        selector: what they are called, and their labels.
        wants_times: whether it asks for the times of their samples, not their values.
        by: the labels that are kept; None for all.
        wants_stale: whether it asks for series without recent samples, of which there are none.
        only: label values that a series must have besides.
        added: labels that every series gets.
    """

    selector: VectorSelector
    wants_times: bool
    by: tuple[str, ...] | None = None
    wants_stale: bool = False
    only: tuple[tuple[str, str], ...] = ()
    added: tuple[tuple[str, str], ...] = ()

    def reduce(self, labels: dict[str, str]) -> dict[str, str]:
        """The labels of a series in the answer."""
        kept = labels if self.by is None else {n: v for n, v in labels.items() if n in self.by}
        return dict(sorted({**kept, **dict(self.added)}.items())) if self.added else kept

    def may_match(self, name: str) -> bool:
        """Whether a series of that name can be meant, with any other labels."""
        return not self.wants_stale and self.selector.name in (None, name)

    def matches(self, labels: dict[str, str]) -> bool:
        """Whether the series of these labels, `__name__` among them, is meant."""
        if not self.may_match(labels["__name__"]):
            return False
        if any(labels.get(name, "") != value for name, value in self.only):
            return False
        matchers = self.selector.matchers
        return any(_all_hold(row, labels) for row in matchers.or_matchers or [matchers.matchers])


def parse_selections(promql: str) -> list[Selection]:
    """What `promql` selects: all times, or all values; a label tells apart the series of several.

    Raises:
        BadDataError: if it is not PromQL, or more than the simulation answers.
    """
    try:
        tree = promql_parser.parse(promql)
    except ValueError as error:
        raise BadDataError(f'invalid parameter "query": parse error: {error}') from None
    found = list(_split_union(tree)) or [_select(tree)]
    selections = [_check_selection(each, promql) for each in found]
    if len({each.wants_times for each in selections}) > 1:
        raise BadDataError(f'invalid parameter "query": {SUPPORTED}, not {promql}')
    return selections


def _check_selection(selection: Selection | None, promql: str) -> Selection:
    if selection is None or selection.selector.offset or selection.selector.at:
        raise BadDataError(f'invalid parameter "query": {SUPPORTED}, not {promql}')
    _check_expressions(selection.selector)
    return selection


def _split_union(tree: Any) -> Iterator[Selection | None]:
    """The parts of a union, each in a label_replace with a constant; none if it is no union."""
    parts: list[Any] = []
    while isinstance(tree, BinaryExpr) and str(tree.op) == "or" and _read_labels(tree.rhs):
        parts.append(tree.rhs)
        tree = tree.lhs
    if _read_labels(tree):
        for part in [tree, *reversed(parts)]:
            selection = _select(part.args[0])
            yield selection and replace(selection, added=_read_labels(part)[-1:])


def _select(tree: Any) -> Selection | None:
    """What an expression selects; None if it is of another form."""
    if isinstance(tree, ParenExpr):
        return _select(tree.expr)
    if isinstance(tree, VectorSelector):
        return Selection(tree, wants_times=False)
    if isinstance(tree, Call):
        return _select_in_call(tree)
    if isinstance(tree, AggregateExpr):
        return _select_in_aggregation(tree)
    if isinstance(tree, BinaryExpr):
        return _select_in_binary(tree)
    return None


def _select_in_aggregation(tree: AggregateExpr) -> Selection | None:
    labels = tuple(tree.modifier.labels) if tree.modifier else ()
    inner = _select(tree.expr) if _HOST in labels else None
    if inner is None or str(tree.op) not in (
        _OF_NO_SERIES if inner.wants_stale else _OF_ONE_SERIES
    ):
        return None
    return replace(inner, by=labels)


def _select_in_call(tree: Call) -> Selection | None:
    inner = _select(tree.args[0]) if tree.func.name == "timestamp" else None
    return None if inner is None else replace(inner, wants_times=True)


def _select_in_binary(tree: BinaryExpr) -> Selection | None:
    first = _select(tree.lhs)
    if first is None:
        return None
    if str(tree.op) == "unless":
        return replace(first, wants_stale=True) if _has_recent(tree.rhs, first) else None
    if str(tree.op) == "or":
        second = _select(tree.rhs) if first.wants_stale else None
        return first if second is not None and second.wants_stale else None
    if str(tree.op) == "and":
        only = _read_labels(tree.rhs)
        return replace(first, only=only) if only else None
    return None


def _has_recent(tree: Any, selection: Selection) -> bool:
    """Whether an expression is the last samples of the same series."""
    if not isinstance(tree, Call) or tree.func.name != "last_over_time":
        return False
    recent = tree.args[0]
    same = selection.selector.prettify()
    return isinstance(recent, MatrixSelector) and recent.vector_selector.prettify() == same


def _read_labels(tree: Any) -> tuple[tuple[str, str], ...]:
    """The labels that calls of label_replace give to a constant."""
    if not isinstance(tree, Call) or tree.func.name != "label_replace":
        return ()
    inner, name, value = tree.args[0], tree.args[1], tree.args[2]
    if not isinstance(name, StringLiteral) or not isinstance(value, StringLiteral):
        return ()
    return (*_read_labels(inner), (name.val, value.val.replace("$$", "$")))


def _all_hold(matchers: Iterable[Any], labels: dict[str, str]) -> bool:
    """Whether each matcher holds; a label that is absent counts as empty."""
    return all(_holds(each, labels.get(each.name, "")) for each in matchers)


def _holds(matcher: Any, value: str) -> bool:
    by_pattern = matcher.op in (MatchOp.Re, MatchOp.NotRe)
    same = bool(re.fullmatch(matcher.value, value)) if by_pattern else value == matcher.value
    return same != (matcher.op in (MatchOp.NotEqual, MatchOp.NotRe))


def _check_expressions(selector: VectorSelector) -> None:
    """Raise BadDataError for a matcher whose regular expression cannot be read."""
    for row in [selector.matchers.matchers, *selector.matchers.or_matchers]:
        for matcher in row:
            if matcher.op in (MatchOp.Re, MatchOp.NotRe):
                _check_expression(matcher.value)


def _check_expression(pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise BadDataError(f'invalid parameter "query": regular expression: {error}') from None

"""How old the samples are that a query's value rests on.

A server repeats the last sample of a series for five minutes where nothing tells it that the series
has ended, and a sum over such a series is repeated likewise. `timestamp()` of the selectors within
an expression gives it away.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import promql_parser

from promad.config.promql import parse_promql

_RESTS_ON_NOTHING = {"absent", "timestamp"}
"""Functions whose value says something true of a selector without a fresh sample."""

_ARGUMENTS_WITH_SAMPLES = {"info": 1}
"""Functions whose other arguments are no selectors, though they look like one."""


SOURCE_LABEL = "age_source"
"""The label that tells apart what `unite_queries` unites."""


@dataclass(frozen=True)
class Source:
    """One selector within an expression.

    Attributes:
        query: PromQL for the unix time of its newest sample, one series at most.
        offset: seconds that it looks back by `offset`.
    """

    query: str
    offset: float


@dataclass(frozen=True)
class Sources:
    """What an expression rests on.

    Attributes:
        known: the selectors whose newest sample can be asked for.
        unknown: why others cannot, in a few words; None if there are none.
    """

    known: tuple[Source, ...]
    unknown: str | None = None


def find_sources(expr: str) -> Sources:
    """Every selector without whose samples the expression would have no value.

    Left out are those behind a range, as in `rate(x[5m])`, whose value goes as soon as its samples
    are too few, those with `@`, which do not move with time, and both sides of `or`. Unknown are
    those without a metric name: `timestamp()` drops the name, so it fails for equal labels of two
    metrics, and it may read every series of the server.

    >>> find_sources("sum(up) / 2").known
    (Source(query='max(timestamp(up))', offset=0.0),)
    >>> find_sources("up offset 5m").known
    (Source(query='timestamp(up offset 5m)', offset=300.0),)
    >>> find_sources("rate(up[5m])"), find_sources("up or vector(0)")
    (Sources(known=(), unknown=None), Sources(known=(), unknown=None))
    >>> find_sources('count({job="x"})')
    Sources(known=(), unknown='selector without metric name')
    """
    try:
        tree = parse_promql(expr)
    except ValueError:
        return Sources((), "unknown PromQL")
    bare = _strip_parentheses(tree)
    ask = (
        "timestamp({})" if isinstance(bare, promql_parser.VectorSelector) else "max(timestamp({}))"
    )
    selectors = list(_find_selectors(tree))
    named = [selector for selector in selectors if _has_name(selector)]
    found = (Source(ask.format(selector.prettify()), _read_offset(selector)) for selector in named)
    unnamed = len(named) < len(selectors)
    return Sources(tuple(dict.fromkeys(found)), "selector without metric name" if unnamed else None)


@dataclass(frozen=True, order=True)
class Selector:
    """A selector with a metric name: its PromQL, and the seconds that it looks back by `offset`."""

    text: str
    offset: float


def find_selectors(expr: str) -> list[Selector]:
    """The selectors of `find_sources` themselves.

    >>> find_selectors("up offset 5m")
    [Selector(text='up offset 5m', offset=300.0)]
    """
    try:
        tree = parse_promql(expr)
    except ValueError:
        return []
    named = filter(_has_name, _find_selectors(tree))
    return [Selector(selector.prettify(), _read_offset(selector)) for selector in named]


def unite_queries(queries: Sequence[str], label: str = SOURCE_LABEL) -> str:
    """One query for the series of all: the label has the number of theirs.

    A single one is left as it is.

    >>> print(unite_queries(["timestamp(a)", "timestamp(b)"]))  # doctest: +NORMALIZE_WHITESPACE
    label_replace(timestamp(a), "age_source", "0", "", "")
    or label_replace(timestamp(b), "age_source", "1", "", "")
    """
    if len(queries) == 1:
        return queries[0]
    return " or ".join(
        f'label_replace({query}, "{label}", "{number}", "", "")'
        for number, query in enumerate(queries)
    )


def _has_name(selector: Any) -> bool:
    """Whether all that is selected has one metric name."""
    return bool(selector.name) or any(
        matcher.name == "__name__" and matcher.op == promql_parser.MatchOp.Equal and matcher.value
        for matcher in selector.matchers.matchers
    )


def _strip_parentheses(tree: Any) -> Any:
    while isinstance(tree, promql_parser.ParenExpr):
        tree = tree.expr
    return tree


def _find_selectors(tree: Any) -> Iterator[Any]:
    if isinstance(tree, promql_parser.VectorSelector):
        if tree.at is None:
            yield tree
    elif isinstance(tree, promql_parser.BinaryExpr):
        yield from _find_selectors_in_binary(tree)
    elif isinstance(tree, promql_parser.Call):
        if tree.func.name not in _RESTS_ON_NOTHING:
            for argument in tree.args[: _ARGUMENTS_WITH_SAMPLES.get(tree.func.name)]:
                yield from _find_selectors(argument)
    elif isinstance(
        tree, promql_parser.ParenExpr | promql_parser.UnaryExpr | promql_parser.AggregateExpr
    ):
        yield from _find_selectors(tree.expr)


def _find_selectors_in_binary(tree: Any) -> Iterator[Any]:
    operator = str(tree.op)
    if operator != "or":
        yield from _find_selectors(tree.lhs)
    if operator not in {"or", "unless"}:
        yield from _find_selectors(tree.rhs)


def _read_offset(selector: Any) -> float:
    return 0.0 if selector.offset is None else float(selector.offset.total_seconds())

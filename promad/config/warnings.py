"""What is valid in a configuration but probably not meant."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from promad.config.document import Document, NotYamlError, parse_document
from promad.config.promql import find_comment, parse_promql
from promad.config.settings import Config

_FOR_COUNTERS = {
    *("rate", "irate", "increase", "resets", "changes", "delta", "idelta", "deriv"),
    *("absent", "absent_over_time", "count_over_time", "present_over_time", "timestamp"),
}
"""Functions of a counter whose value is not simply rising."""

_FOR_ANY_VALUE = {"count", "group"}
"""Aggregations that do not look at values."""

_COUNTER_SUFFIXES = (
    *("_total", "_bucket"),
    *("_seconds_sum", "_seconds_count", "_bytes_sum", "_bytes_count"),
)
"""Of sums and counts, those of histograms and summaries: many a gauge is a count, too."""
"""How the names of counters end; the last three are those of histograms and summaries."""

IsCounter = Callable[[str], bool]
"""Whether a metric is a counter, by its name."""


def find_lost_text(path: Path) -> Iterator[str]:
    """A line for each query in a file that loses text to a comment.

    YAML joins the lines of a folded or quoted string, so that in PromQL a # hides all that follows.
    """
    try:
        text = path.read_text(encoding="utf-8")
        document = parse_document(text)
    except (OSError, UnicodeDecodeError, NotYamlError):  # a pipe can be read only once
        return
    lines = text.splitlines()
    for place, (first, last) in document.joined.items():
        value = _find_value(document, place)
        if place[:1] != ("queries",) or not isinstance(value, str):
            continue
        comment = find_comment(value)
        for number in range(first, min(last, len(lines)) + 1):
            if _is_cut_off(lines[number - 1].strip(), comment):
                yield (
                    f"{path}:{number}: warning: {'.'.join(map(str, place))}: YAML joins these "
                    "lines, so # hides the rest of the expression — write | in place of >, or move "
                    "the comment above the key"
                )
                break


def _is_cut_off(line: str, comment: str) -> bool:
    """Whether a comment begins in a line and includes more than the rest of it."""
    tails = (line[at:] for at, letter in enumerate(line) if letter == "#")
    return any(comment.startswith(tail) and len(tail) < len(comment) for tail in tails)


def _find_value(document: Document, place: tuple[str | int, ...]) -> Any:
    value: Any = document.values
    for key in place:
        value = value[key]
    return value


def find_raw_counters(config: Config) -> Iterator[str]:
    """A warning for each query that uses a counter as it is: alias, metric and what to do."""
    for alias, expr in config.promql.items():
        for name in list_raw_counters(expr):
            yield f"warning: queries.{alias}: {describe_raw_counter(name)}"


def describe_raw_counter(name: str) -> str:
    """What is wrong with using a counter as it is, and what to do."""
    return f"{name} looks like a counter, which only rises and resets — use rate({name}[…])"


def looks_like_counter(name: str) -> bool:
    """Whether a metric is a counter by the naming conventions of Prometheus.

    >>> looks_like_counter("errors_total"), looks_like_counter("request_seconds_count")
    (True, True)
    >>> looks_like_counter("node_load1"), looks_like_counter("pg_stat_activity_count")
    (False, False)
    """
    return name.endswith(_COUNTER_SUFFIXES)


def list_raw_counters(expr: str, is_counter: IsCounter = looks_like_counter) -> list[str]:
    """The counters whose values an expression uses as they are; none if it is unknown PromQL."""
    try:
        tree = parse_promql(expr)
    except ValueError:
        return []
    return list(dict.fromkeys(_list_raw_counters(tree, is_counter)))


def _list_raw_counters(node: Any, is_counter: IsCounter) -> Iterator[str]:
    """The counters in a part of a syntax tree whose values are used as they are."""
    match type(node).__name__:
        case "VectorSelector":
            if node.name and is_counter(node.name):
                yield node.name
        case "MatrixSelector":
            yield from _list_raw_counters(node.vector_selector, is_counter)
        case "Call":
            if node.func.name not in _FOR_COUNTERS:
                for argument in node.args:
                    yield from _list_raw_counters(argument, is_counter)
        case "AggregateExpr":
            if str(node.op) not in _FOR_ANY_VALUE:
                yield from _list_raw_counters(node.expr, is_counter)
        case "BinaryExpr":
            both = [list(_list_raw_counters(side, is_counter)) for side in (node.lhs, node.rhs)]
            if str(node.op) != "-" or both[0] != both[1]:  # x_total - x_total offset 5m
                yield from [*both[0], *both[1]]
        case "ParenExpr" | "UnaryExpr" | "SubqueryExpr":
            yield from _list_raw_counters(node.expr, is_counter)

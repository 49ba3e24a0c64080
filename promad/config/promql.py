"""PromQL as far as promad can judge it without a server.

The local parser knows one version of one dialect. What it refuses may be valid on the server, so
its refusal is a warning, unless a bracket or a quote is left open, which no dialect allows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import promql_parser

_STRING = r"\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|`[^`]*`"
_OPAQUE = re.compile(rf"{_STRING}|#[^\n]*")
_CLOSING = {")": "(", "]": "[", "}": "{"}
_DEEPEST = 200
_LONGEST = 4000
"""Nested brackets, and characters outside of strings: more can overflow the local parser's stack,
which ends the process."""

_BY_RANGE = re.compile(
    r"@\s*(?:start|end)\s*\(\s*\)"
    r"|\b(?:start|end|range)\s*\(\s*\)"
    r"|\b(?:range_\w+|running_\w+|(?:top|bottom)k_(?:avg|last|max|median|min)|outliers\w*"
    r"|keep_last_value|keep_next_value|interpolate|remove_resets|smooth_exponential)\s*\("
)
"""What has another value at the same time if the requested range is another."""


def parse_promql(expr: str) -> Any:
    """The syntax tree of an expression.

    Raises:
        ValueError: if the local parser does not know it; a server may.
    """
    _check_size(mask_strings(expr))
    return promql_parser.parse(_OPAQUE.sub(_quote_raw_string, expr))


def mask_strings(expr: str) -> str:
    """The expression with "x" for every string and without comments.

    >>> mask_strings("up{job='a(b'} # c")
    'up{job="x"} '
    """
    return _OPAQUE.sub(lambda found: "" if found[0][0] == "#" else '"x"', expr)


def find_comment(expr: str) -> str:
    """The first comment, up to the end of its line; a # in a string begins none.

    >>> find_comment('up{a="#"} # b / c'), find_comment('up{a="#"}')
    ('# b / c', '')
    """
    return next((found[0] for found in _OPAQUE.finditer(expr) if found[0][0] == "#"), "")


def check_promql(expr: str) -> str:
    """The expression, if it can be one of a query.

    Raises:
        ValueError: if it is incomplete, no number per time, or depends on the requested range.
    """
    _check_independence(expr)
    try:
        tree = parse_promql(expr)
    except ValueError as error:
        if _is_complete(mask_strings(expr)):
            return expr
        raise ValueError(f"invalid PromQL: {error} — fix the expression") from None
    _check_type(tree)
    return expr


def find_promql_warnings(exprs: Mapping[str, str]) -> Iterator[str]:
    """A line for each expression (by its key) that the local parser does not know."""
    for key, expr in exprs.items():
        try:
            parse_promql(expr)
        except ValueError as error:
            shown = " ".join(expr.split())
            yield (
                f"{key}: unknown PromQL: {error} ({shown}) — "
                "run promad check-config --online to have the server check it"
            )


def _quote_raw_string(found: re.Match[str]) -> str:
    """A raw string in double quotes, which the local parser reads right; others as they are."""
    text = found[0]
    return json.dumps(text[1:-1], ensure_ascii=False) if text[0] == "`" else text


def _check_size(masked: str) -> None:
    depth = 0
    for letter in masked:
        depth += (letter in "([{") - (letter in ")]}")
        if depth > _DEEPEST:
            raise ValueError(f"more than {_DEEPEST} nested brackets")
    if len(masked) > _LONGEST:
        raise ValueError(f"more than {_LONGEST} characters without strings")


def _is_complete(masked: str) -> bool:
    """Whether there is something, every bracket is closed, and no string is left open."""
    if any(quote in masked.replace('"x"', "") for quote in "\"'`"):
        return False
    expected: list[str] = []
    for letter in masked:
        if letter in "([{":
            expected.append(letter)
        elif letter in _CLOSING and (not expected or expected.pop() != _CLOSING[letter]):
            return False
    return bool(masked.strip()) and not expected


def _check_independence(expr: str) -> None:
    found = _BY_RANGE.search(mask_strings(expr))
    if found:
        raise ValueError(
            f"{found[0].rstrip('( )')}() depends on the requested range, and promad requests a "
            "period in parts — use @ with a unix time, offset, or a function over a fixed range"
        )


def _check_type(tree: Any) -> None:
    while isinstance(tree, promql_parser.ParenExpr):
        tree = tree.expr
    if isinstance(tree, promql_parser.MatrixSelector | promql_parser.SubqueryExpr):
        raise ValueError(
            "invalid PromQL: a range vector has no single value per time — "
            "wrap it in a function such as rate() or avg_over_time()"
        )
    if isinstance(tree, promql_parser.StringLiteral):
        raise ValueError(
            "invalid PromQL: a string is not numeric — write an expression that returns numbers"
        )


def is_vector(expr: str) -> bool:
    """Whether an expression surely has series, and not a number at each time.

    >>> is_vector("sum(up) / 2"), is_vector("time()"), is_vector("up{")
    (True, False, False)
    """
    try:
        return _is_vector(parse_promql(expr))
    except ValueError:
        return False


def _is_vector(node: Any) -> bool:
    match type(node).__name__:
        case "VectorSelector" | "AggregateExpr":
            return True
        case "Call":
            return bool(node.func.return_type == promql_parser.ValueType.Vector)
        case "BinaryExpr":
            return _is_vector(node.lhs) or _is_vector(node.rhs)
        case "ParenExpr" | "UnaryExpr":
            return _is_vector(node.expr)
        case _:
            return False


def find_lookahead(expr: str) -> float:
    """How many seconds an expression looks ahead of its time, by a negative offset.

    >>> find_lookahead("up / up offset -5m"), find_lookahead("rate(up[5m] offset 5m)")
    (300.0, 0.0)
    """
    try:
        return _find_lookahead(parse_promql(expr))
    except ValueError:
        return 0.0


def _find_lookahead(node: Any) -> float:
    """The same for a part of a syntax tree; offsets within one another add up."""
    match type(node).__name__:
        case "VectorSelector":
            return 0.0 if node.at is not None else _read_lookahead(node)
        case "MatrixSelector":
            return _find_lookahead(node.vector_selector)
        case "SubqueryExpr":
            return 0.0 if node.at is not None else _read_lookahead(node, _find_lookahead(node.expr))
        case "Call":
            return max(map(_find_lookahead, node.args), default=0.0)
        case "BinaryExpr":
            return max(_find_lookahead(node.lhs), _find_lookahead(node.rhs))
        case "ParenExpr" | "UnaryExpr" | "AggregateExpr":
            return _find_lookahead(node.expr)
        case _:
            return 0.0


def _read_lookahead(node: Any, inside: float = 0.0) -> float:
    offset = 0.0 if node.offset is None else node.offset.total_seconds()
    return max(0.0, inside - offset)

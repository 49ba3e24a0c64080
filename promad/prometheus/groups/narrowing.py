"""From PromQL for all groups to PromQL for some: a matcher in the selectors that allow it.

A narrowed expression has the same samples as the whole one for every series whose label has one of
the wanted values, and may have others. `narrow_query` goes down from the whole expression as long
as a series of the result rests only on series with the same value of the label; what is below a
place where that is not so stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import promql_parser

from promad.config.promql import parse_promql
from promad.data.groups import escape_label_value

PLACE = "\ue000"
"""Stands for the values in an expression that `narrow_query` returns; of a private use area."""

EVERYTHING = "(?s:.*)"
NOTHING = r"[^\\x00-\\x{10FFFF}]"
"""Regular expressions as they stand in PromQL's quotes, for any value and for none."""

_META = re.compile(r"[\\.+*?()|\[\]{}^$]")
_MODIFIERS = re.compile(r"(?: (?:offset|@) [-\w.()]+)+$")
_DROPPED_PLUS = re.compile(r"\btimestamp\b(?:[\s(]|#.*(?:\n|$))+\+", re.IGNORECASE)
"""The local parser drops the sign, without which `timestamp` is the time of the sample itself."""
_SETS = frozenset({"and", "or", "unless"})
_NOT_BY_SERIES = frozenset({"absent", "absent_over_time", "info", "scalar", "vector"})
"""Functions whose result does not have the labels of the series that it rests on."""
_SETTING_LABELS = frozenset({"label_replace", "label_join"})
_OF_BUCKETS = frozenset({"histogram_quantile", "histogram_fraction"})


def narrow_query(expr: str, label: str) -> str:
    r"""The expression with `label=~"PLACE"` where that is allowed; itself if that is nowhere.

    The result is PromQL, in which `fill_place` puts the values.

    >>> print(narrow_query('a{b="c"} / on () group_left () sum(d)', "i").replace(PLACE, "x|y"))
    a{b="c", i=~"x|y"} / on () group_left () sum(d)
    >>> narrow_query("sum(a)", "i")
    'sum(a)'
    """
    if PLACE in expr or _DROPPED_PLUS.search(expr):
        return expr
    try:
        tree = parse_promql(expr)
        printed = _print(tree, label)
        if PLACE not in printed or not _is_same(printed, label, tree):
            return expr
    except ValueError:
        return expr
    return printed


def fill_place(narrowed: str, regex: str) -> str:
    """The narrowed expression with a regular expression, as it stands in PromQL's quotes."""
    return narrowed.replace(PLACE, regex)


def quote_values(values: Iterable[str]) -> list[str]:
    r"""Each value as a regular expression for it alone, as it stands in PromQL's quotes.

    A backslash before each of RE2's meta characters; servers look such alternatives up as a set.

    >>> print(*quote_values(["a.b:9100", 'say "hi"']))
    a\\.b:9100 say \"hi\"
    """
    return [escape_label_value(_META.sub(r"\\\g<0>", value)) for value in values]


def join_values(values: Sequence[str]) -> str:
    r"""One regular expression for all of these values, as it stands in PromQL's quotes.

    Servers read plain text between bars quickly, and everything else slowly. So what all values
    begin and end with is written once where there is anything else.

    >>> print(join_values(["db-1", "db-2"]), join_values(["db-1.eu:9", "db-2.eu:9"]))
    db-1|db-2 db-(1|2)\\.eu:9
    """
    quoted = quote_values(values)
    if len(values) < 2 or not any(map(_META.search, values)):
        return "|".join(quoted)
    first = _find_beginning(values)
    rests = [value[len(first) :] for value in values]
    last = _find_beginning([rest[::-1] for rest in rests])[::-1]
    if not (first or last):
        return "|".join(quoted)
    inner = quote_values(rest.removesuffix(last) for rest in rests)
    (first, last) = quote_values([first, last])
    return f"{first}({'|'.join(inner)}){last}"


def _find_beginning(values: Sequence[str]) -> str:
    """What all of these begin with: what the first and the last of them in order do."""
    low, high = min(values), max(values)
    pairs = enumerate(zip(low, high, strict=False))
    return low[: next((place for place, (one, other) in pairs if one != other), len(low))]


def _is_same(printed: str, label: str, tree: Any) -> bool:
    """Whether the expression is the former one but for the matchers."""
    matcher = f'{label}=~"{PLACE}"'
    plain = printed.replace(f", {matcher}", "").replace(f"{{{matcher}}}", "")
    return bool(parse_promql(plain).prettify() == tree.prettify())


def _print(node: Any, label: str) -> str:
    """A part of a syntax tree, with the matcher where it is allowed."""
    match type(node).__name__:
        case "VectorSelector":
            return _print_selector(node, label)
        case "MatrixSelector":
            return _print_range(node, label)
        case "SubqueryExpr":
            return _print_subquery(node, label)
        case "ParenExpr":
            return f"({_print(node.expr, label)})"
        case "UnaryExpr":
            return f"-{_print(node.expr, label)}"
        case "Call":
            return _print_call(node, label)
        case "AggregateExpr":
            return _print_aggregation(node, label)
        case "BinaryExpr":
            return _print_operation(node, label)
        case _:
            return str(node.prettify())


def _print_selector(node: Any, label: str) -> str:
    text = str(node.prettify())
    if node.matchers.or_matchers:
        return text
    found = _MODIFIERS.search(text)
    selector, modifiers = (text[: found.start()], found[0]) if found else (text, "")
    matcher = f'{label}=~"{PLACE}"'
    if selector.endswith("}"):
        return f"{selector[:-1]}, {matcher}}}{modifiers}"
    return f"{selector}{{{matcher}}}{modifiers}"


def _print_range(node: Any, label: str) -> str:
    """The range stands between the selector and its modifiers."""
    bare, whole = str(node.vector_selector.prettify()), str(node.prettify())
    found = _MODIFIERS.search(bare)
    selector = bare[: found.start()] if found else bare
    narrowed = _print_selector(node.vector_selector, label)
    modifiers = found[0] if found else ""
    return narrowed.removesuffix(modifiers) + whole.removeprefix(selector)


def _print_subquery(node: Any, label: str) -> str:
    inside, whole = str(node.expr.prettify()), str(node.prettify())
    return _print(node.expr, label) + whole.removeprefix(inside)


def _print_call(node: Any, label: str) -> str:
    name, arguments = node.func.name, list(node.args)
    if (
        name in _NOT_BY_SERIES
        or (name in _SETTING_LABELS and _read_string(arguments[1]) == label)
        or (name in _OF_BUCKETS and label == "le")
    ):
        return str(node.prettify())
    return f"{name}({', '.join(_print(each, label) for each in arguments)})"


def _read_string(node: Any) -> str:
    while type(node).__name__ == "ParenExpr":
        node = node.expr
    return str(getattr(node, "val", ""))


def _print_aggregation(node: Any, label: str) -> str:
    """Only within a value of the label: it must be among the labels that are kept."""
    modifier = node.modifier
    included = modifier is not None and modifier.type == promql_parser.AggModifierType.By
    if modifier is None or (label in modifier.labels) != included:
        return str(node.prettify())
    if str(node.op) == "count_values" and _read_string(node.param) == label:
        return str(node.prettify())
    param = "" if node.param is None else f"{node.param.prettify()}, "
    kind = "by" if included else "without"
    names = ", ".join(modifier.labels)
    return f"{node.op} {kind} ({names}) ({param}{_print(node.expr, label)})"


def _print_operation(node: Any, label: str) -> str:
    modifier, operator = node.modifier, str(node.op)
    left, right = _may_narrow(modifier, operator, label)
    lhs = _print(node.lhs, label) if left else str(node.lhs.prettify())
    rhs = _print(node.rhs, label) if right else str(node.rhs.prettify())
    return f"{lhs} {operator}{_print_matching(modifier)} {rhs}"


def _may_narrow(modifier: Any, operator: str, label: str) -> tuple[bool, bool]:
    """Whether the left and the right side of an operation may have fewer series.

    Where both sides must have the same value of the label, both may. Else the label is that of the
    side that has more series, or of each series by itself, whatever the other side has.
    """
    matching = None if modifier is None else modifier.matching
    cardinality = None if modifier is None else modifier.card
    fill = None if modifier is None else modifier.fill_values
    if fill is not None and (fill.lhs is not None or fill.rhs is not None):
        return False, False
    included = matching is not None and matching.type == promql_parser.LabelModifierType.Include
    if matching is None or (label in matching.labels) == included:
        return True, True
    if operator in _SETS:
        return operator != "or", operator == "or"
    kinds = promql_parser.VectorMatchCardinality
    copied = label in (modifier.group_labels or ())
    if cardinality == kinds.ManyToOne:
        return not copied, copied
    if cardinality == kinds.OneToMany:
        return copied, not copied
    return False, False


def _print_matching(modifier: Any) -> str:
    if modifier is None:
        return ""
    parts = ["", "bool"] if modifier.return_bool else [""]
    kinds = promql_parser.VectorMatchCardinality
    if modifier.matching is not None:
        included = modifier.matching.type == promql_parser.LabelModifierType.Include
        labels = ", ".join(modifier.matching.labels)
        parts.append(f"{'on' if included else 'ignoring'} ({labels})")
    for kind, word in ((kinds.ManyToOne, "group_left"), (kinds.OneToMany, "group_right")):
        if modifier.card == kind:
            parts.append(f"{word} ({', '.join(modifier.group_labels or ())})")
    return " ".join(parts)

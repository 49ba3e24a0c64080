"""Which series a PromQL expression means, for the one form that the simulation answers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import promql_parser
from promql_parser import Call, MatchOp, VectorSelector

SUPPORTED = "the simulation supports a vector selector, alone or in timestamp()"


class BadDataError(ValueError):
    """A request that cannot be answered; its text is the `error` of the answer."""


@dataclass(frozen=True)
class Selection:
    """The series that an expression means, and whether it asks for their times, not values."""

    selector: VectorSelector
    wants_times: bool

    def may_match(self, name: str) -> bool:
        """Whether a series of that name can be meant, with any other labels."""
        return self.selector.name is None or self.selector.name == name

    def matches(self, labels: dict[str, str]) -> bool:
        """Whether the series of these labels, `__name__` among them, is meant."""
        if not self.may_match(labels["__name__"]):
            return False
        matchers = self.selector.matchers
        return any(_all_hold(row, labels) for row in matchers.or_matchers or [matchers.matchers])


def parse_selection(promql: str) -> Selection:
    """What `promql` selects.

    Raises:
        BadDataError: if it is not PromQL, or more than the simulation answers.
    """
    try:
        tree = promql_parser.parse(promql)
    except ValueError as error:
        raise BadDataError(f'invalid parameter "query": parse error: {error}') from None
    wants_times = isinstance(tree, Call) and tree.func.name == "timestamp"
    selector = tree.args[0] if isinstance(tree, Call) and wants_times else tree
    if not isinstance(selector, VectorSelector) or selector.offset or selector.at:
        raise BadDataError(f'invalid parameter "query": {SUPPORTED}, not {promql}')
    _check_expressions(selector)
    return Selection(selector, wants_times)


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

"""Many queries in one request, where the server accepts that.

A request costs far more than what it brings of a query. So the queries that need the same samples
are asked for together. No answer depends on it: what one request does not answer with exactly one
series is asked for by itself, with the errors that it has by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import structlog
from numpy.typing import NDArray

from promad.config.promql import is_vector
from promad.data.frame import points_between
from promad.errors import BusyError, PrometheusError, UnreachableError
from promad.prometheus.client import PrometheusClient
from promad.prometheus.freshness import unite_queries
from promad.prometheus.grid import Span, on_grid
from promad.prometheus.one_series import MOST_PARTS, check_warnings
from promad.prometheus.parsing import Series, Table, parse_table, read_labels

UNION_LABEL = "united_query"
"""The label with the number of a query in its request."""
_MOST_QUERIES = 50
"""In one request: the server compares the series of each `or` with those of all before it."""
_MOST_CHARACTERS = 8192
"""In one request: half of what VictoriaMetrics accepts."""
_CHARACTERS_AROUND = 60
"""At most, of `label_replace` and `or` for each query."""
_TIME_SHARE = 0.5
"""Of the time that a query may take, so that there is some left to ask one by one."""
_FEWEST_POLLS = 8
_MOST_POLLS = 512

log = structlog.get_logger()


@dataclass(frozen=True)
class UnionAnswer:
    """What requests for many queries brought.

    Attributes:
        values: float64 (samples,) over the span of a query, by alias; NaN where it has none.
        lost: the first query of a request that the server did not answer at all, and why; nothing
            else should be asked now.
    """

    values: Mapping[str, NDArray[np.float64]]
    lost: tuple[str, PrometheusError] | None = None


@dataclass(frozen=True, eq=False)
class _Pause:
    """For how many polls the queries of a refused request are asked one by one, and until which."""

    polls: int
    until: int


class UnitedQueries:
    """Asks for the newest samples of many queries (alias → PromQL) at once.

    A query takes part once it was answered by itself, so that no part of a request is invalid, and
    if the local parser knows that it has series: `label_replace` takes no numbers. When a request
    is refused, its queries must be answered by themselves first; if all of them are, the request
    itself is at fault, and they are asked one by one for 8 polls, then for 16, up to 512.
    """

    def __init__(
        self,
        client: PrometheusClient,
        queries: Mapping[str, str],
        step: float,
        *,
        allow_partial: bool,
    ) -> None:
        self._client = client
        self._queries = {alias: expr for alias, expr in queries.items() if is_vector(expr)}
        self._step = step
        self._allow_partial = allow_partial
        self._answered: set[str] = set()
        self._pauses: dict[str, _Pause] = {}
        self._polls = 0

    def note_answer(self, alias: str, has_samples: bool) -> None:
        """A query that was asked by itself was answered."""
        if has_samples and alias in self._queries:
            self._answered.add(alias)
        else:
            self._answered.discard(alias)

    def note_failure(self, alias: str) -> None:
        """A query that was asked by itself failed: it may be why a request for many did."""
        self._answered.discard(alias)
        over = self._pauses.get(alias)
        self._pauses = {each: pause for each, pause in self._pauses.items() if pause is not over}

    def ask(self, spans: Mapping[str, Span]) -> UnionAnswer:
        """The samples of queries, each over its span; those that are left out are to be asked."""
        self._polls += 1
        values: dict[str, NDArray[np.float64]] = {}
        for aliases, span in self._plan(spans) if self._client.may_unite else ():
            try:
                values |= self._ask_once(aliases, span)
            except PrometheusError as error:
                self._pause(aliases, error)
                if isinstance(error, UnreachableError | BusyError):
                    return UnionAnswer(values, (aliases[0], error))
            else:
                for alias in aliases:
                    self._pauses.pop(alias, None)
        return UnionAnswer(values)

    def _plan(self, spans: Mapping[str, Span]) -> Iterator[tuple[list[str], Span]]:
        """The aliases of each request, two at least, and its span."""
        by_span: dict[Span, list[str]] = {}
        for alias, span in spans.items():
            pause = self._pauses.get(alias)
            if alias in self._answered and (pause is None or pause.until < self._polls):
                by_span.setdefault(span, []).append(alias)
        for span, aliases in by_span.items():
            points = points_between(span.start, span.end, self._step)
            most = min(_MOST_QUERIES, self._client.max_points // points)
            for part in self._cut(aliases, most):
                if len(part) > 1:
                    yield part, span

    def _cut(self, aliases: Sequence[str], most: int) -> Iterator[list[str]]:
        """The aliases in parts that are neither too many nor too long."""
        part: list[str] = []
        characters = 0
        for alias in aliases:
            length = len(self._queries[alias]) + _CHARACTERS_AROUND
            if part and (len(part) >= most or characters + length > _MOST_CHARACTERS):
                yield part
                part, characters = [], 0
            part.append(alias)
            characters += length
        yield part

    def _ask_once(self, aliases: Sequence[str], span: Span) -> dict[str, NDArray[np.float64]]:
        # A line break ends a comment at the end of an expression.
        exprs = [f"\n{self._queries[alias]}\n" for alias in aliases]
        subject, most = self._queries[aliases[0]], len(aliases) + MOST_PARTS
        text = unite_queries(exprs, UNION_LABEL)
        body = self._client.ask_range(text, span, self._step, subject, most, time_share=_TIME_SHARE)
        try:
            answer = parse_table(body, most)
            numbers = [_read_number(metric, len(aliases)) for metric in answer.table.metrics]
        except ValueError as error:
            raise self._client.bad_answer(subject, str(error)) from None
        check_warnings(subject, answer.warnings, self._allow_partial)
        columns = self._place(answer.table, numbers, span)
        if not columns:
            raise self._client.bad_answer(subject, "one series of none of the queries")
        return {aliases[number]: column for number, column in columns.items()}

    def _place(
        self, table: Table, numbers: Sequence[int], span: Span
    ) -> dict[int, NDArray[np.float64]]:
        """The samples of queries with exactly one series at times of the span, by number."""
        columns = {}
        ends = np.cumsum(table.counts).tolist()
        for number, start, end in zip(numbers, [0, *ends], ends, strict=False):
            if numbers.count(number) == 1:
                series = Series((), table.times[start:end], table.values[start:end])
                try:
                    columns[number] = on_grid(series, span, self._step)
                except ValueError:
                    continue
        return columns

    def _pause(self, aliases: Sequence[str], error: PrometheusError) -> None:
        before = max(
            (self._pauses[each].polls for each in aliases if each in self._pauses), default=0
        )
        polls = min(max(2 * before, _FEWEST_POLLS), _MOST_POLLS)
        self._pauses |= dict.fromkeys(aliases, _Pause(polls, self._polls + polls))
        self._answered.difference_update(aliases)
        log.info(
            "request for several queries refused; asking one by one",
            queries=len(aliases),
            err=error.fault,
        )


def _read_number(metric: bytes, queries: int) -> int:
    """The number of the query that a series is of.

    Raises:
        ValueError: if there is no such query.
    """
    text = dict(read_labels(metric)).get(UNION_LABEL, "")
    if not text.isdecimal() or int(text) >= queries:
        raise ValueError("a series that was not asked for")
    return int(text)

"""The samples of one expression for all groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from promad.errors import PrometheusError
from promad.prometheus.client import PrometheusClient
from promad.prometheus.grid import Span, requests_for
from promad.prometheus.groups.narrowing import PLACE
from promad.prometheus.groups.options import PollOptions
from promad.prometheus.groups.rows import GroupRows, spread_samples
from promad.prometheus.groups.shard_queries import ShardQueries
from promad.prometheus.one_series import check_warnings
from promad.prometheus.parsing import TableAnswer

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]

_REFUSALS = frozenset({"bad_data", "execution", "bad_request", "bad_answer", "not_found"})
"""Reasons of a server that may accept a shorter request for the same."""


@dataclass(frozen=True)
class Column:
    """One query's samples of a poll, from sample `first` of the buffer on.

    `values` and `overlaps` are (rows, samples); there may be more groups than rows by now.
    """

    first: int
    values: Values
    overlaps: Flags | None


class ColumnReader:
    """Asks for expressions; groups that are new get a row."""

    def __init__(
        self,
        client: PrometheusClient,
        options: PollOptions,
        rows: GroupRows,
        shard: ShardQueries | None = None,
    ) -> None:
        self._client = client
        self._options = options
        self._rows = rows
        self._shard = shard

    @property
    def label(self) -> str:
        """The label by which expressions are narrowed to a shard; empty if they are not."""
        return "" if self._shard is None else self._shard.label

    def narrow(self, expr: str) -> str:
        """The expression with a place for the groups of the shard, as far as it has one."""
        return expr if self._shard is None else self._shard.narrow(expr)

    def read(self, expr: str, shown: str, first: int, start: float) -> Column:
        """The samples of an expression by row, from sample `first` on.

        Args:
            expr: what `narrow` returned.
            shown: what errors name in place of it.
            start: unix seconds of sample 0.

        Raises:
            PrometheusError: if it fails, or the server warned and that is not accepted.
        """
        if self._shard is None:
            return self._read_texts([expr], expr, shown, first, start)
        texts = self._shard.fill(expr, shown)
        try:
            return self._read_texts(texts, expr, shown, first, start)
        except PrometheusError as error:
            whole = self._shard.widen(expr)
            if texts == [whole] or error.reason not in _REFUSALS:
                raise
            column = self._read_texts([whole], whole, shown, first, start)
            self._shard.note_refusal(shown, error)
            return column

    def _read_texts(
        self, texts: Sequence[str], expr: str, shown: str, first: int, start: float
    ) -> Column:
        """The samples of an expression that is asked for in parts, of groups and of time."""
        options, client, step = self._options, self._client, self._options.step
        span = Span(start + first * step, start + (options.samples - 1) * step)
        try:
            answers = [
                (answer, self._rows.find(answer.table.metrics, f"{number} {expr}", span.end))
                for number, text in enumerate(texts)
                for answer in self._ask(text, shown, span)
            ]
            groups = len(self._rows.groups)
            parts = [spread_samples(each.table, own, groups, span, step) for each, own in answers]
        except ValueError as error:
            raise client.bad_answer(shown, str(error)) from None
        if self._shard is not None and PLACE not in expr:
            own = sum(int(np.count_nonzero(rows >= 0)) for _, rows in answers)
            self._shard.note_whole(shown, sum(len(rows) for _, rows in answers), own)
        if len(parts) == 1:
            return Column(first, parts[0].values, parts[0].overlaps)
        values = np.full((groups, options.samples - first), np.nan)
        overlaps = np.zeros(values.shape, np.bool_)
        for part in parts:
            known = ~np.isnan(part.values)
            overlaps |= known & ~np.isnan(
                values
            )  # of parts of the groups; those of time share none
            overlaps |= False if part.overlaps is None else part.overlaps
            np.copyto(values, part.values, where=known)
        values[overlaps] = np.nan
        return Column(first, values, overlaps if overlaps.any() else None)

    def _ask(self, text: str, shown: str, span: Span) -> list[TableAnswer]:
        """The answers to one text, of each part of the time."""
        options, client, most = self._options, self._client, self._options.most_series
        bodies = [
            body
            for part in requests_for([span], options.step, client.max_points)
            for body in client.range_bodies(
                text, part.start, part.end, options.step, subject=shown, most_series=most
            )
        ]
        answers = client.read_tables(bodies, shown, most)
        for answer in answers:
            check_warnings(shown, answer.warnings, options.allow_partial)
        return answers

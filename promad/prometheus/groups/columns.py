"""The samples of one expression for all groups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from promad.prometheus.client import PrometheusClient
from promad.prometheus.grid import Span, requests_for
from promad.prometheus.groups.options import PollOptions
from promad.prometheus.groups.rows import GroupRows, spread_samples
from promad.prometheus.one_series import check_warnings

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]


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

    def __init__(self, client: PrometheusClient, options: PollOptions, rows: GroupRows) -> None:
        self._client = client
        self._options = options
        self._rows = rows

    def read(self, expr: str, shown: str, first: int, start: float) -> Column:
        """The samples of an expression by row, from sample `first` on.

        Args:
            shown: what errors name in place of the expression.
            start: unix seconds of sample 0.

        Raises:
            PrometheusError: if it fails, or the server warned and that is not accepted.
        """
        options, client, most = self._options, self._client, self._options.most_series
        step = options.step
        span = Span(start + first * step, start + (options.samples - 1) * step)
        bodies = [
            body
            for part in requests_for([span], step, client.max_points)
            for body in client.range_bodies(
                expr, part.start, part.end, step, subject=shown, most_series=most
            )
        ]
        answers = client.read_tables(bodies, shown, most)
        try:
            for answer in answers:
                check_warnings(shown, answer.warnings, options.allow_partial)
            rows = [self._rows.find(each.table.metrics, expr, span.end) for each in answers]
            groups = len(self._rows.groups)
            parts = [
                spread_samples(answer.table, own, groups, span, step)
                for answer, own in zip(answers, rows, strict=True)
            ]
        except ValueError as error:
            raise client.bad_answer(shown, str(error)) from None
        if len(parts) == 1:
            return Column(first, parts[0].values, parts[0].overlaps)
        values = np.full((groups, options.samples - first), np.nan)
        overlaps = np.zeros(values.shape, np.bool_)
        for part in parts:  # parts of the time, so they share no sample
            np.copyto(values, part.values, where=~np.isnan(part.values))
            overlaps |= False if part.overlaps is None else part.overlaps
        return Column(first, values, overlaps if overlaps.any() else None)

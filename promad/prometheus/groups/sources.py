"""Where the samples of a poll of groups come from: queries, or what was received."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from promad.errors import BusyError, PrometheusError, UnreachableError
from promad.prometheus.client import PrometheusClient
from promad.prometheus.groups.ages import GroupAges
from promad.prometheus.groups.columns import Column, ColumnReader
from promad.prometheus.groups.options import PollOptions
from promad.prometheus.groups.rows import GroupRows
from promad.prometheus.groups.shard_queries import ShardQueries
from promad.prometheus.one_series import add_alias, build_not_asked_error

SETTLING_SECONDS = 60.0
"""For how long a sample may still change."""


class Columns(NamedTuple):
    """Why queries have no column, and the columns of the others, by alias."""

    failures: dict[str, PrometheusError]
    columns: dict[str, Column]


class ColumnSource(Protocol):
    """What yields the newest samples of all queries."""

    @property
    def clock_offset(self) -> float | None:
        """Seconds that the server's clock is ahead of ours; None if unknown."""
        ...

    def read(
        self, start: float, last_value: Mapping[str, float], held: NDArray[np.float64]
    ) -> Columns:
        """What is new of each query.

        Args:
            start: unix seconds of sample 0.
            last_value: unix seconds of the newest value of each query, as far as it has one.
            held: what is known, float64 (rows, samples, queries).
        """
        ...

    def note_missing(self) -> None:
        """Groups that had samples have no new ones."""
        ...


class QueriedColumns:
    """Asks each query for what is not known yet, and for the last minute again."""

    def __init__(self, client: PrometheusClient, options: PollOptions, rows: GroupRows) -> None:
        self._client = client
        self._options = options
        shard = options.grouping.shard
        self._shard = None if shard is None else ShardQueries(client, options, shard)
        self._reader = ColumnReader(client, options, rows, self._shard)
        self._ages = GroupAges(self._reader, options)
        self._refused_alias: str | None = None

    @property
    def clock_offset(self) -> float | None:
        """Seconds that the server's clock is ahead of ours; None if unknown."""
        return self._client.clock_offset

    def read(
        self, start: float, last_value: Mapping[str, float], held: NDArray[np.float64]
    ) -> Columns:
        """Each query's answer, or why there is none; then what is too old is taken out."""
        if self._shard is not None:
            self._shard.refresh(start + (self._options.samples - 1) * self._options.step)
        failures: dict[str, PrometheusError] = {}
        columns: dict[str, Column] = {}
        lost: PrometheusError | None = None
        queries = self._options.queries
        for alias in sorted(queries, key=lambda alias: alias == self._refused_alias):
            if lost is not None and self._refused_alias is not None:
                failures[alias] = build_not_asked_error(alias, self._refused_alias, lost)
                continue
            try:
                columns[alias] = self._ask(alias, start, last_value)
            except PrometheusError as error:
                failures[alias] = add_alias(alias, error)
                if isinstance(error, UnreachableError | BusyError):
                    lost, self._refused_alias = error, alias
        return Columns(failures | self._ages.drop_old(start, columns), columns)

    def _ask(self, alias: str, start: float, last_value: Mapping[str, float]) -> Column:
        options = self._options
        settling = ceil(SETTLING_SECONDS / options.step)
        known = last_value.get(alias, start - options.step)
        first = max(0, round((known - start) / options.step) + 1 - settling)
        expr = options.queries[alias]
        return self._reader.read(self._reader.narrow(expr), expr, first, start)

    def note_missing(self) -> None:
        """Let a shard look soon for the groups there are."""
        if self._shard is not None:
            self._shard.note_missing()

"""Which values of a poll rest on samples that are too old: one question for all queries."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import structlog
from numpy.typing import NDArray

from promad.errors import PrometheusError
from promad.prometheus.groups.columns import Column, ColumnReader
from promad.prometheus.groups.freshness import build_stale_query, list_labels
from promad.prometheus.groups.options import PollOptions
from promad.prometheus.one_series import add_alias

Flags = NDArray[np.bool_]

_REFUSALS = frozenset({"bad_data", "execution"})

log = structlog.get_logger()


class GroupAges:
    """Takes out what a server merely repeats; see `promad.prometheus.groups.freshness`."""

    def __init__(self, reader: ColumnReader, options: PollOptions) -> None:
        self._reader = reader
        self._options = options
        rules = options.grouping.rules
        self._labels = list_labels(
            options.grouping.by, (name for rule in rules for name in rule.source_labels)
        )
        self._stale = self._build(options.queries)
        self._built_for = ""
        self._has_ages = self._stale is not None
        self._knows_ages = False
        self._ageless: set[str] = set()

    def _build(self, queries: Mapping[str, str]) -> str | None:
        """The question for these queries, as far as it has one for the groups of a shard."""
        narrowed = {alias: self._reader.narrow(expr) for alias, expr in queries.items()}
        return build_stale_query(narrowed, self._labels, self._options.stale_after)

    def drop_old(self, start: float, columns: dict[str, Column]) -> dict[str, PrometheusError]:
        """Make values missing that rest on samples older than `stale_after`.

        Returns:
            Why that is not known of some queries, whose columns are removed.
        """
        if not (self._has_ages and columns):
            return {}
        if self._stale is not None and self._built_for != self._reader.label:
            self._stale, self._built_for = self._build(self._options.queries), self._reader.label
        first = min(column.first for column in columns.values())
        shown = "age of the samples of all queries"
        try:
            if (
                self._stale is not None
                and not self._find_old(self._stale, shown, first, start).any()
            ):
                return {}
        except PrometheusError as error:
            if error.reason not in _REFUSALS:
                failures = {alias: add_alias(alias, error) for alias in columns}
                columns.clear()
                return failures
            if not self._knows_ages:
                self._stale = None
        return self._drop_old_by_query(start, columns)

    def _drop_old_by_query(
        self, start: float, columns: dict[str, Column]
    ) -> dict[str, PrometheusError]:
        failures: dict[str, PrometheusError] = {}
        refused: dict[str, PrometheusError] = {}
        for alias in list(columns):
            try:
                self._drop_old_of(alias, columns[alias], start)
            except PrometheusError as error:
                if error.reason in _REFUSALS and not self._knows_ages:
                    refused[alias] = error
                    continue
                failures[alias] = add_alias(alias, error)
                del columns[alias]
        if refused:  # no one wrote the question, and no one could fix it
            self._ageless.update(refused)
            alias, first = next(iter(refused.items()))
            log.warning(
                "age of samples not checked", queries=len(refused), first=alias, err=str(first)
            )
            self._has_ages = not self._ageless >= self._options.queries.keys()
        return failures

    def _drop_old_of(self, alias: str, column: Column, start: float) -> None:
        """The same for one query; a server that refused the question at first is not asked again.

        Raises:
            PrometheusError: if the age is not known.
        """
        expr = self._options.queries[alias]
        query = self._build({alias: expr})
        if query is None or alias in self._ageless:
            return
        old = self._find_old(query, f"age of the samples of {expr}", column.first, start)
        rows = min(len(old), len(column.values))
        column.values[:rows][old[:rows]] = np.nan

    def _find_old(self, query: str, shown: str, first: int, start: float) -> Flags:
        """Where the samples are too old: bool (rows, samples from `first` on)."""
        stale = self._reader.read(query, shown, first, start).values
        self._knows_ages = True
        return ~np.isnan(stale)

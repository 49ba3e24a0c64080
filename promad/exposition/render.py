"""`FleetRenderer`: the metrics of a detector of many groups, rendered once per tick.

    GroupColumns, IncidentColumns ─► a Segment of lines for each metric ─► every scraper

Every line is the one that `prometheus_client` would write. The work is done on arrays; the labels
are written once for each group.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from promad.data.groups import Labels
from promad.events.verdict import FEATURE_COLUMNS, LARGEST_COLUMNS, STATES, State
from promad.exposition import names
from promad.exposition.columns import GroupColumns, IncidentColumns
from promad.exposition.feature_choice import choose_features
from promad.exposition.fleet_labels import FleetLabels, GroupLists
from promad.exposition.incident_lines import write_incidents
from promad.exposition.names import MetricSpec
from promad.exposition.segments import Segment
from promad.exposition.text import write_lines

Values = NDArray[np.float64]
Numbers = NDArray[np.generic]

_ANOMALOUS = STATES.index(State.ANOMALOUS)


def _divide(columns: GroupColumns) -> Values:
    """Score over threshold."""
    with np.errstate(all="ignore"):
        return columns.score / columns.threshold


def _where_scored(columns: GroupColumns, values: Numbers) -> Values:
    """These values for groups with a score, NaN for the others."""
    return np.where(np.isnan(columns.score), np.nan, values)


def _find_threshold_mse(columns: GroupColumns) -> Values:
    threshold = columns.threshold if columns.plain else np.full(len(columns.labels), np.nan)
    return _where_scored(columns, threshold)


def _flag(columns: GroupColumns) -> Values:
    """1 while an event is open, 0 while none is; NaN without a score, and while it is muted."""
    is_open = columns.state == _ANOMALOUS
    flags = _where_scored(columns, is_open)
    return flags if columns.muted is None else np.where(is_open & columns.muted, np.nan, flags)


_GROUP_VALUES: Mapping[MetricSpec, Callable[[GroupColumns], Numbers]] = {
    names.RECONSTRUCTION_ERROR: lambda columns: columns.mse,
    names.IS_ANOMALY: _flag,
    names.MUTED: lambda columns: (
        np.full(len(columns.labels), np.nan) if columns.muted is None else columns.muted
    ),
    names.SCORE: _divide,
    names.THRESHOLD: lambda columns: columns.threshold,
    names.THRESHOLD_MSE: _find_threshold_mse,
    names.KNOWN_FEATURES: lambda columns: columns.known_share,
    names.ANOMALOUS_SINCE: lambda columns: columns.anomalous_since,
    names.LAST_SCORED: lambda columns: columns.last_scored_at,
    names.WINDOW_SAMPLES: lambda columns: columns.samples_in_window,
    names.EVENTS: lambda columns: columns.events_begun,
}

_FEATURE_COLUMN: Mapping[MetricSpec, int] = {
    spec: FEATURE_COLUMNS.index(name)
    for spec, name in (
        (names.FEATURE_ERROR, "error"),
        (names.FEATURE_CONTRIBUTION, "contribution"),
        (names.FEATURE_ELEVATION, "elevation"),
        (names.FEATURE_DEVIATING_SINCE, "since"),
        (names.FEATURE_OBSERVED, "observed"),
        (names.FEATURE_EXPECTED, "expected"),
    )
}

_LARGEST_COLUMN: Mapping[MetricSpec, int] = {
    spec: LARGEST_COLUMNS.index(name)
    for spec, name in (
        (names.FEATURE_LARGEST_AT, "at"),
        (names.FEATURE_LARGEST_OBSERVED, "observed"),
        (names.FEATURE_LARGEST_EXPECTED, "expected"),
        (names.FEATURE_LARGEST_ELEVATION, "elevation"),
    )
}


@dataclass(frozen=True)
class Rendered:
    """The metrics of one detector after a tick: lines, without HELP and TYPE, by metric."""

    families: Mapping[MetricSpec, Segment]

    @property
    def is_compressed(self) -> bool:
        """Whether a scraper has read it compressed."""
        return all(segment.is_compressed for segment in self.families.values())

    def compress(self) -> None:
        """Compress it before a scraper asks."""
        for segment in self.families.values():
            segment.deflated  # noqa: B018 - computed here, kept in the segment


class FleetRenderer:
    """Renders the ticks of one detector; what stays the same from tick to tick is kept.

    Any thread may call `render`.
    """

    def __init__(self, detector: str, metrics_prefix: str, max_feature_series: int) -> None:
        self._prefix = metrics_prefix
        self._max_feature_series = max_feature_series
        self._labels = FleetLabels(detector)
        self._shown: frozenset[Labels] = frozenset()
        self._lock = threading.Lock()

    def render(self, columns: GroupColumns, incidents: IncidentColumns) -> Rendered:
        """The metrics of all groups and incidents."""
        with self._lock:
            texts = self._labels.list_groups(columns.labels, incidents.scope)
            lines = {
                **self._write_groups(columns, texts),
                **self._write_features(columns),
                **write_incidents(columns, incidents, self._labels, texts, self._prefix),
                **self._write_counts(columns, incidents),
            }
        return Rendered({spec: Segment(text) for spec, text in lines.items()})

    def _write_groups(self, columns: GroupColumns, texts: GroupLists) -> dict[MetricSpec, bytes]:
        lines = {
            spec: self._write(spec, texts.plain, find(columns))
            for spec, find in _GROUP_VALUES.items()
        }
        places = np.arange(len(STATES), dtype=np.uint8)
        in_state = (columns.state[:, np.newaxis] == places).ravel()
        pooled = columns.pooled.tolist()
        info = [pair[mark] for pair, mark in zip(texts.calibrations, pooled, strict=True)]
        lines[names.STATE] = self._write(names.STATE, texts.states, in_state)
        lines[names.GROUP_INFO] = self._write(names.GROUP_INFO, info, np.ones(len(info)))
        return lines

    def _write_features(self, columns: GroupColumns) -> dict[MetricSpec, bytes]:
        """The metrics of single features, as many as `max_feature_series` allows."""
        shown = np.array([labels in self._shown for labels in columns.labels], np.bool_)
        choice = choose_features(columns, self._max_feature_series, shown)
        groups = [columns.labels[row] for row in choice.rows.tolist()]
        self._shown = frozenset(groups)
        texts = self._labels.list_features(groups, columns.feature_names)
        left_out = np.array([choice.left_out])
        return {
            **{
                spec: self._write(spec, texts, choice.features[:, :, column].ravel())
                for spec, column in _FEATURE_COLUMN.items()
            },
            **{
                spec: self._write(spec, texts, choice.largest[:, :, column].ravel())
                for spec, column in _LARGEST_COLUMN.items()
            },
            names.FEATURE_SERIES_LEFT_OUT: self._write(
                names.FEATURE_SERIES_LEFT_OUT, [self._labels.write(())], left_out
            ),
        }

    def _write_counts(
        self, columns: GroupColumns, incidents: IncidentColumns
    ) -> dict[MetricSpec, bytes]:
        counts = np.bincount(columns.state, minlength=len(STATES))
        states = self._labels.write_variants((), "state", STATES)
        refused = np.array([incidents.groups_refused])
        return {
            names.GROUPS: self._write(names.GROUPS, states, counts),
            names.GROUPS_REFUSED: self._write(
                names.GROUPS_REFUSED, [self._labels.write(())], refused
            ),
        }

    def _write(
        self, spec: MetricSpec, labels: Sequence[bytes], values: NDArray[np.generic]
    ) -> bytes:
        return write_lines(spec.full_name(self._prefix), labels, values.astype(np.float64))

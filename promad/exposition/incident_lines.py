"""Metrics about the open incidents of a detector, scope by scope."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import NamedTuple

import numpy as np

from promad.data.groups import Labels
from promad.events.incidents import Incident
from promad.exposition import names
from promad.exposition.columns import GroupColumns, IncidentColumns
from promad.exposition.fleet_labels import FleetLabels, GroupLists
from promad.exposition.names import INCIDENT_METRICS, MetricSpec
from promad.exposition.text import write_lines


class _Series(NamedTuple):
    """One series; a value of NaN is not exposed."""

    spec: MetricSpec
    labels: bytes
    value: float


@dataclass(frozen=True)
class _Scope:
    """The groups of one scope.

    Attributes:
        labels: those that tell it from others.
        groups: how many are watched.
        scored: whether one of them has a score: without, nothing is known of incidents.
        open: the open incidents that are not muted, oldest first.
        begun: how many have begun.
        muted: how many open ones are muted; None without `mute`.
    """

    labels: Labels
    groups: int
    scored: bool
    open: Sequence[Incident]
    begun: int
    muted: int | None = None

    @property
    def open_groups(self) -> int:
        """How many groups have an open event in an open incident."""
        return sum(incident.open_groups for incident in self.open)


def write_incidents(
    columns: GroupColumns,
    incidents: IncidentColumns,
    labels: FleetLabels,
    texts: GroupLists,
    metrics_prefix: str,
) -> dict[MetricSpec, bytes]:
    """The lines of every metric about incidents."""
    found: dict[MetricSpec, list[_Series]] = {spec: [] for spec in INCIDENT_METRICS}
    for scope in _survey(columns, incidents, texts):
        for series in _list_series(scope, labels):
            found[series.spec].append(series)
    return {
        spec: write_lines(
            spec.full_name(metrics_prefix),
            [each.labels for each in series],
            np.array([each.value for each in series], np.float64),
        )
        for spec, series in found.items()
    }


def _survey(
    columns: GroupColumns, incidents: IncidentColumns, texts: GroupLists
) -> Iterator[_Scope]:
    """Every scope that is watched."""
    count, begun = len(texts.scopes), incidents.begun or {}
    groups = np.bincount(texts.scope_of, minlength=count).tolist()
    scored = np.bincount(texts.scope_of, ~np.isnan(columns.score), minlength=count).tolist()
    by_scope: dict[Labels, list[Incident]] = {}
    muted: Counter[Labels] = Counter()
    for incident in incidents.open:
        if incidents.is_muted(incident):
            muted[incident.scope] += 1
        else:
            by_scope.setdefault(incident.scope, []).append(incident)
    for place, scope in enumerate(texts.scopes):
        yield _Scope(
            scope,
            groups[place],
            bool(scored[place]),
            by_scope.get(scope, []),
            begun.get(scope, 0),
            None if incidents.muted_groups is None else muted[scope],
        )


def _list_series(scope: _Scope, labels: FleetLabels) -> Iterator[_Series]:
    """The series of one scope."""
    own = labels.write(scope.labels)
    yield _Series(names.INCIDENTS, own, scope.begun)
    yield _Series(names.INCIDENT_OPEN, own, len(scope.open) if scope.scored else nan)
    muted = nan if scope.muted is None else scope.muted
    yield _Series(names.INCIDENT_MUTED, own, muted if scope.scored else nan)
    if not (scope.open and scope.scored):
        return
    largest = max(scope.open, key=lambda incident: (incident.open_groups, -incident.start))
    yield _Series(names.INCIDENT_GROUPS, own, scope.open_groups)
    yield _Series(names.INCIDENT_GROUPS_SHARE, own, scope.open_groups / scope.groups)
    yield _Series(names.INCIDENT_SINCE, own, largest.start)
    yield _Series(names.INCIDENT_FIRST_GROUP, labels.write(largest.first.labels), 1)
    if largest.common_labels:
        common = labels.write((*largest.common_labels, *scope.labels))
        yield _Series(names.INCIDENT_COMMON_LABELS, common, 1)
    for name, share in _share_deviation(scope.open).items():
        text = labels.write(scope.labels, feature_name=name)
        yield _Series(names.INCIDENT_FEATURE_SHARE, text, share)


def _share_deviation(incidents: Sequence[Incident]) -> Mapping[str, float]:
    """By feature its share of the deviation, largest first; members count by their peaks."""
    weights = [sum(each.peak_ratio for each in incident.members) for incident in incidents]
    shares: dict[str, float] = {}
    for incident, weight in zip(incidents, weights, strict=True):
        for feature in incident.leading_features:
            share = feature.contribution * weight / (sum(weights) or 1.0)
            shares[feature.name] = shares.get(feature.name, 0.0) + share
    positive = ((name, share) for name, share in shares.items() if share > 0)
    return dict(sorted(positive, key=lambda item: (-item[1], item[0])))

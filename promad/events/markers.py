"""Markers: when a version was deployed, by the change of a query's series.

The version of a series is its labels beside those of the groups, such as `version` in
`max by (version) (app_build_info)`, while its value is not zero; a series without other labels has
its value as its version. A version that was not among the newest known ones of the same groups is
a marker. The first version of all is none: nobody knows when it was deployed.

Of several versions at once, one that is away for a short while is still known: its exporter
restarts. One that another takes the place of, at the same sample, is known no longer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import NamedTuple

from promad.config.durations import format_duration
from promad.data.groups import Grouping, Labels

AWAY_SECONDS = 300.0
"""For how long a version that is away is still known."""

Versions = Mapping[Labels, frozenset[str]]
"""The versions that there are, by those labels of groups that they are about; () for all groups."""


@dataclass(frozen=True)
class Marker:
    """A version that was deployed.

    Attributes:
        name: of the entry of `markers`.
        version: as text.
        at: unix seconds of the first sample at which it was seen.
        labels: of the groups that it is about; () for all.
    """

    name: str
    version: str
    at: float
    labels: Labels = ()

    @property
    def id(self) -> str:
        """Twelve letters and digits, the same whenever the same marker is found again."""
        what = f"marker\n{self.name}\n{self.version}\n{self.labels}\n{self.at:.3f}"
        return hashlib.sha256(what.encode()).hexdigest()[:12]

    @property
    def title(self) -> str:
        """Name and version."""
        return f"{self.name} {self.version}"

    def is_about(self, group: Labels) -> bool:
        """Whether it is about a group with these labels."""
        return set(self.labels) <= set(group)


class MarkerRule(NamedTuple):
    """Which markers an event names.

    Attributes:
        within: by the name of a marker, how many seconds before the event it may be.
        tolerance: by how many seconds the event may begin before it is seen.
    """

    within: Mapping[str, float]
    tolerance: float

    @property
    def longest(self) -> float:
        """The longest time before an event."""
        return max(self.within.values(), default=0.0)


class MarkerBook:
    """Which versions are known; `follow` and `resume` alone change it."""

    def __init__(self) -> None:
        self._known: dict[str, dict[Labels, frozenset[str]]] = {}
        self._away_since: dict[tuple[str, Labels, str], float] = {}

    def resume(self, known: Mapping[str, Versions]) -> None:
        """Continue from the versions that were known before, by the name of the marker."""
        self._known = {name: dict(versions) for name, versions in known.items()}

    def find_known(self, name: str, groups: Iterable[Labels]) -> Versions:
        """The versions that are known of some groups."""
        known = self._known.get(name, {})
        return {labels: known[labels] for labels in groups if labels in known}

    def follow(self, name: str, at: float, versions: Versions) -> tuple[list[Marker], Versions]:
        """Enter the versions that there are at a time, in unix seconds.

        Groups without any keep those that they had: an exporter that restarts is no deployment.

        Returns:
            What is marked, and the versions of those groups where they changed.
        """
        known = self._known.setdefault(name, {})
        there = {
            labels: now | self._find_away(name, at, labels, now)
            for labels, now in versions.items()
            if now
        }
        changed = {labels: now for labels, now in there.items() if known.get(labels) != now}
        markers = [
            Marker(name, version, at, labels)
            for labels, now in changed.items()
            if labels in known
            for version in sorted(now - known[labels])
        ]
        known.update(changed)
        return markers, changed

    def _find_away(
        self, name: str, at: float, labels: Labels, now: frozenset[str]
    ) -> frozenset[str]:
        """The versions of some groups that are away, but were there shortly before."""
        before = self._known[name].get(labels, frozenset())
        for version in now & before:
            self._away_since.pop((name, labels, version), None)
        is_replaced = bool(now - before)
        away = set()
        for version in before - now:
            place = name, labels, version
            since = self._away_since.setdefault(place, at)
            if at - since < AWAY_SECONDS and not (is_replaced and since == at):
                away.add(version)
            else:
                del self._away_since[place]
        return frozenset(away)


def read_version(series: Labels, value: float, grouping: Grouping) -> tuple[Labels, str] | None:
    """Which groups a series is about, and their version; None if it has none.

    >>> read_version((("version", "1.4.2"),), 1.0, Grouping())
    ((), '1.4.2')
    >>> read_version((("instance", "a"),), 17.0, Grouping(("instance",)))
    ((('instance', 'a'),), '17')
    """
    own = grouping.find_part(series)
    if own is None or isnan(value):
        return None
    names = {name for name, _ in own} | {"__name__"}
    others = [(name, text) for name, text in series if name not in names]
    if not others:
        return own, f"{value:.15g}"
    if value == 0:
        return None
    if len(others) == 1:
        return own, others[0][1]
    return own, ", ".join(f"{name}={text}" for name, text in others)


def collect_versions(
    series: Iterable[tuple[Labels, float]], grouping: Grouping
) -> dict[Labels, frozenset[str]]:
    """The versions of series, each its labels and its value."""
    found: dict[Labels, set[str]] = {}
    for labels, value in series:
        read = read_version(labels, value, grouping)
        if read is not None:
            found.setdefault(read[0], set()).add(read[1])
    return {labels: frozenset(versions) for labels, versions in found.items()}


def find_marker(
    markers: Sequence[Marker], group: Labels, start: float, rule: MarkerRule
) -> Marker | None:
    """The newest marker of a group before an event that begins at `start`; None if none is near."""
    near = (
        marker
        for marker in markers
        if marker.at - rule.tolerance <= start <= marker.at + rule.within.get(marker.name, 0.0)
        and marker.is_about(group)
    )
    return max(near, key=lambda marker: (marker.at, marker.title), default=None)


class MarkerIndex:
    """Markers, to be found by the labels of the groups that they are about."""

    def __init__(self, markers: Iterable[Marker] = ()) -> None:
        self._found: dict[tuple[str, ...], dict[tuple[str, ...], list[Marker]]] = {}
        for marker in markers:
            names, values = _split_labels(marker.labels)
            self._found.setdefault(names, {}).setdefault(values, []).append(marker)

    def find(self, group: Labels, start: float, rule: MarkerRule) -> Marker | None:
        """As `find_marker`."""
        own = dict(group)
        near = [
            marker
            for names, found in self._found.items()
            if own.keys() >= set(names)
            for marker in found.get(tuple(own[name] for name in names), ())
        ]
        return find_marker(near, group, start, rule)


def _split_labels(labels: Labels) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return tuple(name for name, _ in labels), tuple(value for _, value in labels)


def describe_marker(marker: Marker, start: float) -> str:
    """When an event began, as a sentence.

    >>> describe_marker(Marker("api", "1.4.2", 0.0), 120.0)
    'Began 2m after api 1.4.2.'
    """
    delay = round(start - marker.at)
    if delay <= 0:
        return f"Began together with {marker.title}."
    return f"Began {format_duration(delay)} after {marker.title}."

"""The queries of `mute` and `markers`, as `check-config` and `doctor` ask them online."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from promad.config import Config
from promad.config.marker_settings import MarkerSettings
from promad.config.mute_settings import Mute
from promad.data.groups import THE_ONLY_GROUP, Grouping, Labels
from promad.errors import PrometheusError, UnreachableError
from promad.events.mutes import Mutes
from promad.prometheus.client import PrometheusClient
from promad.prometheus.marks import find_filters
from promad.prometheus.mute_queries import ask_muting
from promad.prometheus.one_series import flatten_text, format_labels
from promad.prometheus.version_queries import ask_versions


@dataclass(frozen=True)
class SideCheck:
    """What such a query returns now.

    Attributes:
        key: of the configuration, such as `mute.0`.
        found: what it returned, in words; empty if it has a problem.
        problem: what is wrong and what to do, without the key; empty if nothing is.
    """

    key: str
    found: str = ""
    problem: str = ""


def inspect_side_queries(
    client: PrometheusClient,
    config: Config,
    at: float,
    groups: Sequence[Labels] = (THE_ONLY_GROUP,),
) -> list[SideCheck]:
    """A check of each at a time, in unix seconds.

    A query that fails is a finding, not an error. Once the server is found unreachable it is not
    asked about the remaining ones.

    Args:
        groups: that are monitored.
    """
    asked = _Asked(client, Grouping.of(config), at, groups)
    checks: list[SideCheck] = []
    lost = ""
    for key, entry in _list_entries(config):
        try:
            checks.append(SideCheck(key, problem=lost) if lost else asked.inspect(key, entry))
        except PrometheusError as error:
            checks.append(SideCheck(key, problem=str(error)))
            lost = f"not asked after {key} failed" if isinstance(error, UnreachableError) else ""
    return checks


def _list_entries(config: Config) -> Iterator[tuple[str, Mute | MarkerSettings]]:
    """The entries with a query, by their keys."""
    yield from (
        (f"mute.{number}", entry)
        for number, entry in enumerate(config.mute)
        if entry.query is not None
    )
    yield from ((f"markers.{marker.name}", marker) for marker in config.markers)


class _Asked(NamedTuple):
    """What asks, and what the answers are about."""

    client: PrometheusClient
    grouping: Grouping
    at: float
    groups: Sequence[Labels]

    def inspect(self, key: str, entry: Mute | MarkerSettings) -> SideCheck:
        """A check of the query of an entry.

        Raises:
            PrometheusError: if the query fails.
        """
        query, (client, grouping, at, groups) = entry.query or "", self
        if isinstance(entry, Mute):
            muting = ask_muting(client, query, at, grouping, filters=find_filters(query))
            return SideCheck(key, _describe_muting(entry, query, muting, groups))
        found = ask_versions(client, query, at, grouping)
        return _describe_versions(key, query, frozenset().union(*found.values()))


def _describe_muting(
    entry: Mute, query: str, muting: Sequence[Labels], groups: Sequence[Labels]
) -> str:
    """How many groups a query mutes, and if it is none although series mute, why."""
    mutes = Mutes([entry], groups)
    mutes.answer(query, muting)
    muted = int(mutes.find(0.0).flags.sum())
    if muting and not muted:
        return f"mutes nothing now: no group of the entry has {format_labels(muting[0])}"
    if not muted:
        return "mutes nothing now"
    return "mutes now" if len(groups) == 1 else f"mutes {muted} of {len(groups)} groups now"


def _describe_versions(key: str, query: str, versions: frozenset[str]) -> SideCheck:
    if not versions:
        problem = (
            f"{flatten_text(query)}: no version now — check the metric's name and labels, and that "
            "it is scraped"
        )
        return SideCheck(key, problem=problem)
    first = min(versions)
    if len(versions) == 1:
        return SideCheck(key, f"1 version now: {first}")
    return SideCheck(key, f"{len(versions)} versions now, such as {first}")

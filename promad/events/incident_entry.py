"""An incident as the incident book keeps it, and which features deviate in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from promad.data.groups import Labels
from promad.events.events import AnomalyEvent
from promad.events.incidents import (
    Incident,
    Member,
    incident_from_json,
    member_from_json,
    sort_members,
)
from promad.events.verdict import FeatureView

SIMILAR = 0.5
"""The share of the contributions to an event that those to an incident have in common, at least."""
DIFFERENT = 0.2
"""The same share of a stranger, at most."""
SEVERAL = 3
"""Groups in which the same features deviate, before others are strange to the incident."""


@dataclass
class Mix:
    """Which features deviate in an incident; follows its members one by one, at no cost of all.

    Attributes:
        weights: by feature its contributions to the members' peaks, weighted by the peaks.
        total: the sum of the peaks.
        members: how many there were.
        alike: the sum, over them, of what each had in common with those before it.
    """

    weights: dict[str, float] = field(default_factory=dict)
    total: float = 0.0
    members: int = 0
    alike: float = 0.0

    def add(self, member: Member) -> None:
        """Enter a member that is new."""
        self.alike += self.share_in_common(member.features) if self.members else 1.0
        self.members += 1
        self._weigh(member, 1.0)

    def replace(self, before: Member, after: Member) -> None:
        """Enter what became of a member."""
        if before.features is not after.features:
            self._weigh(before, -1.0)
            self._weigh(after, 1.0)

    def share_in_common(self, features: Iterable[FeatureView]) -> float:
        """The share of the features' contributions that the incident has too, 0 to 1."""
        total = self.total or 1.0
        return sum(
            min(view.contribution, self.weights.get(view.name, 0.0) / total) for view in features
        )

    def has_stranger(self, event: AnomalyEvent) -> bool:
        """Whether the same features deviate in several groups of the incident, but not here."""
        return (
            self.members >= SEVERAL
            and self.alike >= SIMILAR * self.members
            and self.share_in_common(event.peak.features) <= DIFFERENT
        )

    def _weigh(self, member: Member, sign: float) -> None:
        self.total += sign * member.peak_ratio
        for view in member.features:
            share = sign * member.peak_ratio * view.contribution
            self.weights[view.name] = self.weights.get(view.name, 0.0) + share


@dataclass(eq=False)
class Entry:
    """An incident that is open, or that may be continued; for its attributes see `Incident`.

    Attributes:
        open: the groups whose events are open.
        joined: the newest onset of an event that joined or continued it by time alone.
        closed_at: unix seconds of the sample at which it was found to be over; None while open.
        seen: the incident as it was last looked at; None if it has changed since.
    """

    scope: Labels
    start: float
    newest_onset: float
    joined: float
    members: dict[str, Member] = field(default_factory=dict)
    mix: Mix = field(default_factory=Mix)
    open: set[str] = field(default_factory=set)
    closed_at: float | None = None
    groups_watched: int = 0
    common_labels: Labels = ()
    seen: Incident | None = None

    @property
    def place(self) -> tuple[float, Labels]:
        """Where it is in a list of all."""
        return self.start, self.scope

    def enter(self, event: AnomalyEvent) -> None:
        """Enter an event of a group, or what became of it."""
        before = self.members.get(event.group)
        member = Member.begin(event) if before is None else before.follow(event)
        self.members[event.group] = member
        if before is None:
            self.mix.add(member)
        else:
            self.mix.replace(before, member)

    def absorb(self, other: Entry) -> None:
        """Enter the members of another part of the same incident, whose events are open."""
        for group, member in other.members.items():
            if group not in self.members:
                self.mix.add(member)
            self.members[group] = member
        self.open |= other.open
        self.newest_onset = max(self.newest_onset, other.newest_onset)
        self.joined = max(self.joined, other.joined)
        self.closed_at, self.seen = None, None

    def admits(self, onset: float, join_within: float) -> bool:
        """Whether an event with this onset began together with its groups."""
        return self.start - join_within <= onset <= self.joined + join_within

    def begins_with(self, onset: float, join_within: float) -> bool:
        """Whether an event with this onset began together with the first of its groups."""
        return abs(onset - self.start) <= join_within

    def survey(self, groups: int, shared: frozenset[tuple[str, str]]) -> None:
        """Compare the members with all groups of the scope: how many, and the labels they share."""
        self.groups_watched = max(groups, len(self.members))
        if len(self.members) > 1:
            labels = (frozenset(member.labels) for member in self.members.values())
            self.common_labels = tuple(sorted(frozenset.intersection(*labels) - shared))

    def view(self, detector: str, features: int) -> Incident:
        """The incident as it is now, of a detector that scores so many features."""
        if self.seen is None:
            members = sort_members(self.members.values())
            self.seen = Incident(
                detector=detector,
                scope=self.scope,
                start=self.start,
                end=None if self.open else max(each.end or each.onset for each in members),
                members=members,
                newest_onset=self.newest_onset,
                groups_watched=self.groups_watched,
                features_watched=features,
                common_labels=self.common_labels,
            )
        return self.seen


def read_entry(content: Mapping[str, Any]) -> Entry:
    """The entry of an incident in the saved state.

    Raises:
        KeyError, TypeError, ValueError: if `content` is no such description.
    """
    members = [member_from_json(each) for each in content["members"]]
    rest = {key: value for key, value in content.items() if key != "members"}
    incident = incident_from_json(rest, members)
    closed = [member.closed_at for member in members if member.closed_at is not None]
    mix = Mix()
    for member in incident.members:
        mix.add(member)
    return Entry(
        mix=mix,
        scope=incident.scope,
        start=incident.start,
        newest_onset=incident.newest_onset,
        joined=incident.newest_onset,
        members={member.group: member for member in incident.members},
        open={member.group for member in members if member.end is None},
        closed_at=None if incident.end is None else max(closed),
        groups_watched=incident.groups_watched,
        common_labels=incident.common_labels,
    )

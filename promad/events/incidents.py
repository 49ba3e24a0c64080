"""`Incident`: events that began together; `promad.events.incident_book` has the rule."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

from promad.data.groups import Labels, name_group
from promad.events.events import AnomalyEvent, read_labels
from promad.events.verdict import FeatureView, view_from_json


class LeadingFeature(NamedTuple):
    """One feature of an incident.

    Attributes:
        contribution: its contributions to the members' peaks, weighted by the peaks; 0 to 1.
        groups: how many members it deviates in.
    """

    name: str
    contribution: float
    groups: int


@dataclass(frozen=True)
class Member:
    """One group of an incident. Times are unix seconds.

    Attributes:
        group: its name.
        labels: its label values.
        onset: start of its first event in the incident.
        flagged_at: the sample that made that an event.
        end: last sample above the threshold of its newest event; None while that is open.
        closed_at: the sample at which that was found to be over; None while it is open.
        event: id of its newest event.
        events: how many of its events are part of the incident.
        peak_ratio: the largest score over threshold of all of them.
        peak_at: when that was.
        known_share: the share of the scored features that the peak rests on.
        features: those that deviated at the peak, largest contribution first.
        muted: by which entry of `mute` the group was muted at `flagged_at`; None if by none.
        unmuted_at: unix seconds from which alerts could fire all the same, as the group was no
            longer muted or another of its events began; None if it has been muted throughout.
    """

    group: str
    labels: Labels
    onset: float
    flagged_at: float
    end: float | None
    closed_at: float | None
    event: str
    events: int
    peak_ratio: float
    peak_at: float
    known_share: float | None
    features: tuple[FeatureView, ...]
    muted: str | None = None
    unmuted_at: float | None = None

    @staticmethod
    def begin(event: AnomalyEvent) -> Member:
        """The member that its first event makes of a group."""
        return Member(
            group=event.group,
            labels=event.labels,
            onset=event.start,
            flagged_at=event.flagged_at,
            end=None,
            closed_at=None,
            event=event.id,
            events=1,
            muted=event.muted,
            unmuted_at=event.unmuted_at,
            **_view_peak(event),
        )

    def follow(self, event: AnomalyEvent) -> Member:
        """The member after its event grew, or after another event of the group began."""
        is_same = event.id == self.event and event.peak_at == self.peak_at
        peak = _view_peak(event) if event.peak_ratio > self.peak_ratio or is_same else {}
        if self.alerts_from is None and event.alerts_from is not None:
            peak["unmuted_at"] = event.alerts_from
        if event.id == self.event:
            return replace(self, **peak) if peak else self
        return replace(
            self, end=None, closed_at=None, event=event.id, events=self.events + 1, **peak
        )

    @property
    def alerts_from(self) -> float | None:
        """Unix seconds from which alerts may fire; None if the group has been muted throughout."""
        return self.flagged_at if self.muted is None else self.unmuted_at

    @property
    def top_features(self) -> tuple[FeatureView, ...]:
        """The three features with the largest contribution to the peak, largest first."""
        return self.features[:3]


def _view_peak(event: AnomalyEvent) -> dict[str, Any]:
    """What a member keeps of the peak of an event."""
    peak = event.peak
    deviating = [view for view in peak.features if view.contribution > 0 or view.elevation > 1]
    return {
        "peak_ratio": event.peak_ratio,
        "peak_at": peak.at,
        "known_share": peak.known_share,
        "features": tuple(sorted(deviating, key=lambda view: -view.contribution)),
    }


@dataclass(frozen=True)
class Incident:
    """Events of one detector that began together, open while `end` is None.

    Attributes:
        detector: its name.
        scope: the values of the labels in `incidents.scope`.
        start: unix seconds of the start of the event that began it.
        end: unix seconds of the last sample above the threshold in any group, once it is over.
        members: its groups, earliest onset first, of equal ones the larger peak.
        newest_onset: unix seconds of the onset of the newest group, or of the event that last
            continued the incident after it was over.
        groups_watched: groups of the scope that were watched when the newest group joined.
        features_watched: the scored features.
        common_labels: what all members have in common, but not all watched groups of the scope.
    """

    detector: str
    scope: Labels
    start: float
    end: float | None
    members: tuple[Member, ...]
    newest_onset: float
    groups_watched: int
    features_watched: int
    common_labels: Labels = ()

    @cached_property
    def id(self) -> str:
        """Twelve letters and digits, the same whenever the same incident is found again."""
        what = f"incident\n{name_group(self.detector, self.scope)}\n{self.start:.3f}"
        return hashlib.sha256(what.encode()).hexdigest()[:12]

    @property
    def flagged_at(self) -> float:
        """Unix seconds of the sample at which it was found."""
        return min(member.flagged_at for member in self.members)

    @cached_property
    def alerts_from(self) -> float | None:
        """Unix seconds from which alerts may fire; None if all groups were muted throughout."""
        times = (member.alerts_from for member in self.members)
        return min((at for at in times if at is not None), default=None)

    @property
    def muted(self) -> str | None:
        """By which entry of `mute` it was muted when it was found; None if by none."""
        is_muted = self.alerts_from is None or self.alerts_from > self.flagged_at
        titles = (member.muted for member in self.members if member.muted is not None)
        return next(titles, None) if is_muted else None

    @property
    def unmuted_at(self) -> float | None:
        """Unix seconds from which it was muted no longer; None if it was not, or always is."""
        return None if self.muted is None else self.alerts_from

    @property
    def groups(self) -> int:
        """How many groups are part of it."""
        return len(self.members)

    @cached_property
    def open_groups(self) -> int:
        """How many of them have an open event."""
        return sum(member.end is None for member in self.members)

    @property
    def spread(self) -> float:
        """The share of the watched groups that are part of it, 0 to 1."""
        return self.groups / self.groups_watched

    @property
    def first(self) -> Member:
        """The group with the earliest onset."""
        return self.members[0]

    @cached_property
    def peak(self) -> Member:
        """The group with the largest score over threshold."""
        return max(self.members, key=lambda member: member.peak_ratio)

    @property
    def feature_share(self) -> float:
        """The share of the scored features that deviate in any member, 0 to 1."""
        deviating = sum(feature.groups > 0 for feature in self.leading_features)
        return deviating / self.features_watched

    @cached_property
    def leading_features(self) -> tuple[LeadingFeature, ...]:
        """The features that deviate in any member, largest contribution first."""
        contributions: dict[str, float] = {}
        groups: Counter[str] = Counter()
        for member in self.members:
            for view in member.features:
                share = member.peak_ratio * view.contribution
                contributions[view.name] = contributions.get(view.name, 0.0) + share
                groups[view.name] += view.elevation > 1
        total = sum(member.peak_ratio for member in self.members) or 1.0
        leading = [
            LeadingFeature(name, contribution / total, groups[name])
            for name, contribution in contributions.items()
        ]
        return tuple(sorted(leading, key=lambda each: (-each.contribution, each.name)))


_VIEW = ("name", "error", "contribution", "observed", "expected", "elevation", "since", "largest")
"""The order of a feature's values in JSON; the last is not kept by earlier versions."""


def member_to_json(member: Member) -> dict[str, Any]:
    """Plain values, from which `member_from_json` makes the same member."""
    features = [[getattr(view, name) for name in _VIEW] for view in member.features]
    return {**vars(member), "labels": dict(member.labels), "features": features}


def member_from_json(content: Mapping[str, Any]) -> Member:
    """The member that `member_to_json` described.

    Raises:
        KeyError, TypeError, ValueError: if `content` is no member.
    """
    features = tuple(
        view_from_json(dict(zip(_VIEW[: max(len(view), len(_VIEW) - 1)], view, strict=True)))
        for view in content["features"]
    )
    return Member(**{**content, "labels": read_labels(content["labels"]), "features": features})


_PLAIN = ("detector", "start", "end", "newest_onset", "groups_watched", "features_watched")
"""What JSON has as it is."""


def incident_to_json(incident: Incident) -> dict[str, Any]:
    """Plain values of all but the members."""
    return {
        **{name: getattr(incident, name) for name in _PLAIN},
        "scope": dict(incident.scope),
        "common_labels": dict(incident.common_labels),
    }


def incident_from_json(content: Mapping[str, Any], members: Iterable[Member]) -> Incident:
    """The incident that `incident_to_json` described, with its members.

    Raises:
        KeyError, TypeError, ValueError: if `content` is no incident, or there are no members.
    """
    scope, common = read_labels(content["scope"]), read_labels(content["common_labels"])
    ordered = sort_members(members)
    if not ordered:
        raise ValueError("an incident without members")
    return Incident(**{**content, "scope": scope, "common_labels": common, "members": ordered})


def sort_members(members: Iterable[Member]) -> tuple[Member, ...]:
    """Earliest onset first, of equal ones the larger peak."""
    return tuple(sorted(members, key=lambda each: (each.onset, -each.peak_ratio, each.group)))

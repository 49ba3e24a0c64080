"""`IncidentBook`: which events of many groups are one incident, sample by sample.

An event joins the open incident of its scope whose newest group began at most `join_within` before;
of several, the one with the nearest onset. An incident is over with its last event. An event that
begins at most `reenter_within` after that was found continues it: the same incident is open again.
An event of a group that left an incident which others keep open continues that one in the same way.
Scores are smoothed, so that groups which one cause affects at once may be found minutes apart, and
again once it is removed. So an event joins or continues an incident in which the same features
deviate first of all, and has longer to: `join_similar_within`, or `return_within` if its group was
in the incident; if others still keep it open, less has to be alike. That lets no stranger in:
`join_within` counts from the newest group that joined by its onset alone, and from the start of the
incident if that has several groups in which the same features deviate, and the event others. An
event that fits none begins an incident of its own.

Work is done for events that change, never for all groups.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any, NamedTuple

from promad.config.settings import IncidentSettings
from promad.data.groups import Labels
from promad.events.events import AnomalyEvent
from promad.events.incident_entry import DIFFERENT, SIMILAR, Entry, read_entry
from promad.events.incidents import Incident, Member, incident_to_json, member_to_json

_LATE_SECONDS = 3600.0
"""How long after its first sample an event may be found, if the group was blind in between."""


@dataclass(frozen=True)
class IncidentRules:
    """What makes events one incident; see `promad.config.IncidentSettings`.

    Attributes:
        detector: its name.
        features: how many features are scored.
        join_within, reenter_within: seconds.
        scope: label names.
        join_similar_within, return_within: seconds.
    """

    detector: str
    features: int
    join_within: float = 120.0
    reenter_within: float = 120.0
    scope: tuple[str, ...] = ()
    join_similar_within: float = 0.0
    return_within: float = 0.0

    @staticmethod
    def of(settings: IncidentSettings, detector: str, features: int, step: float) -> IncidentRules:
        """The rules in a configuration, for samples that are `step` seconds apart."""
        return IncidentRules(
            detector,
            features,
            settings.join_seconds(step),
            settings.reenter_within,
            settings.scope,
            settings.join_similar_within,
            settings.return_within,
        )

    def find_scope(self, labels: Labels) -> Labels:
        """The scope of a group with these labels."""
        return tuple(label for label in labels if label[0] in self.scope) if self.scope else ()

    def may_continue(self, closed_at: float, onset: float) -> bool:
        """Whether an event with this onset continues what was found to be over at `closed_at`."""
        return self.reenter_within > 0 and onset <= closed_at + self.reenter_within


class Watched(NamedTuple):
    """The groups of one scope that are watched: how many, and the labels that all of them have."""

    groups: int
    shared: frozenset[tuple[str, str]] = frozenset()


def survey_groups(groups: Iterable[Labels], rules: IncidentRules) -> dict[Labels, Watched]:
    """What is watched, by scope. It changes only when groups come or go."""
    found: dict[Labels, Watched] = {}
    for labels in groups:
        scope, own = rules.find_scope(labels), frozenset(labels)
        others = found.get(scope, Watched(0, own))
        found[scope] = Watched(others.groups + 1, others.shared & own)
    return found


class IncidentChanges(NamedTuple):
    """What happened to incidents at one sample, oldest first.

    Attributes:
        began: new ones; one that is over at once is in `ended` too.
        changed: others that grew, lost a group, or are continued.
        ended: those that are over.
    """

    began: tuple[Incident, ...] = ()
    changed: tuple[Incident, ...] = ()
    ended: tuple[Incident, ...] = ()

    @property
    def incidents(self) -> tuple[Incident, ...]:
        """Each of them once."""
        return tuple({each.id: each for part in self for each in part}.values())


@dataclass
class _Update:
    """What one update did: entries it changed, by whether they were open, and those it began."""

    at: float
    was_open: dict[Entry, bool] = field(default_factory=dict)
    began: set[Entry] = field(default_factory=set)
    joined: set[Entry] = field(default_factory=set)

    def touch(self, entry: Entry) -> None:
        """Note that an entry is about to change."""
        self.was_open.setdefault(entry, bool(entry.open))
        entry.seen = None

    def summarise(self, rules: IncidentRules) -> IncidentChanges:
        """What happened to each entry."""
        entries = sorted(self.was_open, key=lambda entry: entry.place)
        ended = [
            entry
            for entry in entries
            if not entry.open and (self.was_open[entry] or entry in self.began)
        ]
        began = [entry for entry in entries if entry in self.began]
        rest = [entry for entry in entries if entry not in self.began and entry not in ended]

        def view(part: Sequence[Entry]) -> tuple[Incident, ...]:
            return tuple(entry.view(rules.detector, rules.features) for entry in part)

        return IncidentChanges(view(began), view(rest), view(ended))


class IncidentBook:
    """The incidents of one detector; `update`, `drop` and `resume` alone change it."""

    def __init__(self, rules: IncidentRules) -> None:
        self.rules = rules
        self._entries: dict[Labels, list[Entry]] = {}
        self._newest: dict[str, Entry] = {}  # by group, the incident of its newest event

    @property
    def open_incidents(self) -> tuple[Incident, ...]:
        """Those that are open, oldest first."""
        return tuple(self._view(entry) for entry in self._list_entries() if entry.open)

    @property
    def open_groups(self) -> frozenset[str]:
        """The groups whose events are open here."""
        return frozenset(group for entry in self._list_entries() for group in entry.open)

    def _view(self, entry: Entry) -> Incident:
        return entry.view(self.rules.detector, self.rules.features)

    def _list_entries(self) -> list[Entry]:
        entries = (entry for scope in self._entries.values() for entry in scope)
        return sorted(entries, key=lambda entry: entry.place)

    def update(
        self,
        at: float,
        began: Sequence[AnomalyEvent] = (),
        grew: Sequence[AnomalyEvent] = (),
        ended: Sequence[AnomalyEvent] = (),
        watched: Mapping[Labels, Watched] | None = None,
    ) -> IncidentChanges:
        """Enter the events that began, reached a higher peak, or ended with one sample.

        Their order makes no difference. An event that is not in the book begins, and one with an
        end ends, wherever it is listed.

        Args:
            at: unix seconds of the sample.
            watched: as `survey_groups` returns it.
        """
        self._forget(at)
        update = _Update(at)
        events = {event.id: event for event in (*began, *grew, *ended)}
        new = [event for event in events.values() if not self._follow(event, update)]
        for event in sorted(new, key=lambda each: (each.start, -each.peak_ratio, each.group)):
            self._place(event, update)
        for entry in update.joined:
            entry.survey(*(watched or {}).get(entry.scope, Watched(0)))
        return update.summarise(self.rules)

    def drop(self, at: float, group: str) -> IncidentChanges:
        """End the event of a group that vanished, if it is open, at its peak: no later is known."""
        update = _Update(at)
        self._leave(group, update)
        return update.summarise(self.rules)

    def _forget(self, at: float) -> None:
        """Remove incidents that nothing can continue any more."""
        rules = self.rules
        longest = max(rules.reenter_within, rules.join_similar_within, rules.return_within)
        latest = at - longest - _LATE_SECONDS
        gone = [
            entry
            for entries in self._entries.values()
            for entry in entries
            if entry.closed_at is not None and entry.closed_at < latest
        ]
        for entry in gone:
            self._entries[entry.scope].remove(entry)
            if not self._entries[entry.scope]:
                del self._entries[entry.scope]
            for group in entry.members:
                if self._newest.get(group) is entry:
                    del self._newest[group]

    def _follow(self, event: AnomalyEvent, update: _Update) -> bool:
        """Enter what became of an event that is in the book; False if it is not."""
        entry = self._newest.get(event.group)
        if entry is None or entry.members[event.group].event != event.id:
            return False
        update.touch(entry)
        entry.enter(event)
        self._close(entry, event.group, event.end, update)
        return True

    def _place(self, event: AnomalyEvent, update: _Update) -> None:
        """Let an event continue, join or begin an incident."""
        group = event.group
        self._leave(group, update)
        left, similar = self._find_left(event), self._find_similar(event)
        entry = left or similar or self._find_by_time(event) or self._begin_entry(event, update)
        update.touch(entry)
        member = entry.members.get(group)
        if member is None or not entry.open:
            entry.newest_onset = max(entry.newest_onset, event.start)
            by_time = entry is left or similar is None
            entry.joined = max(entry.joined, event.start) if by_time else entry.joined
            update.joined.add(entry)
        entry.enter(event)
        entry.open.add(group)
        entry.closed_at = None
        self._newest[group] = entry
        self._close(entry, group, event.end, update)

    def _begin_entry(self, event: AnomalyEvent, update: _Update) -> Entry:
        """A new incident."""
        scope = self.rules.find_scope(event.labels)
        entry = Entry(scope, event.start, event.start, event.start)
        self._entries.setdefault(entry.scope, []).append(entry)
        update.began.add(entry)
        return entry

    def _find_left(self, event: AnomalyEvent) -> Entry | None:
        """The incident that the group has just left; None if there is none."""
        own = self._newest.get(event.group)
        left_at = None if own is None else own.members[event.group].closed_at
        may = left_at is not None and self.rules.may_continue(left_at, event.start)
        return own if may else None

    def _find_similar(self, event: AnomalyEvent) -> Entry | None:
        """The incident in which the same features deviate, and which is not over for long."""
        return _find_nearest(
            (
                entry
                for entry in self._list_scope(event)
                if entry.start - self.rules.join_within
                <= event.start
                <= self._wait_until(entry, event)
                and entry.mix.share_in_common(event.peak.features) >= _require_share(entry, event)
            ),
            event.start,
        )

    def _wait_until(self, entry: Entry, event: AnomalyEvent) -> float:
        """The latest onset of an event that joins for its features; in unix seconds."""
        rules = self.rules
        longest = rules.return_within if event.group in entry.members else 0.0
        newest = max(entry.newest_onset, entry.closed_at or 0.0)
        longest = max(longest, rules.join_similar_within)
        return newest + longest if longest else -inf

    def _find_by_time(self, event: AnomalyEvent) -> Entry | None:
        """The incident that an event may join by its onset alone."""
        onset, rules = event.start, self.rules
        together, over = [], []
        for entry in self._list_scope(event):
            strange = rules.join_similar_within > 0 and entry.mix.has_stranger(event)
            admitted = (entry.begins_with if strange else entry.admits)(onset, rules.join_within)
            if entry.closed_at is None:
                if admitted:
                    together.append(entry)
            elif admitted or (not strange and rules.may_continue(entry.closed_at, onset)):
                over.append(entry)
        return _find_nearest(together or over, onset)

    def _list_scope(self, event: AnomalyEvent) -> list[Entry]:
        return self._entries.get(self.rules.find_scope(event.labels), [])

    def _leave(self, group: str, update: _Update) -> None:
        """End a group's event where it was last seen, if it is open."""
        entry = self._newest.get(group)
        if entry is not None:
            self._close(entry, group, entry.members[group].peak_at, update)

    def _close(self, entry: Entry, group: str, end: float | None, update: _Update) -> None:
        """End a group's event, if it is open and has an end."""
        if end is None or group not in entry.open:
            return
        update.touch(entry)
        entry.members[group] = replace(entry.members[group], end=end, closed_at=update.at)
        entry.open.remove(group)
        if not entry.open:
            entry.closed_at = update.at

    def to_json(self) -> dict[str, Any]:
        """Plain values, from which `resume` continues as if nothing was between."""
        incidents = [self._view(entry) for entry in self._list_entries()]
        return {
            "incidents": [
                {
                    **incident_to_json(incident),
                    "members": [member_to_json(member) for member in incident.members],
                }
                for incident in incidents
            ]
        }

    def resume(self, content: Mapping[str, Any]) -> None:
        """Continue from what `to_json` described.

        Raises:
            KeyError, TypeError, ValueError: if `content` is no such description; nothing has
                changed then.
        """
        entries = read_incidents(content)
        self._entries, self._newest = {}, {}
        for entry in entries:
            self._entries.setdefault(entry.scope, []).append(entry)
            self._note_newest(entry)

    def take_up(self, content: Mapping[str, Any], groups: Collection[str]) -> None:
        """Continue the open events of these groups in incidents that another book described.

        An incident whose groups are in several books has one id in all of them.

        Args:
            content: as `to_json` described it.
            groups: those whose events are open, if they are not in this book.
        """
        wanted = set(groups) - self.open_groups
        for each in content["incidents"]:
            kept = [one for one in each["members"] if one["group"] in wanted and one["end"] is None]
            if kept:
                self._merge(read_entry({**each, "end": None, "members": kept}))

    def _merge(self, entry: Entry) -> None:
        """Enter an incident, or its members if the incident is there."""
        entries = self._entries.setdefault(entry.scope, [])
        own = next((each for each in entries if each.start == entry.start), None)
        if own is None:
            entries.append(entry)
        else:
            own.absorb(entry)
        self._note_newest(own or entry)

    def _note_newest(self, entry: Entry) -> None:
        for group, member in entry.members.items():
            other = self._newest.get(group)
            if other is None or _sort_key(member) > _sort_key(other.members[group]):
                self._newest[group] = entry


def read_incidents(content: Mapping[str, Any]) -> list[Entry]:
    """The incidents that `IncidentBook.to_json` described.

    Raises:
        KeyError, TypeError, ValueError: if `content` is no such description.
    """
    return [read_entry(each) for each in content["incidents"]]


def _require_share(entry: Entry, event: AnomalyEvent) -> float:
    """The share of features in common with which an event belongs to an incident, at least.

    A group that others in the incident outlast has the same cause, unless other features deviate.
    """
    is_back = entry.closed_at is None and event.group in entry.members
    return DIFFERENT if is_back else SIMILAR


def _find_nearest(entries: Iterable[Entry], onset: float) -> Entry | None:
    """The entry whose newest onset is nearest; None if there is no entry."""
    return min(
        entries, key=lambda entry: (abs(onset - entry.newest_onset), entry.start), default=None
    )


def _sort_key(member: Member) -> tuple[bool, float, float]:
    """Which of a group's memberships is the newest."""
    return member.end is None, member.closed_at or 0.0, member.onset

"""Incidents beside known faults: what was found, told apart and named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from promad.clock import WEEK_SECONDS
from promad.events.events import AnomalyEvent
from promad.events.incidents import Incident, Member
from promad.simulation.fleet import Fault

AFTERMATH_SECONDS = 900.0
"""After its end a fault is still in the moving average, and what it piled up is worked off."""


@dataclass(frozen=True)
class Told:
    """How faults were told. Counts, but for `delays` in seconds.

    Attributes:
        faults, found: single and multi together, and of these `multi` and `multi_found` alone.
        as_one: multi-host faults that are exactly one incident, of which they are the only fault.
        near, apart: pairs of faults found of which one began while the other lasted, and those
            that no incident mixes.
        false_incidents: those that hold no host with a fault at the time.
        named_host: faults found of which a host is among the first three by onset.
        named_first: of which the host affected first is.
        by_chance: what `named_first` would be in expectation, were the order of members chance.
        named_feature: of which a feature of the cause is among the leading three.
    """

    faults: int
    found: int
    multi: int
    multi_found: int
    as_one: int
    near: int
    apart: int
    incidents: int
    false_incidents: int
    weeks: float
    named_host: int
    named_first: int
    by_chance: float
    named_feature: int
    delays: tuple[float, ...]
    missed: tuple[str, ...]

    def figures(self) -> dict[str, float]:
        """The shares and rates that the page shows."""
        return {
            "found": self.found / self.faults,
            "found_single": _share(self.found - self.multi_found, self.faults - self.multi),
            "found_multi": _share(self.multi_found, self.multi),
            "false_per_week": self.false_incidents / self.weeks,
            "incidents": self.incidents,
            "as_one": _share(self.as_one, self.multi_found),
            "apart": _share(self.apart, self.near),
            "near": self.near,
            "host_in_three": _share(self.named_host, self.found),
            "first_in_three": _share(self.named_first, self.found),
            "first_by_chance": self.by_chance / max(self.found, 1),
            "feature_in_three": _share(self.named_feature, self.found),
            "delay_median_seconds": median(self.delays) if self.delays else float("nan"),
        }


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def compare_incidents(
    incidents: Sequence[Incident],
    faults: Sequence[Fault],
    weeks: float,
    causes: Mapping[str, Sequence[str]] | None = None,
) -> Told:
    """What the incidents say about the faults.

    Args:
        causes: the features of a fault in place of its own.
    """
    of_fault = {fault: [each for each in incidents if shows(each, fault)] for fault in faults}
    found = [fault for fault in faults if of_fault[fault]]
    multi = [fault for fault in faults if len(fault.hosts) > 1]
    first = {fault: min(of_fault[fault], key=lambda each: each.flagged_at) for fault in found}
    near = [
        (one, other)
        for index, one in enumerate(found)
        for other in found[index + 1 :]
        if other.start <= one.end
    ]

    def is_alone(fault: Fault) -> bool:
        """Whether it is one incident, and no other fault is in that."""
        (incident, *more) = of_fault[fault]
        return not more and sum(incident in others for others in of_fault.values()) == 1

    return Told(
        faults=len(faults),
        found=len(found),
        multi=len(multi),
        multi_found=sum(fault in first for fault in multi),
        as_one=sum(fault in first and is_alone(fault) for fault in multi),
        near=len(near),
        apart=sum(
            not {each.id for each in of_fault[one]} & {each.id for each in of_fault[other]}
            for one, other in near
        ),
        incidents=len(incidents),
        false_incidents=sum(
            not any(shows(each, fault, AFTERMATH_SECONDS) for fault in faults) for each in incidents
        ),
        weeks=weeks,
        named_host=sum(
            any(_name(each) in fault.hosts for each in first[fault].members[:3]) for fault in found
        ),
        named_first=sum(
            fault.first_host in [_name(each) for each in first[fault].members[:3]]
            for fault in found
        ),
        by_chance=sum(min(1.0, 3 / len(first[fault].members)) for fault in found),
        named_feature=sum(
            bool(
                {each.name for each in first[fault].leading_features[:3]}
                & set((causes or {}).get(fault.name, fault.causes))
            )
            for fault in found
        ),
        delays=tuple(first[fault].flagged_at - fault.start for fault in found),
        missed=tuple(
            f"{fault.name} on {len(fault.hosts)}, size {fault.size}"
            for fault in faults
            if fault not in first
        ),
    )


def shows(incident: Incident, fault: Fault, aftermath: float = 0.0) -> bool:
    """Whether a host of the fault is a member while it has the fault."""
    return any(_overlaps(member, fault, aftermath) for member in incident.members)


def _overlaps(member: Member | AnomalyEvent, fault: Fault, aftermath: float) -> bool:
    start = member.onset if isinstance(member, Member) else member.start
    end = float("inf") if member.end is None else member.end
    return _name(member) in fault.hosts and start <= fault.end + aftermath and end >= fault.start


def _name(member: Member | AnomalyEvent) -> str:
    return dict(member.labels)["instance"]


@dataclass(frozen=True)
class Alerts:
    """Alerts of single hosts beside known faults."""

    alerts: int
    false_alerts: int
    found: int
    faults: int
    weeks: float

    def figures(self) -> dict[str, float]:
        """The shares and rates that the page shows."""
        return {
            "found": self.found / self.faults,
            "alerts": self.alerts,
            "alerts_per_fault": (self.alerts - self.false_alerts) / max(self.found, 1),
            "false_per_week": self.false_alerts / self.weeks,
        }


def compare_alerts(events: Sequence[AnomalyEvent], faults: Sequence[Fault], weeks: float) -> Alerts:
    """What the events of single hosts say about the faults."""
    false = [
        event
        for event in events
        if not any(_overlaps(event, fault, AFTERMATH_SECONDS) for fault in faults)
    ]
    found = sum(any(_overlaps(event, fault, 0.0) for event in events) for fault in faults)
    return Alerts(len(events), len(false), found, len(faults), weeks)


def count_weeks(start: float, end: float) -> float:
    """Weeks between two unix times."""
    return (end - start) / WEEK_SECONDS

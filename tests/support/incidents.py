"""Events of many groups, as daemons report them sample by sample, for tests of incidents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from promad.data.groups import Labels, name_group, sort_labels
from promad.events.events import AnomalyEvent
from promad.events.incident_book import IncidentBook, IncidentChanges, IncidentRules, Watched
from promad.events.verdict import FeatureView, State, Verdict

STEP = 30.0
FOUND_AFTER, OVER_AFTER = STEP, 5 * STEP
"""Hysteresis: 2 samples above the threshold, 5 below."""

RULES = IncidentRules("d", features=4)


def make_event(
    start: float,
    end: float | None = None,
    ratio: float = 2.0,
    features: Mapping[str, float] | None = None,
    **labels: str,
) -> AnomalyEvent:
    """An event of the group with these labels; features deviate with these contributions."""
    group = sort_labels(labels)
    views = tuple(
        FeatureView(name, 0.3, share, 0.9, 0.25, elevation=1 + share, since=start)
        for name, share in (features or {"cpu": 1.0}).items()
    )
    peak = Verdict(start + FOUND_AFTER, State.ANOMALOUS, 1.0, score=ratio, features=views)
    return AnomalyEvent(name_group("d", group), start, start + FOUND_AFTER, end, peak, group)


@dataclass(frozen=True)
class Sample:
    """What happened at one sample."""

    at: float
    began: tuple[AnomalyEvent, ...]
    grew: tuple[AnomalyEvent, ...]
    ended: tuple[AnomalyEvent, ...]


def report(events: Iterable[AnomalyEvent], *, growing: bool = True) -> list[Sample]:
    """What a daemon finds of whole events, sample by sample; each peaks two samples after it."""
    begun: dict[float, list[AnomalyEvent]] = {}
    grown: dict[float, list[AnomalyEvent]] = {}
    ended: dict[float, list[AnomalyEvent]] = {}
    for event in events:
        begun.setdefault(event.flagged_at, []).append(replace(event, end=None))
        higher = replace(event.peak, score=2 * event.peak_ratio, at=event.flagged_at + STEP)
        grows = growing and (event.end is None or event.end >= higher.at)
        peak = higher if grows else event.peak
        if grows:
            grown.setdefault(higher.at, []).append(replace(event, end=None, peak=peak))
        if event.end is not None:
            ended.setdefault(event.end + OVER_AFTER, []).append(replace(event, peak=peak))
    return [
        Sample(at, *(tuple(part.get(at, ())) for part in (begun, grown, ended)))
        for at in sorted({*begun, *grown, *ended})
    ]


def enter(
    book: IncidentBook, samples: Iterable[Sample], watched: Mapping[Labels, Watched] | None = None
) -> list[IncidentChanges]:
    """Enter samples into a book."""
    return [
        book.update(each.at, each.began, each.grew, each.ended, watched or {}) for each in samples
    ]


def find_incidents(changes: Sequence[IncidentChanges]) -> dict[str, object]:
    """The newest state of each incident, by id."""
    return {incident.id: incident for each in changes for incident in each.incidents}

"""What a backtest found: events or incidents, compared with known incidents and with alerts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from promad.clock import WEEK_SECONDS
from promad.config.known_incidents import Incident
from promad.data.windows import sample_numbers
from promad.detection.fleet_tally import GroupTally
from promad.evaluation.episodes import EpisodeFigures, Episodes, episode_figures
from promad.evaluation.extents import Extents, find_extents
from promad.events.events import AnomalyEvent
from promad.events.incidents import Incident as FoundIncident
from promad.events.verdict import STATES, State
from promad.prometheus.firing_alerts import Alert


@dataclass(frozen=True)
class Backtest:
    """The result of a backtest.

    Attributes:
        group: the name of the group.
        budget: false alarms a week that the threshold was chosen for.
        times: unix seconds of each sample, float64 (samples,).
        states: positions in `State`, uint8 (samples,).
        events: those that began, oldest first; the last may be open.
        alerts: alerts of Prometheus that fired meanwhile, oldest first.
        incidents: known incidents to compare with.
        outside: by feature, how many samples were outside of its valid range.
        figures: events against incidents, with no point adjustment; None without incidents.
        extents: how events cover the incidents that they found; None without incidents.
    """

    group: str
    step: float
    budget: float
    times: NDArray[np.float64]
    states: NDArray[np.uint8]
    events: tuple[AnomalyEvent, ...]
    alerts: tuple[Alert, ...]
    incidents: tuple[Incident, ...]
    figures: EpisodeFigures | None
    outside: Mapping[str, int] = field(default_factory=dict)
    extents: Extents | None = None

    def share(self, state: State) -> float:
        """The share of samples in a state."""
        return float((self.states == STATES.index(state)).mean())

    @property
    def events_per_week(self) -> float:
        """Events a week of scored samples, without those muted; NaN if none was scored."""
        scored, events = count_scored(self.states), len(self.events) - self.muted
        return events * WEEK_SECONDS / (scored * self.step) if scored else float("nan")

    def lead(self, alert: Alert) -> float | None:
        """Seconds by which promad was earlier than an alert, less than 0 if it was later.

        None if no event was open while it fired.
        """
        event = self.event_during(alert.start, alert.end)
        return None if event is None else alert.start - event.flagged_at

    def event_during(self, start: float, end: float) -> AnomalyEvent | None:
        """The first event that was open at any of `start` to `end`, in unix seconds."""
        return _find_open(self.events, start, end)

    @property
    def muted(self) -> int:
        """How many of the events were muted throughout, so that they caused no alert."""
        return sum(event.alerts_from is None for event in self.events)


@dataclass(frozen=True)
class FleetBacktest:
    """The result of a backtest of many groups.

    Attributes:
        detector: its name.
        budget: false alarms a week that the threshold was chosen for.
        per: whom the budget is for, `detector` or `group`.
        times: unix seconds of each sample, float64 (samples,).
        scored: at how many of them any group had a score.
        found: incidents that began, oldest first; they may be open.
        events: those of all groups, oldest first.
        groups: highest peak first.
        alerts: alerts of Prometheus that fired meanwhile, oldest first.
        incidents: known incidents to compare with.
        outside: by feature, how many samples were outside of its valid range.
        figures: incidents found against known ones; None without known ones.
        extents: how they cover the known ones that they found; None without known ones.
    """

    detector: str
    step: float
    budget: float
    per: str
    times: NDArray[np.float64]
    scored: int
    found: tuple[FoundIncident, ...]
    events: tuple[AnomalyEvent, ...]
    groups: tuple[GroupTally, ...]
    alerts: tuple[Alert, ...]
    incidents: tuple[Incident, ...]
    figures: EpisodeFigures | None
    outside: Mapping[str, int] = field(default_factory=dict)
    extents: Extents | None = None

    @property
    def incidents_per_week(self) -> float:
        """Incidents a week of scored time, without those known or muted; NaN if nothing was
        scored.
        """
        if self.figures is not None:
            return self.figures.false_episodes_per_week
        weeks = self.scored * self.step / WEEK_SECONDS
        return (len(self.found) - self.muted) / weeks if weeks else float("nan")

    @property
    def muted(self) -> int:
        """How many incidents were muted throughout, so that they caused no alert."""
        return sum(incident.alerts_from is None for incident in self.found)

    def share(self, state: State) -> float:
        """The share of the samples of all groups in a state."""
        samples = sum(group.samples for group in self.groups)
        counts = sum(group.states[STATES.index(state)] for group in self.groups)
        return counts / max(samples, 1)

    def incident_during(self, start: float, end: float) -> FoundIncident | None:
        """The first incident that was open at any of `start` to `end`, in unix seconds."""
        return _find_open(self.found, start, end)

    def match_alert(self, alert: Alert) -> AnomalyEvent | FoundIncident | None:
        """What was open while an alert fired.

        An event of the group whose labels the alert has, or any incident if it has none's.
        """
        series = set(alert.series)
        for group in self.groups:
            if group.labels and series.issuperset(group.labels):
                return _find_open(group.events, alert.start, alert.end)
        return self.incident_during(alert.start, alert.end)


def _find_open[Found: (AnomalyEvent, FoundIncident)](
    found: Sequence[Found], start: float, end: float
) -> Found | None:
    """The first that was open at any of `start` to `end`."""
    return next((each for each in found if _is_open(each, start, end)), None)


def _is_open(found: AnomalyEvent | FoundIncident, start: float, end: float) -> bool:
    """Whether it was open at any of `start` to `end`."""
    return found.flagged_at <= end and (found.end is None or found.end >= start)


def count_scored(states: NDArray[np.uint8]) -> int:
    """How many of the samples have a score."""
    return int(np.isin(states, [STATES.index(State.OK), STATES.index(State.ANOMALOUS)]).sum())


class Compared(NamedTuple):
    """Events compared with incidents, as `evaluate` compares alarms with labels."""

    figures: EpisodeFigures | None
    extents: Extents | None

    @staticmethod
    def of(
        events: Sequence[AnomalyEvent] | Sequence[FoundIncident],
        incidents: Sequence[Incident],
        times: NDArray[np.float64],
        scored: int,
        step: float,
        leave_after: int,
    ) -> Compared:
        """The figures of those that began; None without known incidents.

        Args:
            events: events, or incidents of a fleet.
            times: unix seconds of each sample, float64 (samples,).
            scored: how many of them have a score.
            leave_after: samples without an anomaly that end an event.
        """
        if not incidents:
            return Compared(None, None)
        labels = np.zeros(len(times), np.bool_)
        for incident in incidents:
            labels |= (times >= incident.start) & (times <= incident.end)
        found = _to_episodes(_drop_muted(events, incidents), times, step, leave_after)
        return Compared(episode_figures(found, labels, scored, step), find_extents(found, labels))


def _drop_muted(
    found: Sequence[AnomalyEvent] | Sequence[FoundIncident], incidents: Sequence[Incident]
) -> list[Any]:
    """Those that are to be judged: what was muted throughout is no false alarm.

    It is kept where it found an incident.
    """
    return [
        each
        for each in found
        if each.alerts_from is not None
        or any(_is_open(each, known.start, known.end) for known in incidents)
    ]


def _to_episodes(
    events: Sequence[AnomalyEvent] | Sequence[FoundIncident],
    times: NDArray[np.float64],
    step: float,
    leave_after: int,
) -> Episodes:
    """Events in rows of the times."""

    def rows(times_of: Iterable[float]) -> NDArray[np.int64]:
        return sample_numbers(np.array([times[0], *times_of]), step)[1:]

    last = rows(times[-1] if event.end is None else event.end for event in events)
    is_open = np.array([event.end is None for event in events], np.bool_)
    peaks = (
        event.peak.peak_at if isinstance(event, FoundIncident) else event.peak_at
        for event in events
    )
    return Episodes(
        starts=rows(event.start for event in events),
        raised=rows(event.flagged_at for event in events),
        ends=last + 1,
        over=np.where(is_open, len(times), np.minimum(last + leave_after, len(times))),
        peaks=rows(peaks),
    )

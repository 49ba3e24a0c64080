"""What a replay of a fleet found, counted group by group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from promad.data.groups import Labels
from promad.detection.fleet_replay import FleetReplay, FleetSample
from promad.detection.judgements import ANOMALOUS, OK
from promad.events.events import AnomalyEvent
from promad.events.incidents import Incident
from promad.events.verdict import STATES, State


@dataclass(frozen=True)
class GroupTally:
    """One group over a period.

    Attributes:
        name: of the group.
        labels: its label values.
        samples: of how many samples it was watched.
        states: by position in `STATES`, how many of these it was in each state.
        events: those that began, oldest first; the last may be open.
    """

    name: str
    labels: Labels
    samples: int
    states: tuple[int, ...]
    events: tuple[AnomalyEvent, ...]

    @property
    def peak_ratio(self) -> float:
        """The largest score over threshold of its events; 0 without one."""
        return max((event.peak_ratio for event in self.events), default=0.0)

    def share(self, state: State) -> float:
        """The share of its samples in a state."""
        return self.states[STATES.index(state)] / max(self.samples, 1)


@dataclass
class FleetTally:
    """Counts samples, events and incidents; `add` and `finish` alone change it.

    Attributes:
        times: unix seconds of each sample.
        scored: at how many of them any group had a score.
    """

    times: list[float] = field(default_factory=list)
    scored: int = 0
    _events: list[AnomalyEvent] = field(default_factory=list)
    _incidents: dict[str, Incident] = field(default_factory=dict)
    _place: dict[Labels, int] = field(default_factory=dict)
    _names: list[str] = field(default_factory=list)
    _counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, len(STATES)), np.int64))
    _of: tuple[Labels, ...] | None = None
    _rows: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def add(self, sample: FleetSample) -> None:
        """Count one sample of all groups."""
        state, states = sample.live.state, sample.judgements.state
        if state.labels is not self._of:
            self._find_rows(state.labels, state.names)
        self.times.append(sample.judgements.at)
        self.scored += bool(((states == OK) | (states == ANOMALOUS)).any())
        self._counts[self._rows, states] += 1
        self._events += sample.ended
        self._incidents.update({each.id: each for each in sample.changes.incidents})

    def _find_rows(self, groups: tuple[Labels, ...], names: Sequence[str]) -> None:
        for labels, name in zip(groups, names, strict=True):
            if labels not in self._place:
                self._place[labels] = len(self._place)
                self._names.append(name)
        more = len(self._place) - len(self._counts)
        self._counts = np.concatenate([self._counts, np.zeros((more, len(STATES)), np.int64)])
        self._of, self._rows = groups, np.array([self._place[each] for each in groups], np.int64)

    def finish(self, replay: FleetReplay) -> None:
        """Enter what is still open at the end."""
        events = replay.live.state.events
        open_rows = np.flatnonzero(events.hysteresis.open).tolist()
        self._events += [events.event(row) for row in open_rows]
        self._incidents.update({each.id: each for each in replay.incidents.open_incidents})

    def list_incidents(self) -> tuple[Incident, ...]:
        """The incidents, oldest first."""
        return tuple(sorted(self._incidents.values(), key=lambda each: (each.start, each.scope)))

    def list_events(self) -> tuple[AnomalyEvent, ...]:
        """The events of all groups, oldest first."""
        return tuple(sorted(self._events, key=lambda event: (event.start, event.group)))

    def list_groups(self) -> tuple[GroupTally, ...]:
        """The groups, highest peak first, then those without events."""
        of_group: dict[Labels, list[AnomalyEvent]] = {}
        for event in self.list_events():
            of_group.setdefault(event.labels, []).append(event)
        tallies = [
            GroupTally(
                self._names[place],
                labels,
                int(self._counts[place].sum()),
                tuple(self._counts[place].tolist()),
                tuple(of_group.get(labels, ())),
            )
            for labels, place in self._place.items()
        ]
        return tuple(sorted(tallies, key=lambda each: (-each.peak_ratio, each.name)))

"""`FleetHistory`: the newest scores and states of many groups, small; details where they matter.

Of every group it keeps state, score and limit, in arrays over time and groups. What each feature
did is kept of groups whose event is open, and read from Prometheus again where somebody asks.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from promad.data.groups import Labels
from promad.data.rows import plan_move
from promad.detection.recent_history import Recent, RecentHistory, join_recent
from promad.events.verdict import Verdict

Values = NDArray[np.float64]

_MOST_DETAILED = 64
"""Groups of which details are kept in memory."""

_WATCHED_SAMPLES = 40
"""For how many samples details of a group are kept up to date after somebody asked for them."""

FillDetails = Callable[[str, Labels, RecentHistory], bool]
"""Reads what a group's features did from Prometheus, into a history; False if that failed."""


class FleetHistory:
    """The newest `capacity` samples of many groups. One thread adds, any may read."""

    def __init__(
        self, features: Sequence[str], capacity: int, fill: FillDetails | None = None
    ) -> None:
        self.features = tuple(features)
        self._capacity = capacity
        self._fill = fill
        self._names: tuple[str, ...] = ()
        self._labels: tuple[Labels, ...] = ()
        self._place: dict[str, int] = {}
        self._times = np.full(capacity, np.nan)
        self._states = np.zeros((capacity, 0), np.uint8)
        self._scores = np.zeros((capacity, 0), np.float32)
        self._limits = np.zeros((capacity, 0), np.float32)
        self._next, self._kept = 0, 0
        self._details: OrderedDict[str, RecentHistory] = OrderedDict()
        self._filled: set[str] = set()
        self._watched_until: dict[str, int] = {}
        self._samples = 0
        self._lock = threading.Lock()

    def regroup(self, names: Sequence[str], labels: Sequence[Labels]) -> None:
        """Continue with other groups; those that were there before keep their samples."""
        shape = (self._capacity, len(names))
        with self._lock:
            move = plan_move(self._names, tuple(names))
            states = np.full(shape, _UNKNOWN, np.uint8)
            scores, limits = np.full((2, *shape), np.nan, np.float32)
            for old, new in (
                (self._states, states),
                (self._scores, scores),
                (self._limits, limits),
            ):
                new[:, move.target] = old[:, move.source]
            self._states, self._scores, self._limits = states, scores, limits
            self._names, self._labels = tuple(names), tuple(labels)
            self._place = {name: row for row, name in enumerate(names)}
            for name in self._details.keys() - self._place.keys():
                self._forget_details(name)

    def continue_from(self, other: FleetHistory) -> None:
        """Begin with what is in another history, if it is of the same features."""
        if other.features != self.features:
            return
        with other._lock:
            order = other._list_places()[-self._capacity :]
            self._names, self._labels, self._place = other._names, other._labels, other._place
            shape = (self._capacity, len(self._names))
            self._states = np.full(shape, _UNKNOWN, np.uint8)
            self._scores, self._limits = np.full((2, *shape), np.nan, np.float32)
            for old, new in (
                (other._times, self._times),
                (other._states, self._states),
                (other._scores, self._scores),
                (other._limits, self._limits),
            ):
                new[: len(order)] = old[order]
            self._next, self._kept = len(order), len(order)
            details = {
                name: history.resized(self.features, self._capacity)
                for name, history in other._details.items()
            }
            self._details, self._filled = OrderedDict(details), set(other._filled)

    def _list_places(self) -> NDArray[np.int64]:
        """Where the samples are, oldest first."""
        return np.arange(self._next - self._kept, self._next) % self._capacity

    def _forget_details(self, name: str) -> None:
        self._details.pop(name, None)
        self._filled.discard(name)
        self._watched_until.pop(name, None)

    def _keep_few_details(self, name: str) -> None:
        """Make this the newest of the groups with details, and forget the oldest."""
        self._details.move_to_end(name)
        while len(self._details) > _MOST_DETAILED:
            self._forget_details(next(iter(self._details)))

    def add(self, at: float, states: NDArray[np.uint8], scores: Values, limits: Values) -> None:
        """Keep one sample of each group; scores in the unit of the limits, NaN without one.

        Samples of the same time or later are forgotten: they were blind and are now judged, or time
        went back.
        """
        with self._lock:
            while self._kept and self._times[(self._next - 1) % self._capacity] > at - 1e-3:
                self._next, self._kept = self._next - 1, self._kept - 1
            place = self._next % self._capacity
            self._times[place] = at
            self._states[place] = states
            self._scores[place] = scores / limits
            self._limits[place] = limits
            self._next, self._kept = self._next + 1, min(self._kept + 1, self._capacity)
            self._samples += 1

    def add_details(self, name: str, verdict: Verdict) -> None:
        """Keep a sample of a group with all that is known of its features."""
        with self._lock:
            history = self._details.get(name)
            if history is None:
                history = self._details[name] = RecentHistory(self.features, self._capacity)
            self._keep_few_details(name)
        history.add(verdict)

    def choose_detailed(self, anomalous: Sequence[int], ratio: Values) -> list[int]:
        """Rows of the groups of which details of this sample are kept; there are few.

        They are those that somebody looks at, and of the anomalous ones those that have details
        already and those with the largest score. Details of other groups would have gaps from now
        on, so they are forgotten.

        Args:
            ratio: score over threshold, (groups,).
        """
        with self._lock:
            self._watched_until = {
                name: until
                for name, until in self._watched_until.items()
                if until > self._samples and name in self._place
            }
            watched = list(self._watched_until)[-_MOST_DETAILED:]
            rows = {self._place[name] for name in watched}
            known = set(self._details)
            ranked = sorted(anomalous, key=lambda row: (self._names[row] not in known, -ratio[row]))
            rows.update(ranked[: max(0, _MOST_DETAILED - len(rows))])
            for name in known - {self._names[row] for row in rows}:
                self._forget_details(name)
            return sorted(rows)

    def of(self, name: str) -> GroupHistory:
        """The history of one group."""
        return GroupHistory(self, name)

    def read(self, name: str, start: float, end: float) -> Recent:
        """What is kept of a group from `start` to `end`, unix seconds, without details."""
        with self._lock:
            row = self._place.get(name)
            order = self._list_places() if row is not None else np.zeros(0, np.int64)
            times = self._times[order]
            order = order[(times >= start) & (times <= end)]
            rows = np.full(len(order), row or 0)
            known = self._states[order, rows] != _UNKNOWN
            places, rows = order[known], rows[known]
            return Recent(
                features=self.features,
                times=self._times[places],
                states=self._states[places, rows],
                score=self._scores[places, rows].astype(np.float64),
                threshold=self._limits[places, rows].astype(np.float64),
                why=("",) * len(places),
                values=np.full((len(places), len(self.features), 5), np.nan, np.float32),
            )

    def read_details(self, name: str) -> RecentHistory | None:
        """Details of a group, read from Prometheus if they are not in memory."""
        with self._lock:
            history = self._details.get(name)
            row = self._place.get(name, -1)
            labels = self._labels[row] if row >= 0 else None
            if labels is not None:
                self._watched_until[name] = self._samples + _WATCHED_SAMPLES
            missing = name not in self._filled
        if missing and self._fill is not None and labels is not None:
            history = history or RecentHistory(self.features, self._capacity)
            if self._fill(name, labels, history):
                with self._lock:
                    self._filled.add(name)
                    history = self._details.setdefault(name, history)
                    self._keep_few_details(name)
        return history


_UNKNOWN = 255


class GroupHistory:
    """One group's part of a `FleetHistory`, as `RecentHistory` gives that of an only group."""

    def __init__(self, fleet: FleetHistory, name: str) -> None:
        self._fleet, self._name = fleet, name

    def between(self, start: float = -np.inf, end: float = np.inf) -> Recent:
        """The samples from `start` to `end`, unix seconds, both included."""
        plain = self._fleet.read(self._name, start, end)
        details = self._fleet.read_details(self._name)
        return plain if details is None else join_recent(plain, details.between(start, end))


class Histories(Mapping[str, GroupHistory]):
    """The histories of all groups by name."""

    def __init__(self, fleet: FleetHistory) -> None:
        self._fleet = fleet

    def __getitem__(self, name: str) -> GroupHistory:
        return self._fleet.of(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._fleet._names)

    def __len__(self) -> int:
        return len(self._fleet._names)

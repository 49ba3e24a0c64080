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
from promad.data.rows import Move
from promad.detection.recent_history import Recent, RecentHistory, join_recent
from promad.events.verdict import Verdict

Values = NDArray[np.float64]

_MOST_DETAILED = 64
"""Groups of which details are kept in memory."""

FillDetails = Callable[[str, Labels, RecentHistory], None]
"""Reads what a group's features did from Prometheus, into a history."""


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
        self._added = 0
        self._details: OrderedDict[str, RecentHistory] = OrderedDict()
        self._filled: set[str] = set()
        self._lock = threading.Lock()

    def regroup(self, names: Sequence[str], labels: Sequence[Labels], move: Move) -> None:
        """Continue with other groups, of which these rows were there before."""
        shape = (self._capacity, len(names))
        with self._lock:
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
                self._details.pop(name)
                self._filled.discard(name)

    def add(self, at: float, states: NDArray[np.uint8], scores: Values, limits: Values) -> None:
        """Keep one sample of each group; scores in the unit of the limits, NaN without one."""
        with self._lock:
            newest = self._times[(self._added - 1) % self._capacity] if self._added else -np.inf
            if at <= newest + 1e-3:
                self._added -= 1 if at > newest - 1e-3 else 0
                if at < newest - 1e-3:
                    return
            place = self._added % self._capacity
            self._times[place] = at
            self._states[place] = states
            self._scores[place] = scores / limits
            self._limits[place] = limits
            self._added += 1

    def add_details(self, name: str, verdict: Verdict) -> None:
        """Keep a sample of a group with all that is known of its features."""
        with self._lock:
            history = self._details.get(name)
            if history is None:
                history = self._details[name] = RecentHistory(self.features, self._capacity)
            self._details.move_to_end(name)
            while len(self._details) > _MOST_DETAILED:
                forgotten, _ = self._details.popitem(last=False)
                self._filled.discard(forgotten)
        history.add(verdict)

    def has_details(self, name: str) -> bool:
        """Whether details of a group are being kept."""
        return name in self._details

    def of(self, name: str) -> GroupHistory:
        """The history of one group."""
        return GroupHistory(self, name)

    def read(self, name: str, start: float, end: float) -> Recent:
        """What is kept of a group from `start` to `end`, unix seconds, without details."""
        with self._lock:
            count = min(self._added, self._capacity)
            order = (np.arange(self._added - count, self._added)) % self._capacity
            times = self._times[order]
            row = self._place.get(name, -1)
            inside = (times >= start) & (times <= end)
            if row < 0:
                inside[:] = False
            places = order[inside]
            states = self._states[places, row]
            known = states != _UNKNOWN
            shape = (int(known.sum()), len(self.features), 5)
            return Recent(
                features=self.features,
                times=times[inside][known],
                states=states[known],
                score=self._scores[places, row][known].astype(np.float64),
                threshold=self._limits[places, row][known].astype(np.float64),
                why=("",) * int(known.sum()),
                values=np.full(shape, np.nan, np.float32),
            )

    def read_details(self, name: str) -> RecentHistory | None:
        """Details of a group, read from Prometheus if they are not in memory."""
        with self._lock:
            history = self._details.get(name)
            row = self._place.get(name, -1)
            labels = self._labels[row] if row >= 0 else None
            missing = name not in self._filled and self._fill is not None
        if missing and labels is not None:
            history = history or RecentHistory(self.features, self._capacity)
            assert self._fill is not None  # noqa: S101 - just looked at
            self._fill(name, labels, history)
            with self._lock:
                self._filled.add(name)
                self._details.setdefault(name, history)
                self._details.move_to_end(name)
                while len(self._details) > _MOST_DETAILED:
                    forgotten, _ = self._details.popitem(last=False)
                    self._filled.discard(forgotten)
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

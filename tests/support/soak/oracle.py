"""`Oracle`: what the daemon may say of the newest sample, by what it was really given."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from promad.events.verdict import State
from tests.support.soak.truth import QUERIES, STEP, Truth

REQUIRED_SHARE = 0.6
SCORED = frozenset({State.OK, State.ANOMALOUS})
UNSCORED = frozenset({State.BLIND, State.WARMING})

TICKS_TO_LEAVE = 8
"""After how many ticks with everything known an event that a gap caused is over."""

FILLED_MAY_DECIDE = 0
"""How many samples after its last known one a feature may still count as known for a score.

0 once the raw samples of the newest row decide.
"""


@dataclass
class Oracle:
    """Remembers which rows of which feature the server has delivered to the poller at work.

    Attributes:
        length: samples of a window.
        memory: samples that decide a score, all but nothing of it.
        kept: samples that the poller keeps.
        filled: see `FILLED_MAY_DECIDE`.
        sure: times of newest samples within anomalies that had to be scored.
        strange: when values were felt that are not true.
    """

    truth: Truth
    length: int
    memory: int
    kept: int
    filled: int = FILLED_MAY_DECIDE
    newest: float = float("-inf")
    sure: set[float] = field(default_factory=set)
    strange: list[tuple[float, float]] = field(default_factory=list)
    _given: dict[str, set[float]] = field(default_factory=dict)
    _answered: set[str] = field(default_factory=set)
    _whole_for: int = 0

    def __post_init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """A poller begins that knows nothing."""
        self._given = {alias: set() for alias in QUERIES}
        self._answered = set()

    def begin(self, newest: float) -> None:
        """A tick begins whose newest sample is of this time."""
        if newest < self.newest:
            self.forget()
        self.newest = newest
        self._answered = set()
        first = newest - (self.kept - 1) * STEP
        for alias, rows in self._given.items():
            if len(rows) > 3 * self.kept:
                self._given[alias] = {at for at in rows if at >= first}

    def take(self, alias: str, asked: Collection[float], given: Iterable[float]) -> None:
        """A query was answered: of the rows that were asked for, these were given."""
        self._given[alias] -= set(asked)
        self._given[alias] |= set(given)
        self._answered.add(alias)

    def withdraw(self, alias: str, asked: Collection[float]) -> None:
        """What was given just now does not count: its age was not answered."""
        self._given[alias] -= set(asked)
        self._answered.discard(alias)

    def permits(self) -> frozenset[State]:
        """The states that are not a lie of the newest sample; asked once a tick."""
        if not self._is_whole(self.length):
            self._whole_for = 0
            enough = self._share_known() >= REQUIRED_SHARE - 1e-9
            return SCORED | UNSCORED if enough else UNSCORED
        if self.truth.is_anomalous(self.newest):
            self.sure.add(self.newest)
        self._whole_for = self._whole_for + 1 if self._is_whole(self.memory) else 0
        if self._whole_for < TICKS_TO_LEAVE or self._is_strange():
            return SCORED
        return self._permit_by_truth()

    def _permit_by_truth(self) -> frozenset[State]:
        """The state of a daemon that knows everything."""
        for start, end in self.truth.anomalies[-3:]:
            if start + 4 * STEP <= self.newest <= end:
                return frozenset({State.ANOMALOUS})
            if start <= self.newest <= end + self.memory * STEP:
                return SCORED
        return frozenset({State.OK})

    def _is_strange(self) -> bool:
        return any(start <= self.newest <= end for start, end in self.strange[-9:])

    def _share_known(self) -> float:
        return sum(map(self._is_known, QUERIES)) / len(QUERIES)

    def _is_known(self, alias: str) -> bool:
        rows = self._given[alias]
        if self.newest in rows:
            return True
        filled = (self.newest - STEP * back in rows for back in range(1, self.filled + 1))
        return alias in self._answered and any(filled)

    def _is_whole(self, samples: int) -> bool:
        """Whether every feature was given for each of so many newest samples."""
        rows = {self.newest - STEP * back for back in range(samples)}
        return all(rows <= given for given in self._given.values())

"""`GroupTable`: all groups of all detectors, column by column: searched, sorted and counted.

Of a fleet nothing is built for a group that is not on the page which is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from promad.detection.running_detector import RunningDetector
from promad.events.verdict import FEATURE_COLUMNS, STATES, State
from promad.exposition import AnySnapshot
from promad.exposition.fleet import FleetSnapshot
from promad.web.lookup import MonitoredGroup, Roster, read_rosters

Flags = NDArray[np.bool_]
Rows = NDArray[np.int64]
Values = NDArray[np.float64]

Sort = Literal["worst", "name", "score"]

_WORST_FIRST = (State.ANOMALOUS, State.BLIND, State.WARMING, State.OK)
_RANK = np.array([_WORST_FIRST.index(state) for state in STATES])
_CONTRIBUTION = FEATURE_COLUMNS.index("contribution")
_NAMED_FEATURES = 3
"""As many as `top_features` of a group has."""


@dataclass(frozen=True)
class GroupTable:
    """All groups; arrays are (groups,).

    Attributes:
        rosters: of each detector.
        names: of the groups, detector after detector.
        state: positions in `STATES`, uint8.
        score: score over threshold; NaN without one.
    """

    rosters: Sequence[Roster]
    names: tuple[str, ...]
    state: NDArray[np.uint8]
    score: Values

    @property
    def coarse_score(self) -> Values:
        """Scores below the threshold rounded down, so that rows rarely change; NaN without one."""
        return _round_score(self.score)

    def search(self, text: str) -> Flags:
        """Which groups match every word, in their name, their state or a leading feature."""
        found = np.ones(len(self.names), np.bool_)
        for word in text.lower().split():
            found &= self._find_word(word)
        return found

    def _find_word(self, word: str) -> Flags:
        named = np.array([word in name for name in _fold_names(self.names)], np.bool_)
        states = np.array([word in state.value for state in STATES])
        led = [_find_led_by(roster.snapshot, word) for roster in self.rosters]
        in_feature: Flags = np.concatenate([*led, np.zeros(0, np.bool_)])
        return named | np.asarray(states[self.state], np.bool_) | in_feature

    def count_states(self, among: Flags) -> dict[State, int]:
        """How many of these groups are in each state."""
        counts = np.bincount(self.state[among], minlength=len(STATES)).tolist()
        return dict(zip(STATES, counts, strict=True))

    def sort(self, rows: Rows, by: Sort) -> Rows:
        """These rows in order: of equal ones by name."""
        names = _rank_names(self.names)[rows]
        return rows[order_groups(names, self.state[rows], self.score[rows], by)]

    def build(self, rows: Rows) -> list[MonitoredGroup]:
        """These groups."""
        roster_of = np.repeat(
            np.arange(len(self.rosters)), [len(roster.rows) for roster in self.rosters]
        )
        return [self.rosters[roster_of[row]].build(self.names[row]) for row in rows.tolist()]


def order_groups(
    names: NDArray[np.int64], state: NDArray[np.uint8], score: Values, by: Sort
) -> Rows:
    """The places of groups in order.

    Args:
        names: the place of each name in alphabetical order, which decides between equal groups.
        state: positions in `STATES`.
        score: score over threshold; NaN without one.
    """
    keys: Mapping[Sort, tuple[NDArray[np.generic], ...]] = {
        "worst": (names, _descend(_round_score(score)), _RANK[state]),
        "score": (names, _descend(score)),
        "name": (names,),
    }
    return np.lexsort(keys[by])


def _round_score(score: Values) -> Values:
    below = (score >= 0) & (score < 1)
    return np.where(below, np.floor(5 * score), score)


def read_groups(running: Sequence[RunningDetector]) -> GroupTable:
    """All groups after the last tick of their detectors."""
    rosters = read_rosters(running)
    columns = [_read_columns(roster.snapshot) for roster in rosters]
    return GroupTable(
        rosters,
        tuple(name for roster in rosters for name in roster.rows),
        np.concatenate([np.zeros(0, np.uint8), *(state for state, _ in columns)]),
        np.concatenate([np.zeros(0), *(score for _, score in columns)]),
    )


def _read_columns(snapshot: AnySnapshot) -> tuple[NDArray[np.uint8], Values]:
    """State and score over threshold of each group."""
    if isinstance(snapshot, FleetSnapshot):
        return snapshot.columns.state, snapshot.columns.score / snapshot.columns.threshold
    verdicts = [status.verdict for status in snapshot.groups]
    ratios = [each.score_ratio for each in verdicts]
    return (
        np.array([STATES.index(each.state) for each in verdicts], np.uint8),
        np.array([np.nan if ratio is None else ratio for ratio in ratios], np.float64),
    )


def _find_led_by(snapshot: AnySnapshot, word: str) -> Flags:
    """The groups with a leading feature whose name contains a word."""
    if not isinstance(snapshot, FleetSnapshot):
        tops = [status.verdict.top_features for status in snapshot.groups]
        return np.array([any(word in view.name.lower() for view in top) for top in tops], np.bool_)
    columns = snapshot.columns
    matching = [place for place, name in enumerate(columns.feature_names) if word in name.lower()]
    if not matching:
        return np.zeros(len(columns.labels), np.bool_)
    shares = np.nan_to_num(columns.features[:, :, _CONTRIBUTION])
    place = max(0, shares.shape[1] - _NAMED_FEATURES)
    least = np.partition(shares, place, axis=1)[:, [place]]
    wanted = shares[:, matching]
    return np.asarray(((wanted > 0) & (wanted >= least)).any(axis=1))


def _descend(values: Values) -> Values:
    """A key that sorts the largest value first, and those without one last."""
    return np.where(np.isnan(values), np.inf, -values)


@lru_cache(maxsize=4)
def _fold_names(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name.lower() for name in names)


@lru_cache(maxsize=4)
def _rank_names(names: tuple[str, ...]) -> Rows:
    """The place of each name in alphabetical order."""
    ranks = np.empty(len(names), np.int64)
    ranks[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
    return ranks

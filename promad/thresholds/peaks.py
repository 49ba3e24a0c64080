"""The streaming tail of SPOT and DSPOT: peaks of normal scores keep the limit up to date.

Siffer et al. 2017, "Anomaly detection in streams with extreme value theory", KDD, sections 4.3
(SPOT: an alarm teaches nothing, a peak below the limit joins the tail) and 4.4 (DSPOT: the same on
the distance from a moving mean of normal values).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promad.data.rows import Move, move_rows
from promad.thresholds.tail import Tail, by_likelihood
from promad.thresholds.threshold_state import (
    LOWEST_LIMIT,
    Flags,
    NeverAdapted,
    Scores,
    follow_each,
    read_numbers,
)

FEWEST_PEAKS = 10
MOST_PEAKS = 500
REFIT_AFTER = 10
"""New peaks after which the tail is fitted again."""

_LEAST_GAP = 10
_LARGEST_LOG = 350.0

Values = NDArray[np.float64]


def gap_of(leave_after: int) -> int:
    """Samples in a row at the level or below that end a cluster."""
    return max(_LEAST_GAP, leave_after)


def in_log(scores: Values, typical: float) -> Values:
    """How far scores are above nothing, where `typical` is one: `log1p(score / typical)`."""
    return np.asarray(np.log1p(np.maximum(scores, 0.0) / typical), np.float64)


def from_log(value: float, typical: float) -> float:
    """The score that `in_log` makes this value of."""
    return typical * math.expm1(min(value, _LARGEST_LOG))


def lowest_in_a_row(values: Values, enter_after: int) -> Values:
    """The lowest of each `enter_after` values in a row: (samples,) to (samples - enter_after + 1,).

    >>> lowest_in_a_row(np.array([1.0, 3.0, 2.0, 5.0]), 2)
    array([1., 2., 2.])
    """
    return np.lib.stride_tricks.sliding_window_view(values, enter_after).min(axis=1)


def fit_tail(excesses: Values, bounded: bool = True) -> Tail:
    """The tail of excesses above 0: exponential in place of one with an end, if not `bounded`."""
    shape, scale = by_likelihood(excesses)
    if shape < 0 and not bounded:
        return Tail(0.0, float(excesses.mean()))
    return Tail(float(shape), float(scale))


@dataclass(frozen=True)
class Plan:
    """What stays the same; values are in log units of scores over `typical`, less their drift.

    Attributes:
        typical: the score that is 1 before the logarithm.
        level: where peaks begin.
        chance: how many events a sample the budget allows.
        gap: samples in a row not above the level that end a cluster.
        enter_after: samples above the limit that begin an event.
        drift_samples: normal values whose mean is subtracted; 0 for none.
        highest_limit: in the score's unit.
    """

    typical: float
    level: float
    chance: float
    gap: int
    enter_after: int
    drift_samples: int
    highest_limit: float


class Peaks(NeverAdapted):
    """SPOT or DSPOT at work on many groups.

    Departures: peaks are those of clusters and of the lowest of the last `enter_after` values, as
    events are; a cluster that holds an alarm teaches nothing at all; the tail is that of the newest
    `MOST_PEAKS` peaks and fitted at every `REFIT_AFTER`-th.

    Per group, arrays (groups,): the `limit` that values are held to, how many `samples` were
    counted (all but alarms), `since` how many the oldest peak kept was looked for, peaks `unfitted`
    since the tail was fitted, the highest `peak` of the cluster that is not over yet (NaN if there
    is none), samples `quiet` since that was last above the level, whether it holds an alarm.
    `recent` are the newest normal values before the drift is subtracted (groups, drift_samples),
    `last` the last `enter_after` - 1 values (-inf where there are none yet), `excesses` and `taken`
    the newest peaks over the level and how many samples had been counted when each was over.
    """

    def __init__(self, plan: Plan, each: PeaksOfOne, groups: int) -> None:
        super().__init__(groups)
        self.plan = plan
        self._limit, self._peak = np.empty(groups), np.empty(groups)
        self._samples, self._since, self._unfitted, self._quiet = (
            np.empty(groups, np.int64) for _ in range(4)
        )
        self._alarmed = np.empty(groups, np.bool_)
        self._recent = np.empty((groups, plan.drift_samples))
        self._last = np.empty((groups, plan.enter_after - 1))
        self._excesses: list[list[float]] = [[] for _ in range(groups)]
        self._taken: list[list[int]] = [[] for _ in range(groups)]
        for group in range(groups):
            self._put(group, each)

    def _put(self, group: int, one: PeaksOfOne) -> None:
        self._limit[group] = one.limit
        self._peak[group] = np.nan if one.peak is None else one.peak
        self._samples[group], self._since[group] = one.samples, one.since
        self._unfitted[group], self._quiet[group] = one.unfitted, one.quiet
        self._alarmed[group] = one.alarmed
        self._recent[group] = one.recent
        self._last[group] = [*[-np.inf] * (self._last.shape[1] - len(one.last)), *one.last]
        self._excesses[group], self._taken[group] = list(one.excesses), list(one.taken)

    def adopt(self, other: Peaks, move: Move) -> None:
        """Continue the groups that are moved here from another state of the same threshold."""
        move_rows(
            move,
            (other._limit, self._limit),
            (other._peak, self._peak),
            (other._samples, self._samples),
            (other._since, self._since),
            (other._unfitted, self._unfitted),
            (other._quiet, self._quiet),
            (other._alarmed, self._alarmed),
            (other._recent, self._recent),
            (other._last, self._last),
            (other._excesses, self._excesses),
            (other._taken, self._taken),
        )

    def limits(self) -> Scores:
        value = np.minimum(self._drift() + self._limit, _LARGEST_LOG)
        limit = self.plan.typical * np.expm1(value)
        return np.clip(limit, LOWEST_LIMIT, self.plan.highest_limit)

    def follow(
        self, scores: Scores, recent: Scores | None = None, held: Flags | None = None
    ) -> Scores:
        known = ~np.isnan(scores) if held is None else ~(np.isnan(scores) | held)
        limits, drift = self.limits(), self._drift()
        plain = in_log(np.where(known, scores, 0.0), self.plan.typical)
        if self.plan.drift_samples:
            normal = np.flatnonzero(known & (scores <= limits))
            self._recent[normal, :-1] = self._recent[normal, 1:]
            self._recent[normal, -1] = plain[normal]
        for group in self._count(plain - drift, known):
            self._end_cluster(int(group))
        return limits

    def follow_series(self, scores: Scores) -> Scores:
        return follow_each(self, scores)

    def _drift(self) -> Scores:
        if not self.plan.drift_samples:
            return np.zeros(len(self._limit))
        return np.asarray(self._recent.mean(axis=1), np.float64)

    def _count(self, values: Scores, known: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Count one more value of each known group; the groups whose cluster is over with it."""
        rows = np.column_stack([self._last, values])
        lowest = rows.min(axis=1)
        self._last = np.where(known[:, np.newaxis], rows[:, 1:], self._last)
        alarm = known & (lowest > self._limit)
        above = known & (lowest > self.plan.level)
        self._samples += known & ~alarm
        waiting = ~np.isnan(self._peak)
        self._peak = np.where(above, np.fmax(self._peak, lowest), self._peak)
        self._alarmed |= alarm & above
        self._quiet = np.where(above, 0, self._quiet + (known & waiting))
        return np.flatnonzero(known & ~above & (self._quiet >= self.plan.gap))

    def _end_cluster(self, group: int) -> None:
        peak, alarmed = float(self._peak[group]), bool(self._alarmed[group])
        self._peak[group], self._quiet[group], self._alarmed[group] = np.nan, 0, False
        if alarmed or math.isnan(peak):
            return
        excesses, taken = self._excesses[group], self._taken[group]
        excesses.append(peak - self.plan.level)
        taken.append(int(self._samples[group]))
        if len(taken) > MOST_PEAKS:
            excesses.pop(0)
            self._since[group] = taken.pop(0)
        self._unfitted[group] += 1
        if self._unfitted[group] >= REFIT_AFTER:
            self._fit(group)

    def _fit(self, group: int) -> None:
        """Move a group's limit to where its tail is now, unless the tail says nothing."""
        self._unfitted[group] = 0
        excesses = self._excesses[group]
        share = self.plan.chance * (self._samples[group] - self._since[group]) / len(excesses)
        if len(excesses) >= FEWEST_PEAKS and share < 1:
            tail = fit_tail(np.array(excesses))
            self._limit[group] = self.plan.level + tail.level(float(share))

    def to_json(self, group: int) -> dict[str, Any]:
        return self._of(group).to_json(self.plan)

    def _of(self, group: int) -> PeaksOfOne:
        peak, last = float(self._peak[group]), self._last[group]
        return PeaksOfOne(
            limit=float(self._limit[group]),
            excesses=tuple(self._excesses[group]),
            taken=tuple(self._taken[group]),
            samples=int(self._samples[group]),
            since=int(self._since[group]),
            unfitted=int(self._unfitted[group]),
            recent=tuple(self._recent[group].tolist()),
            last=tuple(last[~np.isneginf(last)].tolist()),
            peak=None if math.isnan(peak) else peak,
            quiet=int(self._quiet[group]),
            alarmed=bool(self._alarmed[group]),
        )

    def resume(self, group: int, content: Mapping[str, Any]) -> None:
        """Continue a group from the state described, if it is one of this same threshold.

        Raises:
            KeyError, TypeError, ValueError: if it is not.
        """
        plan, found = peaks_from_json(content)
        if plan != self.plan:
            raise ValueError("it is about another threshold")
        self._put(group, found)


@dataclass(frozen=True)
class PeaksOfOne:
    """One group's part of `Peaks`, as fitting makes it and as it is stored."""

    limit: float
    excesses: tuple[float, ...]
    taken: tuple[int, ...]
    samples: int
    since: int = 0
    unfitted: int = 0
    recent: tuple[float, ...] = ()
    last: tuple[float, ...] = ()
    peak: float | None = None
    quiet: int = 0
    alarmed: bool = False

    def to_json(self, plan: Plan) -> dict[str, Any]:
        """Plain values, from which `peaks_from_json` makes the same."""
        described = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }
        return {"plan": asdict(plan), **described}


def peaks_from_json(content: Mapping[str, Any]) -> tuple[Plan, PeaksOfOne]:
    """The plan and the state that `to_json` described.

    Raises:
        KeyError, TypeError, ValueError: if `content` is not such a description.
    """
    peak, plan = content["peak"], Plan(**content["plan"])
    found = PeaksOfOne(
        limit=float(content["limit"]),
        excesses=tuple(read_numbers(content["excesses"], "excesses")),
        taken=tuple(int(sample) for sample in read_numbers(content["taken"], "taken")),
        samples=int(content["samples"]),
        since=int(content["since"]),
        unfitted=int(content["unfitted"]),
        recent=tuple(read_numbers(content["recent"], "recent")),
        last=tuple(float(value) for value in content["last"]),
        peak=None if peak is None else float(peak),
        quiet=int(content["quiet"]),
        alarmed=bool(content["alarmed"]),
    )
    sound = (
        math.isfinite(found.limit)
        and len(found.excesses) == len(found.taken) <= MOST_PEAKS
        and all(excess > 0 for excess in found.excesses)
        and 0 <= found.since <= found.samples
        and len(found.last) < plan.enter_after
        and len(found.recent) == plan.drift_samples
        and plan.typical > 0
    )
    if not sound:
        raise ValueError("its numbers contradict each other")
    return plan, found

"""The alert budget, kept while a threshold is at work.

A threshold keeps its budget on data like that which it was fitted on. Where data drifts, it does
not, so events are counted: far too many raise the limit for a while. Three things keep that from
hiding an incident: nothing is raised while an event is open, and in the first day of scores only by
twice as many events; one raise at most doubles the limit; and it falls back by itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promad.clock import DAY_SECONDS
from promad.data.rows import Move, move_rows
from promad.errors import DataError
from promad.events.hysteresis import Hysteresis
from promad.thresholds import Fit, Threshold, ThresholdSettings, pot
from promad.thresholds.threshold_state import (
    Constant,
    Flags,
    Scores,
    ThresholdState,
    follow_each,
    read_numbers,
)

TOO_MANY = 3.0
"""Multiples of the budget that raise the limit."""

FEWEST_EVENTS = 3
EARLY = 2
"""How many times as many events it takes before a day of scores was seen."""
MOST_AT_ONCE = 2.0
MOST = 10.0
"""The largest multiple of the threshold's own limit."""

LOWERED_PER_DAY = 0.2

TYPICAL = "typical"
"""In the parameters of a fleet's threshold: the median, over time, of the highest score of all
groups over the limit."""

_MOST_KEPT = 20160
_MOST_KEPT_OF_ALL = 1_000_000
"""Of the highest score of all groups: every one, as its median is compared."""
_MOST_KEPT_OF_MANY = 1008
"""Of each group of a fleet: the highest score of every ten minutes."""


class RecentScores:
    """The scores of the last seven days of each group, or the highest of each `thinned` in a row.

    `most` of them are kept, in a ring (most, groups): those of one sample are next to each other.
    """

    def __init__(self, groups: int, most: int, thinned: int) -> None:
        self.thinned = thinned
        self._most = most
        self._kept = np.empty((most, groups))
        self._added = np.zeros(groups, np.int64)
        self._block = np.full(groups, -np.inf)
        self._in_block = np.zeros(groups, np.int64)

    def add(self, scores: Scores, taken: NDArray[np.bool_]) -> None:
        """Add one score of each group that is taken."""
        if self.thinned == 1:
            rows = np.flatnonzero(taken)
            self._kept[self._added[rows] % self._most, rows] = scores[rows]
            self._added[rows] += 1
            return
        self._block = np.where(taken, np.maximum(self._block, scores), self._block)
        self._in_block += taken
        full = np.flatnonzero(self._in_block >= self.thinned)
        self._kept[self._added[full] % self._most, full] = self._block[full]
        self._added[full] += 1
        self._block[full], self._in_block[full] = -np.inf, 0

    def of(self, group: int) -> Scores:
        """What is kept of a group, oldest first: float64 (scores,)."""
        count, end = min(int(self._added[group]), self._most), int(self._added[group])
        return np.asarray(self._kept[np.arange(end - count, end) % self._most, group])

    def block(self, group: int) -> list[float]:
        """The scores that are not yet `thinned` in number, the highest in place of each."""
        return [float(self._block[group])] * int(self._in_block[group])

    def adopt(self, other: RecentScores, move: Move) -> None:
        """Continue the groups that are moved here; both keep as many scores."""
        move_rows(
            move,
            (other._kept.T, self._kept.T),
            (other._added, self._added),
            (other._block, self._block),
            (other._in_block, self._in_block),
        )

    def put(self, group: int, scores: list[float], block: list[float]) -> None:
        """Let a group continue from what `of` and `block` gave."""
        newest = scores[-self._most :]
        self._kept[: len(newest), group], self._added[group] = newest, len(newest)
        self._block[group], self._in_block[group] = max(block, default=-math.inf), len(block)


class Controlled:
    """A threshold at work that is raised where its alert budget is far exceeded.

    Time is counted in scored samples. Once no event is open and more than three times the budget of
    a week (and at least three events) have begun in the last seven days and since the last
    judgement, the threshold is fitted again on the last seven days. In the first day it takes twice
    as many: a burst of incidents in a day is no reason to look away. What the new limit is above
    the present one becomes a factor on all limits, at most `MOST_AT_ONCE` times the former one.
    While the last seven days keep the budget, the factor falls by 20 % a day, down to 1.

    Per group: scored `samples`, the samples at which the newest events `begun`, the `factor` on
    limits (1 to `MOST`), how often it was raised, one sentence on the last judgement, and the
    sample at which that was.
    """

    def __init__(
        self,
        own: ThresholdState,
        settings: ThresholdSettings,
        refit: Fit,
        groups: int,
        most_kept: int = _MOST_KEPT,
    ) -> None:
        self._own, self._settings, self._refit = own, settings, refit
        self._day, self._week = (
            max(round(days * DAY_SECONDS / settings.step), 1) for days in (1, 7)
        )
        thinned = -(-self._week // most_kept)
        self._recent = RecentScores(groups, -(-self._week // thinned), thinned)
        self._events = Hysteresis.begin(
            groups,
            settings.enter_after,
            settings.leave_after,
            settings.leave_below,
            typical=settings.typical,
        )
        self._samples, self._judged_at, self._adapted = (
            np.zeros(groups, np.int64) for _ in range(3)
        )
        self._begun: list[list[int]] = [[] for _ in range(groups)]
        self._remembered, self._unjudged = (np.zeros(groups, np.int64) for _ in range(2))
        self._oldest = np.full(groups, np.inf)
        self._factor = np.ones(groups)
        self._why = [""] * groups

    @property
    def adaptations(self) -> NDArray[np.int64]:
        return self._adapted.copy()

    def explain(self, group: int) -> str:
        return self._why[group]

    def adopt(self, other: Controlled, move: Move) -> None:
        """Continue the groups that are moved here from another state of the same threshold."""
        self._own.adopt(other._own, move)
        self._recent.adopt(other._recent, move)
        self._events.adopt(other._events, move)
        move_rows(
            move,
            (other._samples, self._samples),
            (other._judged_at, self._judged_at),
            (other._adapted, self._adapted),
            (other._begun, self._begun),
            (other._remembered, self._remembered),
            (other._unjudged, self._unjudged),
            (other._oldest, self._oldest),
            (other._factor, self._factor),
            (other._why, self._why),
        )

    def limits(self) -> Scores:
        return self._own.limits() * self._factor

    def follow(
        self, scores: Scores, recent: Scores | None = None, held: Flags | None = None
    ) -> Scores:
        own = self._own.follow(scores, recent, held)
        limits, scored = own * self._factor, ~np.isnan(scores)
        self._recent.add(scores, np.isfinite(scores))
        self._lower(scored if held is None else scored & ~held)
        lasting = self._events.find_lasting(scores, recent, limits)
        self._count(scores > limits, scored, lasting)
        if self._unjudged.any():
            for group in np.flatnonzero(self._find_too_many()).tolist():
                self._raise(group, float(own[group]))
        return limits

    def follow_series(self, scores: Scores) -> Scores:
        return follow_each(self, scores)

    def _lower(self, scored: NDArray[np.bool_]) -> None:
        """Let the factor fall where the last seven days kept the budget."""
        if (self._factor == 1).all():
            return
        kept = math.pow(1 - LOWERED_PER_DAY, self._settings.step / DAY_SECONDS)
        falls = scored & (self._remembered <= self._settings.false_alarms_per_week)
        self._factor = np.where(falls, np.maximum(self._factor * kept, 1.0), self._factor)

    def _count(self, anomalous: Flags, scored: Flags, lasting: Flags) -> None:
        """Count one more sample, and the events that begin with it; forget those too long ago."""
        began = self._events.advance(anomalous, scored, lasting).began
        self._samples += scored
        over = scored & (self._oldest <= self._samples - self._week)
        for group in np.flatnonzero(over | began).tolist():
            begun = self._begun[group]
            begun[: int(over[group])] = []
            begun += [int(self._samples[group])] * bool(began[group])
            self._update(group)

    def _update(self, group: int) -> None:
        begun, judged_at = self._begun[group], self._judged_at[group]
        self._remembered[group] = len(begun)
        self._unjudged[group] = sum(at > judged_at for at in begun)
        self._oldest[group] = begun[0] if begun else np.inf

    def _find_too_many(self) -> NDArray[np.bool_]:
        times = np.where(self._samples < self._day, EARLY, 1)
        too_many = self._unjudged > times * TOO_MANY * self._settings.false_alarms_per_week
        enough = self._unjudged >= times * FEWEST_EVENTS
        return np.asarray(too_many & enough & ~self._events.open)

    def _raise(self, group: int, own: float) -> None:
        """Fit again for a group, beside the limit that the threshold has by itself."""
        count = int(self._unjudged[group])
        self._judged_at[group] = self._samples[group]
        self._update(group)
        thinned = self._recent.thinned
        settings = replace(
            self._settings,
            step=self._settings.step * thinned,
            enter_after=-(-self._settings.enter_after // thinned),
            leave_after=-(-self._settings.leave_after // thinned),
        )
        try:
            level = self._refit(self._recent.of(group), settings).value
        except DataError as error:
            self._why[group] = f"{count} events exceed the alert budget, but {error}"
            return
        before = float(self._factor[group])
        factor = min(level / own, before * MOST_AT_ONCE, MOST)
        if factor <= before:
            self._why[group] = (
                f"{count} events exceed the alert budget, but a new fit gives {level:.4g}, which "
                "is not higher"
            )
            return
        self._factor[group] = factor
        self._adapted[group] += 1
        self._why[group] = (
            f"threshold raised from {own * before:.4g} to {own * factor:.4g}: {count} events "
            f"began, {self._settings.false_alarms_per_week:g} per week are allowed"
        )

    def to_json(self, group: int) -> dict[str, Any]:
        return {
            "standing": self._own.to_json(group),
            "recent": self._recent.of(group).tolist(),
            "block": self._recent.block(group),
            "samples": int(self._samples[group]),
            "begun": list(self._begun[group]),
            "above": int(self._events.above[group]),
            "below": int(self._events.below[group]),
            "open": bool(self._events.open[group]),
            "factor": float(self._factor[group]),
            "adapted": int(self._adapted[group]),
            "why": self._why[group],
            "judged_at": int(self._judged_at[group]),
        }

    def resume(self, group: int, content: Mapping[str, Any]) -> None:
        """Continue a group from the state described, if it is one of this same threshold.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: if it is not.
        """
        factor = float(content["factor"])
        if not 1 <= factor <= MOST:
            raise ValueError(f"the factor {factor:g} is not between 1 and {MOST:g}")
        recent = read_numbers(content["recent"], "recent scores")
        block = read_numbers(content["block"], "the block")
        begun = [int(at) for at in read_numbers(content["begun"], "begun")]
        counts = [int(content[name]) for name in ("samples", "judged_at", "adapted")]
        above, below = int(content["above"]), int(content["below"])
        self._own.resume(group, content["standing"])
        self._recent.put(group, recent, block)
        self._events.put(group, bool(content["open"]), above, below)
        self._samples[group], self._judged_at[group], self._adapted[group] = counts
        self._begun[group], self._factor[group] = begun, factor
        self._why[group] = str(content["why"])
        self._update(group)


def control(
    threshold: Threshold, settings: ThresholdSettings, groups: int = 1, refit: Fit = pot.fit
) -> Controlled:
    """A threshold at work, with the controller over it, before the first scores."""
    return Controlled(threshold.begin(groups), settings, refit, groups)


class FleetControlled:
    """Limits of many groups that share one alert budget, which is counted in incidents.

    What all groups exceed together raises all limits: at each sample only the highest score over
    its limit counts, so that a fault on forty hosts counts once. They are raised by as much as the
    typical highest score has risen, if that is known of training: a fleet has real incidents every
    week, and these must not raise the limits of all groups. A group that by itself uses more than
    its share of the budget raises its own limit alone.
    """

    def __init__(self, own: Controlled, fleet: Controlled) -> None:
        self._own, self._fleet = own, fleet

    @property
    def adaptations(self) -> NDArray[np.int64]:
        return self._own.adaptations

    @property
    def shared(self) -> Controlled:
        """The controller of all groups together, as that of one group."""
        return self._fleet

    def explain(self, group: int) -> str:
        return self._own.explain(group)

    def limits(self) -> Scores:
        return np.asarray(self._own.limits() * self._fleet.limits()[0], np.float64)

    def follow(
        self, scores: Scores, recent: Scores | None = None, held: Flags | None = None
    ) -> Scores:
        factor = self._fleet.limits()[0]
        own_recent = None if recent is None else recent / factor
        limits = self._own.follow(scores / factor, own_recent, held)
        self._fleet.follow(
            _find_highest(scores / limits),
            None if recent is None else _find_highest(recent / limits),
        )
        return np.asarray(limits * factor, np.float64)

    def follow_series(self, scores: Scores) -> Scores:
        return follow_each(self, scores)

    def adopt(self, other: FleetControlled, move: Move) -> None:
        """Continue the groups that are moved here, and what all groups have in common."""
        self._own.adopt(other._own, move)
        self._fleet = other._fleet

    def to_json(self, group: int) -> dict[str, Any]:
        return self._own.to_json(group)

    def resume(self, group: int, content: Mapping[str, Any]) -> None:
        self._own.resume(group, content)


def _choose_shared_fit(threshold: Threshold) -> Fit:
    """What all limits become a multiple of, once too many events began."""
    typical = float(threshold.parameters.get(TYPICAL, 0.0))

    def follow_typical(scores: Scores, settings: ThresholdSettings) -> Threshold:
        """The limit that the typical score is as far below as it was in training."""
        return Threshold("fixed", float(np.median(scores)) / typical, None, "")

    return follow_typical if typical > 0 else pot.fit


def _find_highest(ratios: Scores) -> Scores:
    """The highest of all groups, float64 (1,); NaN if none is known."""
    known = ratios[~np.isnan(ratios)]
    return np.array([known.max() if known.size else math.nan])


@dataclass(frozen=True)
class FleetBudget:
    """How groups share an alert budget.

    Attributes:
        per: `detector`, if it is one for all groups together, or `group`, if each has its own.
        max_group_share: of a shared budget, what one group may use before its limit is raised.
        shards: among how many daemons a shared budget is divided equally.
    """

    per: str = "detector"
    max_group_share: float = 0.5
    shards: int = 1


def put_to_work(
    threshold: Threshold,
    settings: ThresholdSettings,
    *,
    adapt: bool,
    groups: int = 1,
    fleet: FleetBudget | None = None,
) -> ThresholdState:
    """The threshold before the first scores, controlled unless a person gave it.

    Args:
        adapt: whether it may be raised to keep the alert budget.
        fleet: how groups share the budget; None if there is but one group.
    """
    own = threshold.begin(groups)
    if threshold.method == "fixed" or not adapt:
        return own
    if fleet is None:
        return Controlled(own, settings, pot.fit, groups)
    settings = replace(settings, usual_scale=None)  # the other groups say what is usual
    if fleet.per == "group":
        return Controlled(own, settings, pot.fit, groups, _MOST_KEPT_OF_MANY)
    share = settings.false_alarms_per_week * fleet.max_group_share
    of_group = replace(settings, false_alarms_per_week=share)
    of_highest = replace(
        settings,
        typical=float(threshold.parameters.get(TYPICAL, 0.0)),
        false_alarms_per_week=settings.false_alarms_per_week / fleet.shards,
    )
    together = Controlled(
        Constant(np.ones(1)), of_highest, _choose_shared_fit(threshold), 1, _MOST_KEPT_OF_ALL
    )
    return FleetControlled(Controlled(own, of_group, pot.fit, groups, _MOST_KEPT_OF_MANY), together)

"""The alert budget, watched over while a threshold is at work.

A threshold keeps its budget on data like that which it was fitted on. Where data drifts, it does
not, so events are counted: far too many raise the limit for a while. Three things keep that from
hiding an incident: nothing is raised while an event is open, nor before a day of scores was seen;
one raise at most doubles the limit; and it comes back by itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promad.errors import DataError
from promad.thresholds import Fit, Threshold, ThresholdSettings, pot
from promad.thresholds.threshold_state import Scores, Standing, followed, numbers

TOO_MANY = 3.0
"""Multiples of the budget that raise the limit."""

FEWEST_EVENTS = 3
MOST_AT_ONCE = 2.0
MOST = 10.0
"""The largest multiple of the threshold's own limit."""

LOWERED_PER_DAY = 0.2

_DAY = 86400.0
_MOST_KEPT = 20160
_CHUNK = 256


@dataclass(frozen=True)
class Recent:
    """The scores of the last seven days, or the highest of each `thinned` in a row.

    Attributes:
        most: how many are kept.
        chunks, newest: the scores, the former `_CHUNK` at a time.
        block: the scores that are not yet `thinned` in number.
    """

    most: int
    thinned: int
    chunks: tuple[NDArray[np.float64], ...] = ()
    newest: tuple[float, ...] = ()
    block: tuple[float, ...] = ()

    def add(self, score: float) -> Recent:
        block = (*self.block, score)
        if len(block) < self.thinned:
            return replace(self, block=block)
        newest = (*self.newest, max(block))
        if len(newest) < _CHUNK:
            return replace(self, newest=newest, block=())
        chunks = (*self.chunks, np.array(newest))[-(self.most // _CHUNK + 2) :]
        return replace(self, chunks=chunks, newest=(), block=())

    def scores(self) -> Scores:
        """What is kept, oldest first: float64 (scores,)."""
        return np.concatenate([*self.chunks, np.array(self.newest, np.float64)])[-self.most :]


@dataclass(frozen=True)
class Events:
    """Events counted by the rule of `promad.events.events`, in samples.

    Attributes:
        samples: how many were seen.
        begun: at which the newest events began.
        above: samples above the limit in a row, while none is open.
        below: samples not above it in a row, while one is.
        open: whether one is.
    """

    samples: int = 0
    begun: tuple[int, ...] = ()
    above: int = 0
    below: int = 0
    open: bool = False

    def follow(self, anomalous: bool, settings: ThresholdSettings, memory: int) -> Events:
        """After one more sample; events `memory` samples ago are forgotten."""
        samples = self.samples + 1
        begun = self.begun
        if begun and begun[0] <= samples - memory:
            begun = begun[1:]
        seen = Events(samples, begun, 0, 0, self.open)
        if self.open:
            below = 0 if anomalous else self.below + 1
            return replace(seen, below=below, open=below < settings.leave_after)
        above = self.above + 1 if anomalous else 0
        if above >= settings.enter_after:
            return replace(seen, open=True, begun=(*begun, samples))
        return replace(seen, above=above) if above else seen

    def since(self, sample: int) -> int:
        """How many of those remembered began after a sample."""
        return sum(1 for begun in self.begun if begun > sample)


@dataclass(frozen=True)
class Controlled:
    """A threshold at work that is raised where its alert budget is far exceeded.

    Time is counted in scored samples. Once no event is open and more than three times the budget of
    a week (and at least three events) have begun in the last seven days and since the last
    judgement, the threshold is fitted again on the last seven days; nothing is judged in the first
    day. A burst of incidents in a day is no reason to look away. What the new limit is above the
    present one becomes a factor on all limits, at most `MOST_AT_ONCE` times the former one. While
    the last seven days keep the budget, the factor falls by 20 % a day, down to 1.

    Attributes:
        standing: the threshold's own.
        settings: those it was fitted with.
        refit: how the limit for the last seven days is found.
        factor: by which its limits are multiplied, 1 to `MOST`.
        adapted: how often that was raised.
        why: one sentence on the last judgement; empty before.
        judged_at: the sample at which that was.
    """

    standing: Standing
    settings: ThresholdSettings
    refit: Fit
    recent: Recent
    events: Events = field(default_factory=Events)
    factor: float = 1.0
    adapted: int = 0
    why: str = ""
    judged_at: int = 0

    def follow(self, score: float) -> tuple[float, Controlled]:
        own, standing = self.standing.follow(score)
        limit = own * self.factor
        if math.isnan(score):
            return limit, self
        after = replace(
            self,
            standing=standing,
            recent=self.recent.add(score) if math.isfinite(score) else self.recent,
            events=self.events.follow(score > limit, self.settings, self._samples(7)),
            factor=self._lowered(),
        )
        return limit, after._raised(own) if after._too_many() else after

    def limits(self, scores: Scores) -> Scores:
        return followed(self, scores)[0]

    def _samples(self, days: float) -> int:
        return max(round(days * _DAY / self.settings.step), 1)

    def _lowered(self) -> float:
        """The factor one sample later."""
        if self.factor == 1 or len(self.events.begun) > self.settings.false_alarms_per_week:
            return self.factor
        kept = math.pow(1 - LOWERED_PER_DAY, self.settings.step / _DAY)
        return max(self.factor * kept, 1.0)

    def _too_many(self) -> bool:
        events = self.events
        if events.open or events.samples < self._samples(1):
            return False
        count = events.since(self.judged_at)
        return count >= FEWEST_EVENTS and count > TOO_MANY * self.settings.false_alarms_per_week

    def _raised(self, own: float) -> Controlled:
        """The standing after fitting again, beside the limit that the threshold has by itself."""
        count = self.events.since(self.judged_at)
        judged = replace(self, judged_at=self.events.samples)
        thinned = self.recent.thinned
        settings = replace(
            self.settings,
            step=self.settings.step * thinned,
            enter_after=-(-self.settings.enter_after // thinned),
            leave_after=-(-self.settings.leave_after // thinned),
        )
        try:
            level = self.refit(self.recent.scores(), settings).value
        except DataError as error:
            return replace(judged, why=f"{count} events were too many, but {error}")
        factor = min(level / own, self.factor * MOST_AT_ONCE, MOST)
        if factor <= self.factor:
            return replace(judged, why=f"{count} events were too many, but {level:.4g} is no raise")
        why = (
            f"the limit was raised from {own * self.factor:.4g} to {own * factor:.4g}, because "
            f"{count} events began where {self.settings.false_alarms_per_week:g} a week are allowed"
        )
        return replace(judged, factor=factor, adapted=self.adapted + 1, why=why)

    def to_json(self) -> dict[str, Any]:
        events = self.events
        return {
            "standing": self.standing.to_json(),
            "recent": self.recent.scores().tolist(),
            "block": list(self.recent.block),
            "samples": events.samples,
            "begun": list(events.begun),
            "above": events.above,
            "below": events.below,
            "open": events.open,
            "factor": self.factor,
            "adapted": self.adapted,
            "why": self.why,
            "judged_at": self.judged_at,
        }

    def resumed(self, content: Mapping[str, Any]) -> Controlled:
        """The standing described, if it is one of this same threshold.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: if it is not.
        """
        factor = float(content["factor"])
        if not 1 <= factor <= MOST:
            raise ValueError(f"the factor {factor:g} is not between 1 and {MOST:g}")
        recent = replace(
            self.recent,
            chunks=(np.array(numbers(content["recent"], "recent scores"), np.float64),),
            block=numbers(content["block"], "the block"),
        )
        events = Events(
            samples=int(content["samples"]),
            begun=tuple(int(begun) for begun in numbers(content["begun"], "begun")),
            above=int(content["above"]),
            below=int(content["below"]),
            open=bool(content["open"]),
        )
        return replace(
            self,
            standing=self.standing.resumed(content["standing"]),
            recent=recent,
            events=events,
            factor=factor,
            adapted=int(content["adapted"]),
            why=str(content["why"]),
            judged_at=int(content["judged_at"]),
        )


def control(threshold: Threshold, settings: ThresholdSettings, refit: Fit = pot.fit) -> Controlled:
    """A threshold at work, with the controller over it, before the first score."""
    week = max(round(7 * _DAY / settings.step), 1)
    thinned = -(-week // _MOST_KEPT)
    return Controlled(threshold.begin(), settings, refit, Recent(-(-week // thinned), thinned))


def resume_control(
    threshold: Threshold, settings: ThresholdSettings, content: Any, refit: Fit = pot.fit
) -> Controlled:
    """The same, where `Controlled.to_json` described it.

    Raises:
        DataError: if `content` does not describe such a standing.
    """
    try:
        return control(threshold, settings, refit).resumed(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"the stored standing of the {threshold.method} threshold cannot be used "
            f"({type(error).__name__}: {error}) — remove it to begin afresh"
        ) from error

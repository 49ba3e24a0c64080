"""Thresholds at work on one group, score by score: slow twins of `promad.thresholds`.

Each `follow` returns the limit that a score is held to, and what follows the next one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promad.errors import DataError
from promad.thresholds import Fit, Threshold, ThresholdSettings, pot
from promad.thresholds.controller import (
    EARLY,
    FEWEST_EVENTS,
    LOWERED_PER_DAY,
    MOST,
    MOST_AT_ONCE,
    TOO_MANY,
)
from promad.thresholds.epsilon import FACTORS, Errors, Flags, epsilon_of, mirrored
from promad.thresholds.history import Plan as HistoryPlan
from promad.thresholds.history import _sequence, history_from_json
from promad.thresholds.peaks import (
    FEWEST_PEAKS,
    MOST_PEAKS,
    REFIT_AFTER,
    Plan,
    fit_tail,
    from_log,
    peaks_from_json,
)
from promad.thresholds.threshold_state import LOWEST_LIMIT

Scores = NDArray[np.float64]
_DAY = 86400.0
_MOST_KEPT = 20160
_CHUNK = 256


@dataclass(frozen=True)
class Constant:
    value: float

    def follow(self, score: float, recent=None, is_held=False) -> tuple[float, Constant]:
        return self.value, self


@dataclass(frozen=True)
class Peaks:
    """SPOT or DSPOT at work.

    Departures: peaks are those of clusters and of the lowest of the last `enter_after` values, as
    events are; a cluster that holds an alarm teaches nothing at all; the tail is that of the newest
    `MOST_PEAKS` peaks and fitted at every `REFIT_AFTER`-th.

    Attributes:
        limit: what values are held to.
        excesses: the newest peaks over the level.
        taken: how many samples had been counted when each was over.
        since: how many had been when the oldest of them began to be looked for.
        samples: how many were counted: all but alarms.
        unfitted: peaks since the tail was fitted.
        recent: the newest normal values, before the drift is subtracted.
        last: the last `enter_after - 1` values.
        peak: the highest of the cluster that is not over yet, if there is one.
        quiet: samples since it was last above the level.
        alarmed: whether it holds an alarm.
    """

    plan: Plan
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

    def follow(self, score: float, recent=None, is_held=False) -> tuple[float, Peaks]:
        drift = math.fsum(self.recent) / len(self.recent) if self.recent else 0.0
        limit = self._in_unit(drift + self.limit)
        if math.isnan(score) or is_held:
            return limit, self
        plain = math.log1p(max(score, 0.0) / self.plan.typical)
        recent = self.recent
        if self.plan.drift_samples and score <= limit:
            recent = (*recent, plain)[-self.plan.drift_samples :]
        return limit, self._counted(plain - drift, recent)

    def _in_unit(self, value: float) -> float:
        limit = from_log(value, self.plan.typical)
        return max(min(limit, self.plan.highest_limit), LOWEST_LIMIT)

    def _counted(self, value: float, recent: tuple[float, ...]) -> Peaks:
        """The standing after one more value, less its drift."""
        row = (*self.last, value)
        complete = len(row) == self.plan.enter_after
        lowest = min(row) if complete else -math.inf
        alarm = lowest > self.limit
        last = row[1:] if complete else row
        samples = self.samples + (not alarm)
        if lowest > self.plan.level:
            peak = lowest if self.peak is None else max(self.peak, lowest)
            alarmed = alarm or self.alarmed
            return replace(
                self,
                samples=samples,
                recent=recent,
                last=last,
                peak=peak,
                quiet=0,
                alarmed=alarmed,
            )
        quiet = self.quiet + (self.peak is not None)
        after = replace(self, samples=samples, recent=recent, last=last, quiet=quiet)
        return after._cluster_over() if quiet >= self.plan.gap else after

    def _cluster_over(self) -> Peaks:
        after = replace(self, peak=None, quiet=0, alarmed=False)
        if self.alarmed or self.peak is None:
            return after
        excesses = (*self.excesses, self.peak - self.plan.level)
        taken = (*self.taken, self.samples)
        dropped = max(len(taken) - MOST_PEAKS, 0)
        after = replace(
            after,
            excesses=excesses[dropped:],
            taken=taken[dropped:],
            since=taken[dropped - 1] if dropped else self.since,
            unfitted=self.unfitted + 1,
        )
        return after._fitted() if after.unfitted >= REFIT_AFTER else after

    def _fitted(self) -> Peaks:
        """The limit by the tail as it is now; as it was, where the tail has nothing to say."""
        after = replace(self, unfitted=0)
        share = self.plan.chance * (self.samples - self.since) / len(self.excesses)
        if len(self.excesses) < FEWEST_PEAKS or share >= 1:
            return after
        tail = fit_tail(np.array(self.excesses))
        return replace(after, limit=self.plan.level + tail.level(share))


@dataclass(frozen=True, eq=False)
class History:
    """Dynamic thresholding at work: each score is judged by the newest `history`, itself included.

    This is the published method with a stride of one sample instead of a batch of 70, so that
    nothing waits. Departures: only a score that is itself beyond epsilon is anomalous, not its
    whole buffer; its sequence is the stretch of buffers that reaches it, and is held to the highest
    score of the window before it that belongs to no earlier anomaly. A score of 0 is never too low,
    an infinite one is always too high and kept out of the history.

    The limit is the epsilon of the window. It can matter only to a score further than 2.5 standard
    deviations from the mean, so it is searched for only then; until the next time it stays, but
    not below those 2.5. An anomaly always gets a limit below it (one that is too low, a limit by
    which it is as many times too high as its mirror image is), a score that is pruned gets itself.

    Attributes:
        plan: what stays the same.
        scores: the newest, at most `history`, float64 (samples,).
        known: which of them belong to anomalies, bool (samples,).
        epsilon: the last that was found.
    """

    plan: HistoryPlan
    scores: Errors
    known: Flags
    epsilon: float

    def follow(self, score: float, recent=None, is_held=False) -> tuple[float, History]:
        if not math.isfinite(score):
            return max(self.epsilon, LOWEST_LIMIT), self
        before = max(len(self.scores) + 1 - self.plan.history, 0)
        scores = np.append(self.scores[before:], score)
        known = np.append(self.known[before:], False)
        limit, found, epsilon = _judged(self.plan, scores, known, self.epsilon)
        known[len(known) - found :] = True
        return limit, replace(self, scores=scores, known=known, epsilon=epsilon)


def _judged(
    plan: HistoryPlan, scores: Errors, known: Flags, before: float
) -> tuple[float, int, float]:
    """The limit of the newest score, the length of the sequence it ends (0: none), and epsilon."""
    mean, std, newest = float(scores.mean()), float(scores.std()), float(scores[-1])
    lowest = mean + float(FACTORS[0]) * std
    if std <= 0 or abs(newest - mean) < lowest - mean:
        return max(before, lowest, newest, LOWEST_LIMIT), 0, before
    upward = newest > mean
    errors = scores if upward else mirrored(scores, mean)
    epsilon = epsilon_of(errors, mean, std, plan.error_buffer)
    kept = epsilon if upward else before
    length = 0
    if plan.gate.opens(std, float(scores.max())) and newest > 2 * LOWEST_LIMIT:
        length = _sequence(plan, errors, known, epsilon)
    if length == 0:
        return max(kept, newest, LOWEST_LIMIT), 0, kept
    limit = epsilon if upward else newest * epsilon / float(errors[-1])
    return max(min(limit, math.nextafter(newest, 0.0)), LOWEST_LIMIT), length, kept


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
        below: samples that do not keep it open in a row, while one is.
        open: whether one is.
    """

    samples: int = 0
    begun: tuple[int, ...] = ()
    above: int = 0
    below: int = 0
    open: bool = False

    def follow(
        self, anomalous: bool, lasting: bool, settings: ThresholdSettings, memory: int
    ) -> Events:
        """After one more sample; events `memory` samples ago are forgotten."""
        samples = self.samples + 1
        begun = self.begun
        if begun and begun[0] <= samples - memory:
            begun = begun[1:]
        seen = Events(samples, begun, 0, 0, self.open)
        if self.open:
            below = 0 if lasting else self.below + 1
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
    judgement, the threshold is fitted again on the last seven days. In the first day it takes
    twice as many: a burst of incidents in a day is no reason to look away. What the new limit is
    above the present one becomes a factor on all limits, at most `MOST_AT_ONCE` times the former
    one. While the last seven days keep the budget, the factor falls by 20 % a day, down to 1.

    Attributes:
        standing: the threshold's own.
        settings: those it was fitted with.
        refit: how the limit for the last seven days is found.
        factor: by which its limits are multiplied, 1 to `MOST`.
        adapted: how often that was raised.
        why: one sentence on the last judgement; empty before.
        judged_at: the sample at which that was.
    """

    standing: Any
    settings: ThresholdSettings
    refit: Fit
    recent: Recent
    events: Events = field(default_factory=Events)
    factor: float = 1.0
    adapted: int = 0
    why: str = ""
    judged_at: int = 0

    def follow(self, score: float, recent=None, is_held=False) -> tuple[float, Controlled]:
        own, standing = self.standing.follow(score, recent, is_held)
        limit = own * self.factor
        if math.isnan(score):
            return limit, self
        lasting, week = self._is_lasting(score, recent, limit), self._samples(7)
        after = replace(
            self,
            standing=standing,
            recent=self.recent.add(score) if math.isfinite(score) else self.recent,
            events=self.events.follow(score > limit, lasting, self.settings, week),
            factor=self.factor if is_held else self._lowered(),
        )
        return limit, after._raised(own) if after._too_many() else after

    def _is_lasting(self, score: float, recent: float | None, limit: float) -> bool:
        if recent is None:
            return score > limit
        return recent > self.settings.leave_below * limit

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
        if events.open:
            return False
        times = EARLY if events.samples < self._samples(1) else 1
        count = events.since(self.judged_at) / times
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


def begin(threshold: Threshold) -> Any:
    """The twin of `Threshold.begin`."""
    if threshold.method in {"spot", "dspot"}:
        plan, found = peaks_from_json(threshold.parameters)
        own = {name: getattr(found, name) for name in found.__dataclass_fields__}
        return Peaks(plan, **own)
    if threshold.method == "dynamic":
        history_plan, history = history_from_json(threshold.parameters)
        return History(history_plan, history.scores, history.known, history.epsilon)
    return Constant(threshold.value)


def control(threshold: Threshold, settings: ThresholdSettings, refit: Fit = pot.fit) -> Controlled:
    """The twin of `promad.thresholds.controller.control`."""
    week = max(round(7 * _DAY / settings.step), 1)
    thinned = -(-week // _MOST_KEPT)
    return Controlled(begin(threshold), settings, refit, Recent(-(-week // thinned), thinned))


def limits_of(state: Any, scores: Scores) -> Scores:
    """The limits of scores that follow one another: (samples,) to (samples,)."""
    limits = np.empty(len(scores))
    for row, score in enumerate(scores.tolist()):
        limits[row], state = state.follow(score)
    return limits

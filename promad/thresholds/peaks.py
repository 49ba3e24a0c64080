"""The streaming tail of SPOT and DSPOT: peaks of normal scores keep the limit up to date.

Siffer et al. 2017, "Anomaly detection in streams with extreme value theory", KDD, sections 4.3
(SPOT: an alarm teaches nothing, a peak below the limit joins the tail) and 4.4 (DSPOT: the same on
the distance from a moving mean of normal values).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promad.thresholds.tail import Tail, by_likelihood
from promad.thresholds.threshold_state import LOWEST_LIMIT, Scores, followed, numbers

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


def held(values: Values, enter_after: int) -> Values:
    """The lowest of each `enter_after` values in a row: (samples,) to (samples - enter_after + 1,).

    >>> held(np.array([1.0, 3.0, 2.0, 5.0]), 2)
    array([1., 2., 2.])
    """
    return np.lib.stride_tricks.sliding_window_view(values, enter_after).min(axis=1)


def fitted(excesses: Values) -> Tail:
    """The tail of excesses above 0."""
    shape, scale = by_likelihood(excesses)
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

    def follow(self, score: float) -> tuple[float, Peaks]:
        drift = math.fsum(self.recent) / len(self.recent) if self.recent else 0.0
        limit = self._in_unit(drift + self.limit)
        if math.isnan(score):
            return limit, self
        plain = math.log1p(max(score, 0.0) / self.plan.typical)
        recent = self.recent
        if self.plan.drift_samples and score <= limit:
            recent = (*recent, plain)[-self.plan.drift_samples :]
        return limit, self._counted(plain - drift, recent)

    def limits(self, scores: Scores) -> Scores:
        return followed(self, scores)[0]

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
        tail = fitted(np.array(self.excesses))
        return replace(after, limit=self.plan.level + tail.level(share))

    def to_json(self) -> dict[str, Any]:
        described = asdict(self)
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in described.items()
        }

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> Peaks:
        """The standing that `to_json` described.

        Raises:
            KeyError, TypeError, ValueError: if `content` is not such a description.
        """
        peak = content["peak"]
        found = Peaks(
            plan=Plan(**content["plan"]),
            limit=float(content["limit"]),
            excesses=numbers(content["excesses"], "excesses"),
            taken=tuple(int(sample) for sample in numbers(content["taken"], "taken")),
            samples=int(content["samples"]),
            since=int(content["since"]),
            unfitted=int(content["unfitted"]),
            recent=numbers(content["recent"], "recent"),
            last=tuple(float(value) for value in content["last"]),
            peak=None if peak is None else float(peak),
            quiet=int(content["quiet"]),
            alarmed=bool(content["alarmed"]),
        )
        found._check()
        return found

    def resumed(self, content: Mapping[str, Any]) -> Peaks:
        """The standing described, if it is one of this same threshold.

        Raises:
            KeyError, TypeError, ValueError: if it is not.
        """
        found = Peaks.from_json(content)
        if found.plan != self.plan:
            raise ValueError("it is about another threshold")
        return found

    def _check(self) -> None:
        sound = (
            math.isfinite(self.limit)
            and len(self.excesses) == len(self.taken) <= MOST_PEAKS
            and all(excess > 0 for excess in self.excesses)
            and 0 <= self.since <= self.samples
            and len(self.last) < self.plan.enter_after
            and bool(self.recent) == (self.plan.drift_samples > 0)
            and self.plan.typical > 0
        )
        if not sound:
            raise ValueError("its numbers contradict each other")

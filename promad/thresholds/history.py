"""Dynamic thresholding at work: each new score is judged by those before it.

The search for epsilon and its source are in `promad.thresholds.epsilon`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from promad.data.rows import Move, move_rows
from promad.thresholds.epsilon import (
    FACTORS,
    Errors,
    Flags,
    Gate,
    anomalous_points,
    epsilon_of,
    mirrored,
    stretches_around,
)
from promad.thresholds.threshold_state import (
    LOWEST_LIMIT,
    NeverAdapted,
    Scores,
    follow_each,
    read_numbers,
)


@dataclass(frozen=True)
class Plan:
    """What stays the same; counts are samples."""

    gate: Gate
    history: int
    batch: int
    error_buffer: int
    minimum_drop: float
    mode: str


class History(NeverAdapted):
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

    Per group: the newest scores, right-aligned in (groups, history), how many there are, which of
    them belong to anomalies, and the last epsilon found.
    """

    def __init__(self, plan: Plan, each: HistoryOfOne, groups: int) -> None:
        super().__init__(groups)
        self.plan = plan
        self._scores = np.zeros((groups, plan.history))
        self._known = np.zeros((groups, plan.history), np.bool_)
        self._count = np.zeros(groups, np.int64)
        self._epsilon = np.zeros(groups)
        for group in range(groups):
            self._put(group, each)

    def _put(self, group: int, one: HistoryOfOne) -> None:
        count = len(one.scores)
        self._scores[group, -count:], self._known[group, -count:] = one.scores, one.known
        self._count[group], self._epsilon[group] = count, one.epsilon

    def adopt(self, other: History, move: Move) -> None:
        """Continue the groups that are moved here from another state of the same threshold."""
        move_rows(
            move,
            (other._scores, self._scores),
            (other._known, self._known),
            (other._count, self._count),
            (other._epsilon, self._epsilon),
        )

    def limits(self) -> Scores:
        return np.maximum(self._epsilon, LOWEST_LIMIT)

    def follow(
        self, scores: Scores, recent: Scores | None = None, held: Flags | None = None
    ) -> Scores:
        """As the published method does: its history holds the scores of events too."""
        limits, taken = self.limits(), np.isfinite(scores)
        rows = np.flatnonzero(taken)
        for each, newest in ((self._scores, scores), (self._known, np.zeros_like(taken))):
            each[rows, :-1] = each[rows, 1:]
            each[rows, -1] = newest[rows]
        self._count[rows] = np.minimum(self._count[rows] + 1, self.plan.history)
        mean, std = self._moments()
        lowest = mean + float(FACTORS[0]) * std
        far = taken & (std > 0) & (np.abs(scores - mean) >= lowest - mean)
        quiet = taken & ~far
        limits[quiet] = np.max(
            [
                self._epsilon[quiet],
                lowest[quiet],
                scores[quiet],
                np.full(quiet.sum(), LOWEST_LIMIT),
            ],
            axis=0,
        )
        for group in np.flatnonzero(far):
            limits[group] = self._judge(int(group), float(mean[group]), float(std[group]))
        return limits

    def _moments(self) -> tuple[Scores, Scores]:
        """Mean and standard deviation of the scores held, both (groups,)."""
        held = np.arange(self.plan.history) >= self.plan.history - self._count[:, np.newaxis]
        mean = np.where(held, self._scores, 0.0).sum(axis=1) / self._count
        away = np.where(held, self._scores - mean[:, np.newaxis], 0.0)
        return mean, np.sqrt(np.square(away).sum(axis=1) / self._count)

    def _judge(self, group: int, mean: float, std: float) -> float:
        """The limit of a newest score that is far from the mean."""
        count = int(self._count[group])
        scores, known = self._scores[group, -count:], self._known[group, -count:]
        before = float(self._epsilon[group])
        limit, found, epsilon = _judge_far(self.plan, scores, known, before, mean, std)
        known[count - found :] = True
        self._epsilon[group] = epsilon
        return limit

    def follow_series(self, scores: Scores) -> Scores:
        if self.plan.mode == "batch":
            columns = [self._batch_limits(group, own) for group, own in enumerate(scores.T)]
            return np.column_stack(columns)
        return follow_each(self, scores)

    def _batch_limits(self, group: int, scores: Scores) -> Scores:
        """A limit that is below each score of the sequences in `scores`, and not below others."""
        plan, rows, count = self.plan, np.flatnonzero(np.isfinite(scores)), self._count[group]
        before, epsilon = self._scores[group, -count:], float(self._epsilon[group])
        points = anomalous_points(
            np.concatenate([before, scores[rows]]),
            plan.gate,
            history=plan.history,
            batch=plan.batch,
            error_buffer=plan.error_buffer,
            minimum_drop=plan.minimum_drop,
            ignore=len(before),
            complete=True,
        )[len(before) :]
        limits = np.full(len(scores), epsilon)
        limits[rows] = np.where(
            np.isnan(points),
            np.maximum(scores[rows], epsilon),
            np.minimum(np.nextafter(scores[rows], 0), epsilon),
        )
        return np.asarray(np.maximum(limits, LOWEST_LIMIT), np.float64)

    def of(self, group: int) -> HistoryOfOne:
        """One group's part."""
        count = int(self._count[group])
        return HistoryOfOne(
            self._scores[group, -count:].copy(),
            self._known[group, -count:].copy(),
            float(self._epsilon[group]),
        )

    def to_json(self, group: int) -> dict[str, Any]:
        return self.of(group).to_json(self.plan)

    def resume(self, group: int, content: Mapping[str, Any]) -> None:
        """Continue a group from the state described, if it is one of this same threshold.

        Raises:
            KeyError, TypeError, ValueError: if it is not.
        """
        plan, found = history_from_json(content)
        if plan != self.plan:
            raise ValueError("it is about another threshold")
        self._put(group, found)


@dataclass(frozen=True, eq=False)
class HistoryOfOne:
    """One group's part of `History`, as fitting makes it and as it is stored.

    Attributes:
        scores: the newest, at most `history`, float64 (samples,).
        known: which of them belong to anomalies, bool (samples,).
        epsilon: the last that was found.
    """

    scores: Errors
    known: Flags
    epsilon: float

    def to_json(self, plan: Plan) -> dict[str, Any]:
        """Plain values, from which `history_from_json` makes the same."""
        return {
            "plan": asdict(plan),
            "scores": self.scores.tolist(),
            "known": np.flatnonzero(self.known).tolist(),
            "epsilon": self.epsilon,
        }


def history_from_json(content: Mapping[str, Any]) -> tuple[Plan, HistoryOfOne]:
    """The plan and the state that `to_json` described.

    Raises:
        KeyError, IndexError, TypeError, ValueError: if `content` is not such a description.
    """
    described = dict(content["plan"])
    plan = Plan(**{**described, "gate": Gate(**described["gate"])})
    scores = np.asarray(read_numbers(content["scores"], "scores"), np.float64)
    rows = [int(row) for row in read_numbers(content["known"], "known")]
    epsilon = float(content["epsilon"])
    if not (0 < len(scores) <= plan.history and math.isfinite(epsilon)):
        raise ValueError("its numbers contradict each other")
    if any(not 0 <= row < len(scores) for row in rows):
        raise ValueError("it marks scores that it does not hold")
    known = np.zeros(len(scores), np.bool_)
    known[rows] = True
    return plan, HistoryOfOne(scores, known, epsilon)


def _judge_far(
    plan: Plan, scores: Errors, known: Flags, before: float, mean: float, std: float
) -> tuple[float, int, float]:
    """The limit of the newest score, the length of the sequence it ends (0: none), and epsilon.

    The score is at least 2.5 standard deviations away from the mean.
    """
    newest = float(scores[-1])
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


def _sequence(plan: Plan, errors: Errors, known: Flags, epsilon: float) -> int:
    """How many samples the anomaly that ends in the newest one has; 0 if there is none."""
    high = plan.gate.high(errors, epsilon)
    if not high[-1]:
        return 0
    starts, _ = stretches_around(np.flatnonzero(high), plan.error_buffer, len(errors))
    start = int(starts[-1])
    others = errors[:start][~known[:start]]
    highest = float(errors[start:].max())
    if len(others) and highest - float(others.max()) < plan.minimum_drop * highest:
        return 0
    return len(errors) - start

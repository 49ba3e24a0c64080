"""Nonparametric dynamic thresholding: a limit that sets the newest errors apart from the others.

Hundman et al. 2018, "Detecting spacecraft anomalies using LSTMs and nonparametric dynamic
thresholding", KDD, sections 3.2 (the search for epsilon) and 3.3 (pruning). Errors are those after
smoothing; low ones are treated as high ones, mirrored at their mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promad.thresholds.threshold_state import (
    LOWEST_LIMIT,
    NeverAdapted,
    Scores,
    follow_each,
    read_numbers,
)

Errors = NDArray[np.float64]
Flags = NDArray[np.bool_]

FACTORS = np.arange(2.5, 12.0, 0.5)
"""How many standard deviations above the mean epsilon may lie."""

_WITHOUT_FACTOR = 12.0
_MOST_SEQUENCES = 5
_LARGEST_SHARE = 0.5
_SMALLEST_SHARE = 0.05


@dataclass(frozen=True)
class Gate:
    """How large errors must be beside what is predicted, to be looked at at all.

    Attributes:
        std: the standard deviation of the target.
        spread: its 95th less its 5th percentile.
        least: the largest error of a window must be above this. The paper's code has 0.05, for
            telemetry scaled to between -1 and 1.
    """

    std: float
    spread: float
    least: float = 0.0

    @staticmethod
    def of(target: Errors, least_share: float = 0.0) -> Gate:
        """The gate for a target, float64 (samples,) without NaN; `least` as a share of its spread.

        >>> Gate.of(np.arange(101.0), least_share=0.1).least
        9.0
        """
        low, high = np.quantile(target, [0.05, 0.95])
        spread = float(high - low)
        return Gate(float(target.std()), spread, least_share * spread)

    def at(self, start: int, end: int) -> Gate:
        """The gate of the window of those rows: itself."""
        return self

    def opens(self, std: float, highest: float) -> bool:
        """Whether a window of errors may hold anomalies."""
        varied = std > _SMALLEST_SHARE * self.std or highest > _SMALLEST_SHARE * self.spread
        return varied and highest > self.least

    def high(self, errors: Errors, epsilon: float) -> Flags:
        """Which errors set off a sequence."""
        return (errors >= epsilon) & (errors > _SMALLEST_SHARE * self.spread)


@dataclass(frozen=True, eq=False)
class MovingGate:
    """A gate for each window from the target beside it, as in the paper's code.

    Attributes:
        target: what was forecast, float64 (samples,) without NaN, row by row beside the errors.
        least: that of every gate, in the unit of the target.
    """

    target: Errors
    least: float = 0.05

    def at(self, start: int, end: int) -> Gate:
        """The gate of the window of those rows; `end` is the row after its last."""
        return replace(Gate.of(self.target[start:end]), least=self.least)


def epsilon_of(errors: Errors, mean: float, std: float, error_buffer: int) -> float:
    """The epsilon of a window: float64 (samples,), with the mean and the deviation that it has.

    Of all `mean + z * std`, the one above which the fewest samples in the fewest sequences take
    most away from the mean and the deviation; the highest of equals; `mean + 12 * std` if none
    leaves at most five sequences and half of the window. Samples within `error_buffer - 1` of a
    high one count as above.
    """
    best, chosen, high = -math.inf, _WITHOUT_FACTOR, -1
    if std <= 0 or mean == 0:
        return mean + _WITHOUT_FACTOR * std
    rows = np.flatnonzero(errors >= mean + FACTORS[0] * std)
    for factor in FACTORS.tolist():
        rows = rows[errors[rows] >= mean + factor * std]
        if len(rows) == 0:
            break
        if len(rows) != high:
            high = len(rows)
            worth = _worth(errors, rows, mean, std, error_buffer - 1)
        if worth >= best and worth > -math.inf:
            best, chosen = worth, factor
    return mean + chosen * std


def _worth(errors: Errors, rows: NDArray[np.int64], mean: float, std: float, reach: int) -> float:
    """What is gained by setting rows apart; -inf where they are too many."""
    starts, ends = stretches_around(rows, reach, len(errors))
    count = int((ends - starts).sum())
    sequences = int((ends - starts > 1).sum())
    if sequences > _MOST_SEQUENCES or count >= _LARGEST_SHARE * len(errors):
        return -math.inf
    others = np.delete(errors, rows)
    gained = (mean - others.mean()) / mean + (std - others.std()) / std
    return float(gained / (sequences**2 + count))


def stretches_around(
    rows: NDArray[np.int64], reach: int, samples: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the rows, each widened by `reach` both ways, begin and end (the row after).

    >>> stretches_around(np.array([1, 4, 9]), 1, 10)
    (array([0, 8]), array([ 6, 10]))
    """
    apart = np.flatnonzero(np.diff(rows) > 2 * reach + 1)
    first = rows[np.append(0, apart + 1)] if len(rows) else rows
    last = rows[np.append(apart, len(rows) - 1)] if len(rows) else rows
    return np.maximum(first - reach, 0), np.minimum(last + reach + 1, samples)


def mirrored(errors: Errors, mean: float) -> Errors:
    """Errors turned over at their mean, so that low ones are high."""
    return 2 * mean - errors


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

    def limits(self) -> Scores:
        return np.maximum(self._epsilon, LOWEST_LIMIT)

    def follow(self, scores: Scores) -> Scores:
        limits, taken = self.limits(), np.isfinite(scores)
        rows = np.flatnonzero(taken)
        for held, newest in ((self._scores, scores), (self._known, np.zeros_like(taken))):
            held[rows, :-1] = held[rows, 1:]
            held[rows, -1] = newest[rows]
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


def anomalous_points(
    errors: Errors,
    gate: Gate | MovingGate,
    *,
    history: int,
    batch: int,
    error_buffer: int,
    minimum_drop: float,
    ignore: int,
    complete: bool,
) -> Errors:
    """How far each error of a sequence is beyond epsilon; NaN outside: (samples,) to (samples,).

    The published form: windows of `history` errors, `batch` after each other, of which the first
    judges all from `ignore` on and the others their last `batch`. In units of the window's mean and
    standard deviation together, the most over all windows.

    Args:
        complete: whether the last window judges all that is left; the published one leaves out up
            to `batch - 1` errors between the last two.
    """
    found = np.full(len(errors), np.nan)
    if len(errors) == 0:
        return found
    windows = max(int((len(errors) - history) / batch), 0)
    for number in range(windows + 1):
        start = number * batch
        last = number == windows
        end = len(errors) if last else start + history
        newest = end - start - batch if last and not complete else history - batch
        judged = ignore if number == 0 else max(newest, ignore - start)
        known, own = ~np.isnan(found[start:end]), gate.at(start, end)
        excess = _window(errors[start:end], known, own, judged, error_buffer, minimum_drop)
        found[start:end] = np.fmax(found[start:end], excess)
    return found


def _window(
    errors: Errors, known: Flags, gate: Gate, judged: int, error_buffer: int, drop: float
) -> Errors:
    """The same for one window, of which the errors from row `judged` on are eligible."""
    excess = np.full(len(errors), np.nan)
    if not gate.opens(float(errors.std()), float(errors.max())):
        return excess
    mean, std = float(errors.mean()), float(errors.std())
    both = [errors, mirrored(errors, mean)]
    limits = [epsilon_of(each, mean, std, error_buffer) for each in both]
    beyond = np.max(
        [np.abs(each - limit) for each, limit in zip(both, limits, strict=True)], axis=0
    )
    for each, limit in zip(both, limits, strict=True):
        rows = _pruned(each, known, gate.high(each, limit) & (std > 0), judged, error_buffer, drop)
        excess[rows] = beyond[rows] / (mean + std)
    return excess


def _pruned(
    errors: Errors, known: Flags, high: Flags, judged: int, error_buffer: int, drop: float
) -> Flags:
    """Which rows belong to sequences that stand out."""
    starts, ends = stretches_around(np.flatnonzero(high), error_buffer, len(errors))
    starts = np.maximum(starts, judged)
    eligible = ends > starts
    starts, ends = starts[eligible], ends[eligible]
    inside = np.zeros(len(errors), np.bool_)
    for start, end in zip(starts, ends, strict=True):
        inside[start:end] = True
    others = errors[~(inside | known)]
    kept = [(int(s), int(e)) for s, e in zip(starts, ends, strict=True) if e - s > 1]
    kept.sort(key=lambda bounds: -float(errors[bounds[0] : bounds[1]].max()))
    peaks = [float(errors[start:end].max()) for start, end in kept]
    kept = kept[: _standing_out(peaks, float(others.max()) if len(others) else -math.inf, drop)]
    result = np.zeros(len(errors), np.bool_)
    for start, end in kept:
        result[start:end] = True
    return result


def _standing_out(peaks: list[float], others: float, drop: float) -> int:
    """How many of falling `peaks` are left: up to the last that falls by `drop` to the next."""
    after = [*peaks, others][1:]
    falls = [(high - low) / high >= drop for high, low in zip(peaks, after, strict=True)]
    return len(falls) - falls[::-1].index(True) if True in falls else 0

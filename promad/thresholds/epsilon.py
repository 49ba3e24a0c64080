"""Nonparametric dynamic thresholding: a limit that sets the newest errors apart from the others.

Hundman et al. 2018, "Detecting spacecraft anomalies using LSTMs and nonparametric dynamic
thresholding", KDD, sections 3.2 (the search for epsilon) and 3.3 (pruning). Errors are those after
smoothing; low ones are treated as high ones, mirrored at their mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

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


class WindowGate(Protocol):
    """A gate for each window of errors."""

    def at(self, start: int, end: int) -> Gate:
        """The gate of the window of those rows; `end` is the row after its last."""
        ...


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


def anomalous_points(
    errors: Errors,
    gate: WindowGate,
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

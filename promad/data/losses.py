"""Losses: the rows that one feature costs all others, because its value is missing in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from promad.data.filling import FILLING_STRATEGIES
from promad.data.frame import MetricFrame
from promad.data.gaps import find_long_gaps

Flags = NDArray[np.bool_]

LARGE_SHARE = 0.1
"""The share of the rows from which a loss is worth a warning."""


@dataclass(frozen=True)
class Loss:
    """What a feature costs.

    Attributes:
        feature: its name.
        share: of the rows in which any feature has a value, those that are dropped for this one,
            0 to 1.
        begins: unix seconds of its first value if most of these rows are before it; else None.
    """

    feature: str
    share: float
    begins: float | None


def count_rows_with_data(frames: Sequence[MetricFrame]) -> int:
    """In how many rows any feature has a value."""
    return sum(int((~np.isnan(frame.values[0])).any(axis=1).sum()) for frame in frames)


def find_large_losses(
    frames: Sequence[MetricFrame], strategy: str, max_fill_steps: int
) -> tuple[Loss, ...]:
    """The losses above a tenth of the rows, largest first.

    Args:
        strategy: one of the `nan_fill_strategy` words; what is filled is not lost.
    """
    with_data = max(count_rows_with_data(frames), 1)
    times = np.concatenate([frame.times for frame in frames])
    missing = np.concatenate([np.isnan(frame.values[0]) for frame in frames])
    lost = np.concatenate([_flag_lost(frame, strategy, max_fill_steps) for frame in frames])
    large = np.flatnonzero(lost.sum(axis=0) > LARGE_SHARE * with_data)
    found = [
        Loss(
            frames[0].features[column],
            float(lost[:, column].sum() / with_data),
            _find_late_begin(times, lost[:, column], ~missing[:, column]),
        )
        for column in large.tolist()
    ]
    return tuple(sorted(found, key=lambda loss: -loss.share))


def describe_losses(losses: Sequence[Loss]) -> Iterator[str]:
    """Each feature with its share, as in a list.

    >>> list(describe_losses([Loss("errors", 0.98, None)]))
    ['errors (98%)']
    """
    for loss in losses:
        yield f"{loss.feature} ({loss.share:.0%})"


def _flag_lost(frame: MetricFrame, strategy: str, max_fill_steps: int) -> Flags:
    """Which rows are dropped for which feature, though another has a value: (samples, features)."""
    missing = np.isnan(frame.values[0])
    fills = strategy in FILLING_STRATEGIES
    lost = find_long_gaps(missing, max_fill_steps) if fills else missing
    return np.asarray(lost & ~missing.all(axis=1, keepdims=True), np.bool_)


def _find_late_begin(times: NDArray[np.float64], lost: Flags, known: Flags) -> float | None:
    """When the feature has its first value, if most of its losses are before that."""
    if not known.any():
        return None
    first = int(np.argmax(known))
    return float(times[first]) if 2 * lost[:first].sum() > lost.sum() else None

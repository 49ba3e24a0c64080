"""Step, windows and periods that fit how often a server scrapes and how far back it remembers."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor

DEFAULT_INTERVAL = 30.0
"""Seconds: the scrape interval if none is known."""

LONGEST_HISTORY_HOURS = 168.0
"""A week contains every day of the week once."""

_STEPS = (30.0, 60.0, 120.0, 180.0, 240.0, 300.0, 600.0, 900.0, 1200.0, 1800.0, 3600.0)
"""Steps in seconds of which a day is a multiple."""

_SHORTEST_WINDOW = 120.0
_SCRAPES_PER_WINDOW = 4
_STALE_AFTER = 120.0
_SCRAPES_UNTIL_STALE = 3
_TRAINING_WINDOWS = 100
_TRAINING_SHARE = 0.8
_VALIDATION_LENGTHS = 3
"""How many windows long the validation part must be: one is the gap before it, one its first."""


@dataclass(frozen=True)
class Timing:
    """The times in a configuration.

    Attributes:
        interval: seconds between scrapes.
        step: seconds between samples.
        window: seconds of the range of a rate: at least four scrapes.
        stale_after: seconds; None if the default fits.
        hours: the length of the history to collect.
        wait: seconds until there is enough history to train; 0 if there is.
    """

    interval: float
    step: float
    window: float
    stale_after: float | None
    hours: float
    wait: float


def choose_timing(interval: float, history: float, length: int) -> Timing:
    """The times for a scrape interval and a history in seconds, and windows of `length` samples.

    >>> choose_timing(15.0, 3 * 86400.0, 20)
    Timing(interval=15.0, step=30.0, window=120.0, stale_after=None, hours=72.0, wait=0.0)
    >>> choose_timing(60.0, 600.0, 20)
    Timing(interval=60.0, step=60.0, window=240.0, stale_after=180.0, hours=5.0, wait=17400.0)
    """
    step = next((each for each in _STEPS if each >= interval), _STEPS[-1])
    needed = step * _count_needed(length)
    hours = min(history / 3600, LONGEST_HISTORY_HOURS)
    enough = history >= needed
    return Timing(
        interval=interval,
        step=step,
        window=max(_SHORTEST_WINDOW, ceil(_SCRAPES_PER_WINDOW * interval / 60) * 60.0),
        stale_after=_choose_stale_after(interval),
        hours=_round_down(hours) if enough else ceil(needed / 360) / 10,
        wait=0.0 if enough else ceil((needed - history) / 60) * 60.0,
    )


def _count_needed(length: int) -> int:
    """How many samples training needs with default settings."""
    training = (_TRAINING_WINDOWS + length) / _TRAINING_SHARE
    validation = _VALIDATION_LENGTHS * length / (1 - _TRAINING_SHARE)
    return ceil(round(max(training, validation), 6))


def _choose_stale_after(interval: float) -> float | None:
    """Three scrapes if two of them are as long as the default."""
    if (_SCRAPES_UNTIL_STALE - 1) * interval < _STALE_AFTER:
        return None
    return ceil(_SCRAPES_UNTIL_STALE * interval / 60) * 60.0


def _round_down(hours: float) -> float:
    """Whole hours; tenths of an hour of less than a day."""
    return float(floor(hours)) if hours >= 24 else floor(hours * 10) / 10

"""When an entry of `mute` without a query is in effect: in its period, or windows by the clock."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from promad.config.cron import find_due
from promad.config.mute_settings import Mute

Window = tuple[float, float]
"""Unix seconds of the begin and of the end, which is not part of it."""

_AHEAD_SECONDS = 86400.0
"""Windows are computed for a day at a time."""


def list_windows(entry: Mute, start: float, end: float) -> list[Window]:
    """The windows of an entry that any of `start` to `end` falls into, joined where they overlap.

    None for an entry with a query.
    """
    if entry.start is not None and entry.end is not None:
        return [(entry.start, entry.end)] if entry.start <= end and entry.end > start else []
    if entry.cron is None or entry.duration is None:
        return []
    due = find_due(entry.cron, entry.time_zone, start - entry.duration, end + 1)
    found = _join((at, at + entry.duration) for at in due)
    return [(first, last) for first, last in found if first <= end and last > start]


def _join(windows: Iterable[Window]) -> list[Window]:
    """Windows in order of time, without overlaps."""
    joined: list[Window] = []
    for start, end in windows:
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined


class WindowClock:
    """Whether one entry is in effect at a time; remembers the windows of about a day."""

    def __init__(self, entry: Mute) -> None:
        self._entry = entry
        self._edges: Sequence[float] = ()
        self._known: Window = (0.0, 0.0)

    def is_open(self, at: float) -> bool:
        """Whether a time, in unix seconds, is in a window."""
        if not self._known[0] <= at < self._known[1]:
            self._known = (at, at + _AHEAD_SECONDS)
            windows = list_windows(self._entry, *self._known)
            self._edges = [edge for window in windows for edge in window]
        return bisect_right(self._edges, at) % 2 == 1

"""How far the clock of a server differs from this machine's, by the `Date` of its replies."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from functools import lru_cache

from promad.config.durations import format_duration

_FEWEST_SECONDS = 2.0
"""Differences up to this are never reported: clocks drift, and a `Date` has whole seconds."""


def read_date(headers: Mapping[str, str]) -> float | None:
    """When a reply was made by the server's clock, in unix seconds; None if it does not say.

    The names of its headers are in lower case. A reply from a cache is older than its `Date` shows,
    and counts as one without.
    """
    said = headers.get("date")
    return None if said is None or "age" in headers else _parse_date(said)


@lru_cache(1)  # the replies of a second all have the same
def _parse_date(said: str) -> float | None:
    try:
        return parsedate_to_datetime(said).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def measure_offset(date: float, sent: float, received: float) -> float:
    """Seconds by which a server's clock is ahead of ours, about; negative if it is behind.

    It is 0 if the clocks may agree: a `Date` is cut to whole seconds, and was written at some time
    between `sent` and `received`, both by our clock.

    >>> measure_offset(100.0, 100.2, 100.9), measure_offset(700.0, 100.0, 101.0)
    (0.0, 600.0)
    """
    if date - received <= 0.0 <= date + 1.0 - sent:
        return 0.0
    return date + 0.5 - (sent + received) / 2


def find_clock_difference(offset: float | None, tolerance: float) -> str:
    """The difference in words if it is larger than `tolerance` seconds, else an empty text.

    >>> find_clock_difference(-600.4, 10.0), find_clock_difference(11.0, 10.0)
    ('10m behind', '11s ahead of')
    >>> find_clock_difference(8.0, 10.0)
    ''
    """
    if offset is None or abs(offset) <= max(tolerance, _FEWEST_SECONDS):
        return ""
    return f"{format_duration(round(abs(offset)))} {'ahead of' if offset > 0 else 'behind'}"

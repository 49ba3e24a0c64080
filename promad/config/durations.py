"""Durations as Prometheus writes them (`1h30m`) and instants as ISO 8601 writes them."""

import re
from datetime import UTC, datetime

_UNITS = {
    "y": 365 * 86400.0,
    "w": 7 * 86400.0,
    "d": 86400.0,
    "h": 3600.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 0.001,
}
_DURATION = re.compile("".join(rf"(?:(?P<{unit}>[0-9]{{1,9}}){unit})?" for unit in _UNITS))


def parse_duration(text: str) -> float:
    """Seconds in a duration of Prometheus's form: largest unit first, each unit at most once.

    Raises:
        ValueError: with what to write instead.

    >>> parse_duration("1h30m"), parse_duration("500ms"), parse_duration("1d")
    (5400.0, 0.5, 86400.0)
    """
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError("not a duration — write it like 15s, 2m, 1h30m or 7d")
    counts = match.groupdict(default="0")
    return round(sum(int(counts[unit]) * seconds for unit, seconds in _UNITS.items()), 3)


def format_duration(seconds: float) -> str:
    """The shortest duration of Prometheus's form, to the millisecond; "0s" for nothing.

    >>> format_duration(5400), format_duration(0.5), format_duration(90061)
    ('1h30m', '500ms', '1d1h1m1s')
    """
    left = int(round(seconds * 1000))
    parts = []
    for unit in ("d", "h", "m", "s", "ms"):
        size = int(round(_UNITS[unit] * 1000))
        if left >= size:
            parts.append(f"{left // size}{unit}")
            left %= size
    return "".join(parts) or "0s"


def parse_instant(text: str) -> float:
    """Unix seconds of an ISO 8601 date or time, read as UTC unless it carries an offset.

    Raises:
        ValueError: with what to write instead.

    >>> parse_instant("1970-01-01T01:00:00"), parse_instant("1970-01-01T01:00:00+01:00")
    (3600.0, 0.0)
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            "not a time — write it like 2026-11-22T06:00:00Z (UTC unless it has an offset)"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def format_instant(seconds: float) -> str:
    """ISO 8601 in UTC, to the second.

    >>> format_instant(0)
    '1970-01-01T00:00:00Z'
    """
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

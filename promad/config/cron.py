"""Cron expressions, which say when a mute begins: five fields, in a time zone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import chain, islice, pairwise
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

_FIELDS = 5
_A_TIME = datetime(2024, 1, 1, tzinfo=UTC)
_MOST_TIMES = 100_000
"""Windows that are looked at for a break: those of a few months, if one begins each minute."""


def check_cron(text: str) -> str:
    """The expression, if it has five valid fields and is ever due.

    Raises:
        ValueError: with what is wrong and what to write instead.
    """
    example = "write it like 0 2 * * 0: minute, hour, day of month, month, day of week"
    if len(text.split()) != _FIELDS:
        raise ValueError(f"not a cron expression of five fields — {example}")
    try:
        next(CronSim(text, _A_TIME))
    except CronSimError as error:
        reason = str(error).replace("Bad ", "wrong ")
        raise ValueError(f"not a cron expression: {reason} — {example}") from None
    except StopIteration:
        raise ValueError("this date never comes — check day of month and month") from None
    return text


def leaves_breaks(cron: str, duration: float) -> bool:
    """Whether windows of so many seconds leave any time between them; UTC, without clock changes.

    >>> leaves_breaks("0 2 * * *", 3600.0), leaves_breaks("0 2 * * *", 86400.0)
    (True, False)
    """
    is_weekly = cron.split()[2:4] == ["*", "*"]
    end = _A_TIME + (timedelta(days=8) if is_weekly else timedelta(days=9 * 366))
    times = chain([_A_TIME], islice(CronSim(cron, _A_TIME), _MOST_TIMES))
    for before, after in pairwise(times):
        if (after - before).total_seconds() > duration:
            return True
        if after > end:
            return False
    return True


def find_due(cron: str, zone: str, start: float, end: float) -> Iterator[float]:
    """The times from `start` until before `end` at which an expression is due, in unix seconds.

    When clocks are put forward, a time that is skipped is due as soon as clocks have changed; when
    they are put back, a time that comes twice is due at the first, as in Debian's cron. What is due
    every hour or every few minutes is due in each hour that passes.

    >>> [format(each, ".0f") for each in find_due("30 1 * * *", "UTC", 0.0, 86400.0)]
    ['5400']
    """
    place: tzinfo = UTC if zone == "UTC" else ZoneInfo(zone)
    for moment in CronSim(cron, datetime.fromtimestamp(start - 1, place)):
        at = moment.timestamp()
        if at >= end:
            return
        if at >= start:
            yield at

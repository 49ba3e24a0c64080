"""Calendar columns: where in the day and in the week a sample falls, for the model to lean on.

They condition the model and are never part of an error, a score or an attribution.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from promad.clock import DAY_SECONDS

_QUARTER_HOUR = 900.0
_WEEKDAY_OF_THE_EPOCH = 3  # 1970-01-01 was a Thursday


def calendar_columns(
    times: NDArray[np.float64], features: Sequence[str], time_zone: str
) -> NDArray[np.float32]:
    """Sine and cosine of each calendar feature: float32 (samples, 2 * features), within -1 to 1.

    Args:
        times: unix seconds, float64 (samples,).
        features: of `hour_of_day` and `day_of_week`; both move smoothly with the wall clock, so
            that neither midnight nor the end of the week is a jump.
        time_zone: an IANA name; its clock changes are followed.
    """
    if not features:
        return np.empty((len(times), 0), np.float32)
    seconds_of_day, weekday = _wall_clock(times, time_zone)
    turns = {
        "hour_of_day": seconds_of_day / DAY_SECONDS,
        "day_of_week": (weekday + seconds_of_day / DAY_SECONDS) / 7,
    }
    angles = [2 * np.pi * turns[feature] for feature in features]
    columns = [column for angle in angles for column in (np.sin(angle), np.cos(angle))]
    return np.column_stack(columns).astype(np.float32)


def _wall_clock(
    times: NDArray[np.float64], time_zone: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Seconds since local midnight by the clock on the wall, and the weekday (Monday is 0)."""
    local = times + _utc_offsets(times, ZoneInfo(time_zone))
    days = np.floor(local / DAY_SECONDS)
    return local - days * DAY_SECONDS, (days + _WEEKDAY_OF_THE_EPOCH) % 7


def _utc_offsets(times: NDArray[np.float64], zone: ZoneInfo) -> NDArray[np.float64]:
    """Seconds that local time is ahead of UTC; asked once for each quarter of an hour.

    Clocks are changed on quarters of an hour nearly everywhere; where it is a minute later, that
    quarter is off by the change.
    """
    quarters, where = np.unique(np.floor(times / _QUARTER_HOUR), return_inverse=True)
    offsets = [_offset(quarter * _QUARTER_HOUR, zone) for quarter in quarters]
    return np.asarray(offsets, np.float64)[where]


def _offset(time: float, zone: ZoneInfo) -> float:
    offset = datetime.fromtimestamp(time, zone).utcoffset()
    return offset.total_seconds() if offset else 0.0

"""What a Prometheus that scrapes the simulated host would answer, as JSON text.

The host is scraped at absolute multiples of `SCRAPE_INTERVAL`; an instant between two scrapes has
the older one's value. A scrape that failed leaves nothing behind, as a staleness marker does, and
an instant after `now` has no answer at all.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from promad.config.durations import parse_duration
from promad.simulation.host import FEATURES, Host
from promad.simulation.noise import Floats
from promad.simulation.selection import BadDataError, Selection, parse_selection

TARGET = {"instance": "demo-host:9100", "job": "demo"}
"""The labels of every series, besides its name."""

SCRAPE_INTERVAL = 15.0  # seconds
MOST_INTERVALS = 11_000  # that one range query may span, as on a real server


def answer_range(parameters: Mapping[str, str], host: Host, now: float) -> str:
    """The answer to `/api/v1/query_range`.

    Raises:
        BadDataError: if a parameter is missing, malformed or asks for too much.
    """
    start, step, count = _parse_grid(parameters)
    selection = parse_selection(parameters.get("query", ""))
    times, scraped, columns = _scrape(host, start, step, count)
    series = []
    for labels, values in _select(selection, scraped, columns):
        known = ~np.isnan(values) & (times <= now)
        if known.any():
            points = zip(_format_times(times[known]), _format_numbers(values[known]), strict=True)
            joined = ",".join(f'[{time},"{value}"]' for time, value in points)
            series.append(f'{{"metric":{_dump(labels)},"values":[{joined}]}}')
    return _format_success("matrix", series)


def answer_instant(parameters: Mapping[str, str], host: Host, now: float) -> str:
    """The answer to `/api/v1/query`, at `now` unless `time` is given.

    Raises:
        BadDataError: if a parameter is missing or malformed.
    """
    at = (
        _parse_time(parameters, "time") if parameters.get("time") else math.floor(now * 1000) / 1000
    )
    selection = parse_selection(parameters.get("query", ""))
    times, scraped, columns = _scrape(host, at, 1.0, 1)
    series = [
        f'{{"metric":{_dump(labels)},"value":[{_format_times(times)[0]},"{_format_numbers(values)[0]}"]}}'
        for labels, values in _select(selection, scraped, columns)
        if not np.isnan(values[0]) and at <= now
    ]
    return _format_success("vector", series)


def error_answer(error: BadDataError) -> str:
    """The body that goes with status 400."""
    return _dump({"status": "error", "errorType": "bad_data", "error": str(error)})


@lru_cache(maxsize=8)
def _scrape(host: Host, start: float, step: float, count: int) -> tuple[Floats, ...]:
    """Times asked for (count,), times scraped (count,), and values then (count, features)."""
    times = np.round(start + step * np.arange(count), 3)
    scraped = np.floor(times / SCRAPE_INTERVAL) * SCRAPE_INTERVAL
    return times, scraped, host.values(scraped)


def _select(
    selection: Selection, scraped: Floats, columns: Floats
) -> Iterator[tuple[dict[str, str], Floats]]:
    """Labels and values (samples,) of each series that is meant; NaN where it was not scraped."""
    for name, values in zip(FEATURES, columns.T, strict=True):
        if selection.matches({"__name__": name, **TARGET}):
            if selection.wants_times:
                yield TARGET, np.where(np.isnan(values), np.nan, scraped)
            else:
                yield {"__name__": name, **TARGET}, values


def _parse_grid(parameters: Mapping[str, str]) -> tuple[float, float, int]:
    """Start and step in seconds, and how many instants from start to end."""
    start, end = _parse_time(parameters, "start"), _parse_time(parameters, "end")
    if end < start:
        raise BadDataError('invalid parameter "end": end timestamp must not be before start time')
    step = _parse_step(parameters.get("step", ""))
    intervals = math.floor((end - start) / step + 1e-9)
    if intervals > MOST_INTERVALS:
        raise BadDataError(
            f"exceeded maximum resolution of {MOST_INTERVALS:,} points per timeseries. "
            "Try decreasing the query resolution (?step=XX)"
        )
    return start, step, intervals + 1


def _parse_time(parameters: Mapping[str, str], name: str) -> float:
    """Unix seconds, from a number or an RFC 3339 time with its offset."""
    text = parameters.get(name, "")
    for read in (float, _parse_zoned):
        try:
            if math.isfinite(seconds := read(text)):
                return round(seconds, 3)
        except ValueError:
            continue
    raise BadDataError(f'invalid parameter "{name}": cannot parse "{text}" to a valid timestamp')


def _parse_zoned(text: str) -> float:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError("no offset")
    return at.timestamp()


def _parse_step(text: str) -> float:
    """Seconds above zero, from a number or a duration such as 30s."""
    seconds = math.nan
    for read in (float, parse_duration):
        try:
            seconds = read(text)
            break
        except ValueError:
            continue
    if not math.isfinite(seconds):
        raise BadDataError(f'invalid parameter "step": cannot parse "{text}" to a valid duration')
    if seconds <= 0:
        raise BadDataError(
            'invalid parameter "step": zero or negative query resolution step widths '
            "are not accepted. Try a positive integer"
        )
    return seconds


def _format_times(times: Floats) -> list[str]:
    """Unix seconds as Prometheus writes them: whole, or with three decimals."""
    return [f"{time:.3f}".removesuffix(".000") for time in times.tolist()]


def _format_numbers(numbers: NDArray[np.float64]) -> list[str]:
    """Numbers as Prometheus writes them: shortest exact form, no exponent, no trailing `.0`."""
    return [_format_plain(repr(number)) for number in numbers.tolist()]


def _format_plain(text: str) -> str:
    if "e" in text:
        return np.format_float_positional(float(text), trim="-")
    return text.removesuffix(".0")


def _format_success(result_type: str, series: list[str]) -> str:
    data = f'{{"resultType":"{result_type}","result":[{",".join(series)}]}}'
    return f'{{"status":"success","data":{data}}}'


def _dump(value: Mapping[str, str]) -> str:
    return json.dumps(value, separators=(",", ":"))

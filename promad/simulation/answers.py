"""What a Prometheus that scrapes the simulated hosts would answer, as JSON text.

Hosts are scraped at absolute multiples of the interval; an instant between two scrapes has the
older one's value. A scrape that failed leaves nothing behind, as a staleness marker does, and an
instant after `now` has no answer at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from promad.config.durations import parse_duration
from promad.simulation.noise import Floats
from promad.simulation.numbers import format_numbers
from promad.simulation.scraper import Scraper, dump_json
from promad.simulation.selection import BadDataError

MOST_INTERVALS = 11_000  # that one range query may span, as on a real server


def answer_range(parameters: Mapping[str, str], scraper: Scraper, now: float) -> str:
    """The answer to `/api/v1/query_range`.

    Raises:
        BadDataError: if a parameter is missing, malformed or asks for too much.
    """
    start, step, count = _parse_grid(parameters)
    times = np.round(start + step * np.arange(count), 3)
    times = times[times <= now]
    series = [
        _format_series(metrics, "values", times, values)
        for metrics, values in _select(parameters, scraper, times)
    ]
    return _format_success("matrix", series)


def answer_instant(parameters: Mapping[str, str], scraper: Scraper, now: float) -> str:
    """The answer to `/api/v1/query`, at `now` unless `time` is given.

    Raises:
        BadDataError: if a parameter is missing or malformed.
    """
    at = (
        _parse_time(parameters, "time") if parameters.get("time") else math.floor(now * 1000) / 1000
    )
    times = np.array([at] if at <= now else [])
    series = [
        _format_series(metrics, "value", times, values)
        for metrics, values in _select(parameters, scraper, times)
    ]
    return _format_success("vector", series)


def error_answer(error: BadDataError) -> str:
    """The body that goes with status 400."""
    return dump_json({"status": "error", "errorType": "bad_data", "error": str(error)})


def _select(
    parameters: Mapping[str, str], scraper: Scraper, times: Floats
) -> Iterator[tuple[NDArray[np.object_], Floats]]:
    """Labels (series,) as templates and values (series, samples), feature by feature."""
    wants_times, choices = scraper.select(parameters.get("query", ""))
    scraped = scraper.find_scrapes(times)
    for choice in choices if times.size else ():
        metrics, values = scraper.read(choice, scraped)
        yield metrics, np.where(np.isnan(values), np.nan, scraped) if wants_times else values


def _format_series(metrics: NDArray[np.object_], key: str, times: Floats, values: Floats) -> str:
    """The JSON of all series (series, samples) that have a value, with commas between them.

    All numbers are formatted in one go, series without gaps all alike.
    """
    written = _format_times(times)
    known = ~np.isnan(values)
    complete = known.all(axis=1)
    parts = []
    if complete.any():
        tail = f",{_join_points(key, written)}}}"
        template = f'{tail},{{"metric":'.join(metrics[complete])
        numbers = format_numbers(values[complete])
        parts.append(f'{{"metric":{template}{tail}' % tuple(numbers))
    for row in np.flatnonzero(~complete & known.any(axis=1)).tolist():
        points = _join_points(key, _format_times(times[known[row]]))
        template = f'{{"metric":{metrics[row]},{points}}}'
        parts.append(template % tuple(format_numbers(values[row, known[row]])))
    return ",".join(parts)


def _join_points(key: str, times: list[str]) -> str:
    """JSON of the points at these times, with a `%s` for each value."""
    points = ",".join([f'[{time},"%s"]' for time in times])
    return f'"{key}":[{points}]' if key == "values" else f'"{key}":{points}'


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


def _format_success(result_type: str, series: list[str]) -> str:
    data = f'{{"resultType":"{result_type}","result":[{",".join(filter(None, series))}]}}'
    return f'{{"status":"success","data":{data}}}'

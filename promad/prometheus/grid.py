"""Times on absolute multiples of the step: the only times that promad asks for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from promad.data.frame import align_down, align_up, points_between
from promad.prometheus.joining import check_repeats
from promad.prometheus.parsing import Series

_OFF_GRID_STEPS = 0.01
_OFF_GRID_SECONDS = 0.0011  # servers round times to the millisecond


@dataclass(frozen=True, order=True)
class Span:
    """Grid times from `start` to `end`, both included, in unix seconds."""

    start: float
    end: float


def align_periods(periods: Iterable[tuple[float, float]], step: float) -> tuple[Span, ...]:
    """The grid times that lie within any of the periods, as spans in order of time.

    Periods that overlap, or that leave no grid time between them, become one span; a period
    without any grid time disappears.

    >>> align_periods([(0, 100), (105, 130), (200, 230)], 15.0)
    (Span(start=0.0, end=120.0), Span(start=210.0, end=225.0))
    """
    spans: list[Span] = []
    for start, end in sorted((align_up(a, step) + 0.0, align_down(b, step)) for a, b in periods):
        if end < start:
            continue
        if spans and start < spans[-1].end + 1.5 * step:
            spans[-1] = Span(spans[-1].start, max(end, spans[-1].end))
        else:
            spans.append(Span(start, end))
    return tuple(spans)


def requests_for(spans: Iterable[Span], step: float, most_points: int) -> Iterator[Span]:
    """The spans, cut so that none has more than `most_points` samples.

    >>> [points_between(s.start, s.end, 1.0) for s in requests_for([Span(0.0, 24.0)], 1.0, 10)]
    [10, 10, 5]
    """
    for span in spans:
        samples = points_between(span.start, span.end, step)
        for first in range(0, samples, most_points):
            last = min(first + most_points, samples) - 1
            yield Span(span.start + first * step, span.start + last * step)


def on_grid(series: Series, span: Span, step: float) -> NDArray[np.float64]:
    """The values at each time of the span: float64 (samples,), NaN where there is none.

    Raises:
        ValueError: if the series has times that are not in the span, or different values at one.
    """
    times = _list_times(span, step)
    if len(series.times) == len(times) and (series.times == times).all():
        return series.values.copy()
    values = np.full(len(times), np.nan)
    index = find_places(series.times, span, step)
    if (np.diff(index) > 0).all():
        values[index] = series.values
        return values
    order = np.lexsort((np.isnan(series.values), index))
    repeats = np.r_[False, np.diff(index[order]) == 0]
    check_repeats(series.times[order], series.values[order], repeats)
    kept = order[~repeats]
    values[index[kept]] = series.values[kept]
    return values


@lru_cache(4)  # the queries of a poll ask for the same
def _list_times(span: Span, step: float) -> NDArray[np.float64]:
    times = span.start + step * np.arange(points_between(span.start, span.end, step), dtype=float)
    times.flags.writeable = False
    return times


def find_places(times: NDArray[np.float64], span: Span, step: float) -> NDArray[np.int64]:
    """Which sample of the span each time is: int64 (times,).

    Raises:
        ValueError: if there are times that are not in the span.
    """
    position = (times - span.start) / step
    nearest = np.rint(position)
    position -= nearest
    np.abs(position, out=position)
    tolerance = max(_OFF_GRID_STEPS, _OFF_GRID_SECONDS / step)
    last = points_between(span.start, span.end, step) - 1
    if len(times) and not (
        position.max() <= tolerance and nearest.min() >= 0 and nearest.max() <= last
    ):
        strays = (position > tolerance) | (nearest < 0) | (nearest > last)
        stray = times[strays][0]
        raise ValueError(f"unexpected sample at {stray:.3f}, outside of the requested times")
    return nearest.astype(np.int64)


def find_stretch(times: NDArray[np.float64], span: Span, step: float) -> slice | None:
    """The samples of the span that the times are, if they are consecutive; None if not.

    Raises:
        ValueError: as `find_places`.
    """
    places = find_places(times, span, step)
    if not len(places) or (np.diff(places) != 1).any():
        return None
    return slice(int(places[0]), int(places[-1]) + 1)

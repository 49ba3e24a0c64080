"""Figures over time, which a report shows. Times are unix seconds, shown in UTC."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promad.config.durations import format_instant
from promad.pages.figures import (
    Figure,
    create_band,
    create_heat_map,
    create_layout,
    create_line,
    create_mark,
)

Times = NDArray[np.float64]
Values = NDArray[np.floating]
Period = tuple[float, float]

_MAX_POINTS = 3000
"""A longer line is reduced to the highest value of each stretch of samples."""

_SCORE, _LIMIT, _OBSERVED, _EXPECTED = "#2f6db5", "#8a4b08", "#2f6db5", "#d97706"
_MARK = "#6b7280"
_ANOMALOUS, _BLIND = "rgba(200, 60, 60, 0.18)", "rgba(120, 120, 120, 0.18)"


def draw_score(
    times: Times,
    score: Values,
    anomalous: Iterable[Period],
    blind: Iterable[Period],
    marks: Iterable[tuple[float, str]] = (),
) -> Figure:
    """Score over threshold, (samples,), beside the threshold; both kinds of periods shaded.

    Args:
        marks: times to mark, unix seconds, each with a text.
    """
    times, scores = _thin(times, score[:, np.newaxis])
    x = _format_times(times)
    bands = [_shade(period, _ANOMALOUS) for period in anomalous]
    bands += [_shade(period, _BLIND) for period in blind]
    bands += [create_mark(format_instant(at), text, _MARK) for at, text in marks]
    return {
        "data": [
            create_line("score", x, _round_values(scores[:, 0]), color=_SCORE, width=1),
            create_line("threshold", [x[0], x[-1]], [1.0, 1.0], color=_LIMIT, width=1.5),
        ],
        "layout": create_layout("UTC", "score over threshold", bands),
    }


def draw_elevations(times: Times, features: Sequence[str], elevation: Values) -> Figure:
    """A heat map of elevations, (samples, features), the feature that deviated most on top."""
    times, values = _thin(times, elevation)
    highest = np.max(np.nan_to_num(values), axis=0, initial=0.0)
    order = np.argsort(highest, kind="stable")
    heat_map = create_heat_map(
        names=[features[column] for column in order],
        x=_format_times(times),
        z=[_round_values(values[:, column]) for column in order],
        highest=max(3.0, float(np.nanquantile(highest, 0.9))) if len(highest) else 3.0,
    )
    return {"data": [heat_map], "layout": create_layout("UTC", "")}


def draw_feature(
    name: str, times: Times, observed: Values, expected: Values, anomalous: Period
) -> Figure:
    """Observed and expected values of a feature, both (samples,); the period shaded."""
    x = _format_times(times)
    return {
        "data": [
            create_line("observed", x, _round_values(observed), color=_OBSERVED, width=1.5),
            create_line("expected", x, _round_values(expected), color=_EXPECTED, dash="dash"),
        ],
        "layout": create_layout("UTC", name, [_shade(anomalous, _ANOMALOUS)]),
    }


def _thin(times: Times, values: Values) -> tuple[Times, Times]:
    """The highest value of each stretch of samples, (stretches, columns); NaN if all are NaN."""
    width = -(-len(times) // _MAX_POINTS)
    starts = np.arange(0, len(times), width)
    highest = np.fmax.reduceat(np.asarray(values, np.float64), starts, axis=0)
    return times[starts], highest


def _shade(period: Period, colour: str) -> dict[str, Any]:
    start, end = period
    return create_band(format_instant(start), format_instant(end), colour)


def _format_times(times: Times) -> list[str]:
    return [format_instant(float(at)) for at in times]


def _round_values(values: Values) -> list[float | None]:
    return [None if np.isnan(value) else float(f"{value:.6g}") for value in values.tolist()]

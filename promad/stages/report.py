"""`report`: a period as one page for a post-mortem, from a replay of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promad.config import Config
from promad.config.durations import format_duration, format_instant
from promad.data.gaps import find_runs
from promad.detection.recent_history import Recent, Ring
from promad.events.events import AnomalyEvent
from promad.events.explanation import paragraph
from promad.events.verdict import FeatureView, State
from promad.pages.page import band, chart, layout, line, table, write_page
from promad.stages.backtest import Backtest, Visitor, backtest

_MOST_POINTS = 3000
"""A longer line is thinned: of each stretch of samples the worst is drawn."""

_MOST_CHARTED = 20
"""So many events get charts of their own, the highest first."""

_MARGIN_SECONDS = 1800.0
_SCORE, _LIMIT, _OBSERVED, _EXPECTED = "#2f6db5", "#8a4b08", "#2f6db5", "#d97706"
_ANOMALOUS, _BLIND = "rgba(200, 60, 60, 0.18)", "rgba(120, 120, 120, 0.18)"
_STATES = tuple(State)


def write_report(
    config: Config, start: float, end: float, path: Path, visitors: Sequence[Visitor] = ()
) -> Backtest:
    """Write the page about `start` to `end`, in unix seconds.

    Raises:
        PromadError: as `backtest`; DataError if the page cannot be written.
    """
    scored = config.features[: config.scored]
    ring = Ring(scored, int((end - start) / config.data_settings.step) + 2)
    keep = [lambda status: ring.add(status.verdict), *visitors]
    found = backtest(config, start, end, visitors=keep)
    recent = ring.between()
    title = f"{found.group}, {format_instant(found.times[0])} to {format_instant(found.times[-1])}"
    write_page(path, title, _parts(found, recent, config.promql))
    return found


def _parts(found: Backtest, recent: Recent, promql: dict[str, str]) -> Iterator[str]:
    yield from _summary(found)
    yield "<h2>Score over threshold</h2><p>Above 1 is anomalous. Red: events; grey: blind.</p>"
    yield from chart("score", _score(found, recent))
    yield "<h2>Elevation of each feature</h2><p>Its error over what it stayed below for 95 % of "
    yield "training.</p>"
    yield from chart("elevation", _elevation(recent))
    yield from _events(found, recent)
    yield "<h2>Queries</h2>"
    for name, expr in promql.items():
        yield f"<p>{escape(name)}<br><code>{escape(expr)}</code></p>"


def _summary(found: Backtest) -> Iterator[str]:
    shares = {state: f"{found.share(state):.2%}" for state in State}
    yield (
        f"<p>Events: {len(found.events)}, in {len(found.times)} samples, one every "
        f"{format_duration(found.step)}. Of the time {shares[State.ANOMALOUS]} anomalous, "
        f"{shares[State.BLIND]} blind, {shares[State.WARMING]} warming. Scores are those that "
        "the daemon would have given, each by the samples before it alone.</p>"
    )
    if found.alerts:
        yield "<h2>Alerts that fired</h2>"
        rows = {
            f"{alert.labels} at {format_instant(alert.start)}": [_lead(found.lead(alert))]
            for alert in found.alerts
        }
        yield from table(["promad"], rows)


def _lead(seconds: float | None) -> str:
    if seconds is None:
        return "no event meanwhile"
    return f"{format_duration(round(abs(seconds)))} {'earlier' if seconds >= 0 else 'later'}"


def _score(found: Backtest, recent: Recent) -> dict[str, Any]:
    times, score = _thinned(recent.times, recent.score[:, np.newaxis])
    at = _instants(times)
    shapes = [
        _band(event.start, event.end or recent.times[-1], _ANOMALOUS) for event in found.events
    ]
    blind = recent.states == _STATES.index(State.BLIND)
    shapes += [
        _band(recent.times[first], recent.times[last - 1], _BLIND)
        for first, last in find_runs(blind)
    ]
    return {
        "data": [
            line("score", at, _numbers(score[:, 0]), color=_SCORE, width=1),
            line("threshold", [at[0], at[-1]], [1.0, 1.0], color=_LIMIT, width=1.5),
        ],
        "layout": layout("UTC", "score over threshold", shapes),
    }


def _elevation(recent: Recent) -> dict[str, Any]:
    """A heat map, the feature that deviated most on top."""
    times, values = _thinned(recent.times, recent.elevation)
    highest = np.max(np.nan_to_num(values), axis=0, initial=0.0)
    order = np.argsort(highest, kind="stable")
    heat = {
        "type": "heatmap",
        "x": _instants(times),
        "y": [recent.features[column] for column in order],
        "z": [_numbers(values[:, column]) for column in order],
        "zmin": 0,
        "zmax": max(3.0, float(np.nanquantile(highest, 0.9))) if len(highest) else 3.0,
        "colorscale": "Cividis",
        "colorbar": {"title": {"text": "times"}},
    }
    shape = layout("UTC", "")
    shape["yaxis"]["automargin"] = True
    return {"data": [heat], "layout": shape}


def _events(found: Backtest, recent: Recent) -> Iterator[str]:
    yield "<h2>Events</h2>"
    highest = sorted(found.events, key=lambda event: -event.peak_ratio)[:_MOST_CHARTED]
    charted = {event.id for event in highest}
    for event in found.events:
        until = "still open" if event.end is None else f"to {format_instant(event.end)}"
        yield f'<h3 id="{event.id}">{format_instant(event.start)} {until}, event {event.id}</h3>'
        yield f"<p>{escape(paragraph(event.peak, event.start))}</p>"
        yield from _features(event.peak.ranked_features)
        if event.id in charted:
            yield from _observed(event, recent)
    if not found.events:
        yield "<p>None began.</p>"


def _features(views: Sequence[FeatureView]) -> Iterator[str]:
    headings = ["share", "direction", "observed", "expected", "times the usual error", "since"]
    rows = {
        view.name: [
            f"{view.contribution:.0%}",
            view.direction,
            f"{view.observed:.4g}",
            f"{view.expected:.4g}",
            f"{view.elevation:.3g}",
            "" if view.since is None else format_instant(view.since),
        ]
        for view in views[:10]
    }
    yield from table(headings, rows)


def _observed(event: AnomalyEvent, recent: Recent) -> Iterator[str]:
    """Observed and expected values of the features that made the peak, around the event."""
    end = event.end or recent.times[-1]
    margin = max(_MARGIN_SECONDS, (end - event.start) / 2)
    near = np.flatnonzero((recent.times >= event.start - margin) & (recent.times <= end + margin))
    at = _instants(recent.times[near])
    for view in event.top_features:
        column = recent.features.index(view.name)
        observed, expected = recent.observed[near, column], recent.expected[near, column]
        shapes = [_band(event.start, end, _ANOMALOUS)]
        yield from chart(
            f"event-{event.id}-{column}",
            {
                "data": [
                    line("observed", at, _numbers(observed), color=_OBSERVED, width=1.5),
                    line("expected", at, _numbers(expected), color=_EXPECTED, dash="dash"),
                ],
                "layout": layout("UTC", escape(view.name), shapes),
            },
        )


def _thinned(
    times: NDArray[np.float64], values: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each stretch of samples the highest value, (samples, columns); NaN where none is known."""
    width = -(-len(times) // _MOST_POINTS)
    starts = np.arange(0, len(times), width)
    highest = np.fmax.reduceat(np.asarray(values, np.float64), starts, axis=0)
    return times[starts], highest


def _band(start: float, end: float, colour: str) -> dict[str, Any]:
    return band(format_instant(start), format_instant(end), colour)


def _instants(times: Sequence[float] | NDArray[np.float64]) -> list[str]:
    return [format_instant(float(at)) for at in times]


def _numbers(values: NDArray[Any]) -> list[float | None]:
    return [None if np.isnan(value) else float(f"{value:.6g}") for value in values.tolist()]

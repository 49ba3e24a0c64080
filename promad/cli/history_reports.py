"""What the commands that look back have to say, in lines for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from promad.config.durations import format_duration, format_instant
from promad.events.explanation import paragraph
from promad.events.verdict import State

if TYPE_CHECKING:
    from promad.events.verdict import FeatureView
    from promad.stages.backtest import Alert, Backtest
    from promad.stages.explain import Explained

_SHOWN_ALERTS = 20


def explained_lines(explained: Explained) -> Iterator[str]:
    """State and paragraph, then a line for each feature that contributes."""
    verdict, explanation = explained.explanation.verdict, explained.explanation
    yield f"{explained.group} at {format_instant(verdict.at)}: {verdict.state}"
    yield f"  {explanation.paragraph}"
    width = max((len(view.name) for view in explanation.features), default=0)
    for view in explanation.features:
        yield f"    {view.name:{width}}  {_feature(view)}"
    if verdict.missing:
        yield f"  missing: {', '.join(verdict.missing)}"


def _feature(view: FeatureView) -> str:
    observed = "missing" if math.isnan(view.observed) else f"{view.observed:.4g}"
    since = "" if view.since is None else f"  since {format_instant(view.since)}"
    return (
        f"{view.contribution:4.0%}  {view.direction:5}  observed {observed:>10}  "
        f"expected {view.expected:10.4g}  {view.elevation:6.3g} times the usual{since}"
    )


def backtest_lines(found: Backtest) -> Iterator[str]:
    """Every event, what is known beside it, then the sum."""
    for event in found.events:
        end = "still open" if event.end is None else format_duration(event.end - event.start)
        yield (
            f"  {event.id}  {format_instant(event.start)}  {end:>10}  "
            f"peak {event.peak_ratio:.2f}  {', '.join(view.name for view in event.top_features)}"
        )
        yield f"    {paragraph(event.peak, event.start)}"
    yield from _incident_lines(found)
    yield from _alert_lines(found)
    yield (
        f"backtest: {len(found.times)} samples of {found.group} from "
        f"{format_instant(found.times[0])} to {format_instant(found.times[-1])}: "
        f"{len(found.events)} events, {found.events_per_week:.3g} a week of scored time (the "
        f"budget is {found.budget:g} false ones); {found.share(State.ANOMALOUS):.2%} of the time "
        f"anomalous, {found.share(State.BLIND):.2%} blind, {found.share(State.WARMING):.2%} warming"
    )


def _incident_lines(found: Backtest) -> Iterator[str]:
    """Each incident and the event that met it, then the sum: no point adjustment."""
    for incident in found.incidents:
        event = found.event_during(incident.start, incident.end)
        how = "missed"
        if event is not None:
            delay = max(event.flagged_at - incident.start, 0.0)
            how = f"found by {event.id} after {_seconds(delay)}"
        yield f"  {incident.name}, {format_instant(incident.start)}: {how}"
    if found.figures is not None:
        figures = found.figures
        near = figures.episodes - figures.false_episodes
        yield (
            f"  incidents: {figures.found} of {figures.segments} found "
            f"(recall {_ratio(figures.event_recall)}); {near} of {figures.episodes} events near "
            f"one (precision {_ratio(figures.alarm_precision)}); median delay "
            f"{_seconds(figures.median_delay_seconds)}, 90 % within "
            f"{_seconds(figures.p90_delay_seconds)}; no point adjustment"
        )


def _alert_lines(found: Backtest) -> Iterator[str]:
    """Who was first, promad or an alert that fired."""
    for alert in found.alerts[:_SHOWN_ALERTS]:
        fired = format_instant(alert.start)
        yield f"  alert {alert.labels} fired at {fired}: {_lead(found, alert)}"
    if len(found.alerts) > _SHOWN_ALERTS:
        yield f"  and {len(found.alerts) - _SHOWN_ALERTS} alerts more"


def _lead(found: Backtest, alert: Alert) -> str:
    lead = found.lead(alert)
    if lead is None:
        return "no event meanwhile"
    return f"promad was {_seconds(abs(lead))} {'earlier' if lead >= 0 else 'later'}"


def _ratio(value: float) -> str:
    return "unknown" if math.isnan(value) else f"{value:.2f}"


def _seconds(value: float) -> str:
    return "unknown" if math.isnan(value) else format_duration(round(value))

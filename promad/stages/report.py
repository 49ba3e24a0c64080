"""`report`: a period as one page for a post-mortem, from a replay of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from promad.config import Config
from promad.config.durations import format_duration, format_instant
from promad.data.gaps import find_runs
from promad.detection.recent_history import Recent, RecentHistory
from promad.events.events import AnomalyEvent
from promad.events.explanation import paragraph
from promad.events.verdict import STATES, FeatureView, State
from promad.pages.figures import Figure
from promad.pages.rendering import write_page
from promad.pages.timelines import Period, draw_elevations, draw_feature, draw_score
from promad.stages.backtest import Backtest, Visitor, backtest

_MAX_CHARTED_EVENTS = 20
"""The events with the highest peaks have charts."""

_MAX_FEATURES = 10
_MARGIN_SECONDS = 1800.0
_FEATURE_HEADINGS = ("share", "direction", "observed", "expected", "error, × baseline", "since")


@dataclass(frozen=True)
class EventSection:
    """What the page shows of one event.

    Attributes:
        features: cells under `_FEATURE_HEADINGS` by feature, largest share first.
        charts: figures by their id on the page.
    """

    id: str
    title: str
    paragraph: str
    features: Mapping[str, Sequence[str]]
    charts: Mapping[str, Figure]


def write_report(
    config: Config, start: float, end: float, path: Path, visitors: Sequence[Visitor] = ()
) -> Backtest:
    """Write the page about `start` to `end`, in unix seconds.

    Raises:
        PromadError: as `backtest`; DataError if the page cannot be written.
    """
    scored = config.features[: config.scored]
    ring = RecentHistory(scored, int((end - start) / config.data_settings.step) + 2)
    keep = [lambda status: ring.add(status.verdict), *visitors]
    found = backtest(config, start, end, visitors=keep)
    recent = ring.between()
    anomalous = [(event.start, event.end or recent.times[-1]) for event in found.events]
    write_page(
        path,
        "report.html",
        title=f"{found.group}, {_format_period(found.times[0], found.times[-1])}",
        summary=_summarise(found),
        alerts=_list_alerts(found),
        score=draw_score(recent.times, recent.score, anomalous, _find_blind(recent)),
        elevation=draw_elevations(recent.times, recent.features, recent.elevation),
        feature_headings=_FEATURE_HEADINGS,
        events=_list_events(found.events, recent),
        queries=config.promql,
    )
    return found


def _summarise(found: Backtest) -> str:
    events, samples = len(found.events), len(found.times)
    shares = ", ".join(
        f"{found.share(state):.2%} {state}"
        for state in (State.ANOMALOUS, State.BLIND, State.WARMING)
    )
    return (
        f"{events} event{'' if events == 1 else 's'} in {samples} "
        f"sample{'' if samples == 1 else 's'}, one every {format_duration(found.step)}. "
        f"Share of samples: {shares}."
    )


def _list_alerts(found: Backtest) -> dict[str, list[str]]:
    return {
        f"{alert.labels} at {format_instant(alert.start)}": [_describe_lead(found.lead(alert))]
        for alert in found.alerts
    }


def _describe_lead(seconds: float | None) -> str:
    if seconds is None:
        return "no event during the alert"
    direction = "before" if seconds >= 0 else "after"
    return f"{format_duration(round(abs(seconds)))} {direction} the alert"


def _find_blind(recent: Recent) -> list[Period]:
    """The periods without a score, from their first to their last sample."""
    blind = recent.states == STATES.index(State.BLIND)
    return [(recent.times[first], recent.times[last - 1]) for first, last in find_runs(blind)]


def _list_events(events: Sequence[AnomalyEvent], recent: Recent) -> list[EventSection]:
    highest = sorted(events, key=lambda event: -event.peak_ratio)[:_MAX_CHARTED_EVENTS]
    charted = {event.id for event in highest}
    return [
        EventSection(
            id=event.id,
            title=f"{_format_period(event.start, event.end)}, event {event.id}",
            paragraph=paragraph(event.peak, event.start),
            features=_list_features(event.peak.ranked_features),
            charts=_draw_features(event, recent) if event.id in charted else {},
        )
        for event in events
    ]


def _list_features(views: Sequence[FeatureView]) -> dict[str, list[str]]:
    return {
        view.name: [
            f"{view.contribution:.0%}",
            view.direction,
            f"{view.observed:.4g}",
            f"{view.expected:.4g}",
            f"{view.elevation:.3g}",
            "" if view.since is None else format_instant(view.since),
        ]
        for view in views[:_MAX_FEATURES]
    }


def _draw_features(event: AnomalyEvent, recent: Recent) -> dict[str, Figure]:
    """The features that contribute most, from some time before the event to some time after."""
    end = event.end or recent.times[-1]
    margin = max(_MARGIN_SECONDS, (end - event.start) / 2)
    near = np.flatnonzero((recent.times >= event.start - margin) & (recent.times <= end + margin))
    return {
        f"event-{event.id}-{column}": draw_feature(
            recent.features[column],
            recent.times[near],
            recent.observed[near, column],
            recent.expected[near, column],
            (event.start, end),
        )
        for column in (recent.features.index(view.name) for view in event.top_features)
    }


def _format_period(start: float, end: float | None) -> str:
    return f"{format_instant(start)} {'(open)' if end is None else f'to {format_instant(end)}'}"

"""From what promad knows to what the API answers."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from promad.detection.recent_history import Recent
from promad.events.event_log import LoggedEvent
from promad.events.explanation import explain, paragraph
from promad.events.verdict import FeatureView, State, Verdict
from promad.web.lookup import Watched
from promad.web.schemas import (
    EventAnswer,
    ExplanationAnswer,
    FeatureHistory,
    FeatureQuery,
    FeatureState,
    GroupAnswer,
    GroupDetail,
    HistoryAnswer,
)

_STATES = tuple(State)


def known(number: float | None) -> float | None:
    """The number, or None if there is none."""
    return number if number is not None and math.isfinite(number) else None


def feature_state(view: FeatureView) -> FeatureState:
    """One feature of a verdict."""
    observed = known(view.observed)
    return FeatureState(
        name=view.name,
        contribution=view.contribution,
        direction=None if observed is None else _direction(view),
        observed=observed,
        expected=known(view.expected),
        elevation=view.elevation,
        since=view.since,
    )


def _direction(view: FeatureView) -> Literal["above", "below"]:
    return "above" if view.direction == "above" else "below"


def explanation_answer(group: str, verdict: Verdict, since: float | None) -> ExplanationAnswer:
    """A verdict explained; `since` is the start of the event that is open."""
    explanation = explain(verdict, since)
    return ExplanationAnswer(
        group=group,
        at=verdict.at,
        state=verdict.state,
        score=known(verdict.score_ratio),
        anomalous_since=since,
        paragraph=explanation.paragraph,
        missing=list(verdict.missing),
        features=[feature_state(view) for view in explanation.features],
    )


def event_answer(logged: LoggedEvent) -> EventAnswer:
    """An event of the log."""
    event = logged.event
    return EventAnswer(
        id=event.id,
        group=event.group,
        start=event.start,
        flagged_at=event.flagged_at,
        end=event.end,
        open=event.end is None,
        end_reason=logged.end_reason,  # type: ignore[arg-type]
        peak_at=event.peak_at,
        peak_score=event.peak_ratio,
        bundle=logged.bundle,
        paragraph=paragraph(event.peak, event.start),
        features=[feature_state(view) for view in event.peak.ranked_features],
        acknowledged_at=logged.acknowledged_at,
        feedback=logged.feedback,
        comment=logged.comment,
    )


def group_answer(group: Watched) -> GroupAnswer:
    """Where a group stands."""
    status, verdict = group.status, group.status.verdict
    return GroupAnswer(
        group=group.name,
        detector=group.snapshot.detector,
        labels=dict(status.group),
        state=verdict.state,
        why=verdict.why,
        at=verdict.at,
        score=known(verdict.score_ratio),
        anomalous_since=status.anomalous_since,
        event=None if status.event is None else status.event.id,
        events_begun=status.events_begun,
        last_scored_at=status.last_scored_at,
        samples_in_window=status.samples_in_window,
        top_features=[view.name for view in verdict.top_features],
    )


def group_detail(group: Watched) -> GroupDetail:
    """A group with what its detector is made of and why it is judged as it is."""
    config, detector, bundle = group.served.config, group.served.detector, group.served.bundle
    preparation, status = detector.preparation, group.status
    return GroupDetail(
        group=group_answer(group),
        failed_queries=dict(group.snapshot.failed_queries),
        queries=[
            FeatureQuery(name=name, expr=config.promql[name], scored=column < preparation.scored)
            for column, name in enumerate(preparation.features)
        ],
        step_seconds=preparation.step,
        window_size=detector.length,
        interval_seconds=config.real_time_anomaly_detection.query_interval_seconds,
        bundle=bundle.id,
        model=bundle.manifest.model,
        prometheus_url=config.web.prometheus_url or config.prometheus_url,
        grafana_url=config.web.grafana_url,
        explanation=explanation_answer(group.name, status.verdict, status.anomalous_since),
    )


def history_answer(
    group: str, step: float, recent: Recent, features: Collection[str]
) -> HistoryAnswer:
    """Verdicts over time, of these features. A number that is not known is NaN, in JSON null.

    Nothing of it is validated: it is a hundred thousand numbers, and they come from arrays.
    """
    columns = [column for column, name in enumerate(recent.features) if name in features]
    curves = (recent.elevation, recent.contribution, recent.observed, recent.expected)
    short = [_short(curve[:, columns]).T.tolist() for curve in curves]
    return HistoryAnswer.model_construct(
        group=group,
        step_seconds=step,
        times=recent.times.tolist(),
        states=[_STATES[state] for state in recent.states],
        score=_short(recent.score).tolist(),
        threshold=_short(recent.threshold).tolist(),
        why=list(recent.why),
        features=[
            FeatureHistory.model_construct(
                name=recent.features[column],
                elevation=elevation,
                contribution=contribution,
                observed=observed,
                expected=expected,
            )
            for column, elevation, contribution, observed, expected in zip(
                columns, *short, strict=True
            )
        ],
    )


def _short(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """The numbers to seven digits, which is all that single precision has: half as long in JSON."""
    numbers = values.astype(np.float64)
    sizes = np.abs(np.where(np.isfinite(numbers) & (numbers != 0), numbers, 1.0))
    decimals = 6 - np.floor(np.log10(sizes))
    unit = 10.0 ** np.abs(decimals)
    finer = np.rint(numbers * unit) / unit
    return np.where(decimals >= 0, finer, np.rint(numbers / unit) * unit)

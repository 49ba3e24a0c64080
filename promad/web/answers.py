"""The answers of the API, built from verdicts, events and history."""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from promad.config.settings import Query
from promad.detection.recent_history import Recent
from promad.events.event_log import LoggedEvent, LoggedIncident
from promad.events.explanation import event_paragraph, explain, incident_paragraph
from promad.events.incidents import Member
from promad.events.markers import Marker, describe_marker
from promad.events.verdict import STATES, FeatureView, Verdict
from promad.web.lookup import MonitoredGroup
from promad.web.schemas import (
    EventAnswer,
    ExplanationAnswer,
    FeatureHistory,
    FeatureQuery,
    FeatureState,
    GroupAnswer,
    GroupDetail,
    HistoryAnswer,
    IncidentAnswer,
    IncidentDetail,
    LargestDeviationAnswer,
    LeadingFeatureAnswer,
    MarkerAnswer,
    MemberAnswer,
)

_MEMBER_FEATURES = 5


def drop_nan(number: float | None) -> float | None:
    """The number, or None if it is missing or not finite."""
    return number if number is not None and math.isfinite(number) else None


def build_feature_state(view: FeatureView) -> FeatureState:
    """One feature of a verdict."""
    observed, largest = drop_nan(view.observed), view.largest
    return FeatureState(
        name=view.name,
        contribution=view.contribution,
        direction=None if observed is None and largest is None else view.direction,
        observed=observed,
        expected=drop_nan(view.expected),
        elevation=view.elevation,
        since=view.since,
        largest=None
        if largest is None
        else LargestDeviationAnswer(
            at=largest.at,
            direction=largest.direction,
            observed=drop_nan(largest.observed),
            expected=drop_nan(largest.expected),
            elevation=largest.elevation,
        ),
    )


def build_explanation(group: str, verdict: Verdict, since: float | None) -> ExplanationAnswer:
    """The explanation of a verdict; `since` is the start of the open event."""
    explanation = explain(verdict, since)
    return ExplanationAnswer(
        group=group,
        at=verdict.at,
        state=verdict.state,
        score=drop_nan(verdict.score_ratio),
        anomalous_since=since,
        paragraph=explanation.paragraph,
        missing=list(verdict.missing),
        features=[build_feature_state(view) for view in explanation.features],
    )


def build_marker(marker: Marker) -> MarkerAnswer:
    """One marker."""
    return MarkerAnswer(
        name=marker.name, version=marker.version, at=marker.at, labels=dict(marker.labels)
    )


def build_event(logged: LoggedEvent, marker: Marker | None = None) -> EventAnswer:
    """One event of the event log, with the marker that it names."""
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
        paragraph=_add_marker(event_paragraph(event), marker, event.start),
        features=[build_feature_state(view) for view in event.peak.ranked_features],
        acknowledged_at=logged.acknowledged_at,
        feedback=logged.feedback,
        comment=logged.comment,
        labels=dict(event.labels),
        incident=logged.incident,
        muted=event.muted,
        unmuted_at=event.unmuted_at,
        marker=None if marker is None else build_marker(marker),
    )


def _add_marker(text: str, marker: Marker | None, start: float) -> str:
    return text if marker is None else f"{text} {describe_marker(marker, start)}"


def build_incident(logged: LoggedIncident, marker: Marker | None = None) -> IncidentAnswer:
    """One incident of the event log, without its groups, with the marker that it names."""
    incident = logged.incident
    peak = incident.peak
    return IncidentAnswer(
        id=incident.id,
        detector=incident.detector,
        scope=dict(incident.scope),
        start=incident.start,
        flagged_at=incident.flagged_at,
        end=incident.end,
        open=incident.end is None,
        groups=incident.groups,
        open_groups=incident.open_groups,
        groups_watched=incident.groups_watched,
        spread=incident.spread,
        feature_share=incident.feature_share,
        first_group=incident.first.group,
        first_labels=dict(incident.first.labels),
        peak_group=peak.group,
        peak_at=peak.peak_at,
        peak_score=peak.peak_ratio,
        common_labels=dict(incident.common_labels),
        leading_features=[
            LeadingFeatureAnswer(**feature._asdict()) for feature in incident.leading_features
        ],
        bundle=logged.bundle,
        paragraph=_add_marker(incident_paragraph(incident), marker, incident.first.onset),
        muted=incident.muted,
        unmuted_at=incident.unmuted_at,
        marker=None if marker is None else build_marker(marker),
    )


def build_incident_detail(
    logged: LoggedIncident, offset: int, limit: int, marker: Marker | None = None
) -> IncidentDetail:
    """One incident with a page of its groups."""
    page = logged.incident.members[offset : offset + limit]
    members = [_build_member(member) for member in page]
    return IncidentDetail(incident=build_incident(logged, marker), members=members)


def _build_member(member: Member) -> MemberAnswer:
    return MemberAnswer(
        group=member.group,
        labels=dict(member.labels),
        onset=member.onset,
        flagged_at=member.flagged_at,
        end=member.end,
        open=member.end is None,
        peak_at=member.peak_at,
        peak_score=member.peak_ratio,
        event=member.event,
        events=member.events,
        features=[build_feature_state(view) for view in member.features[:_MEMBER_FEATURES]],
    )


def build_group(group: MonitoredGroup) -> GroupAnswer:
    """The current status of a group."""
    status, verdict = group.status, group.status.verdict
    return GroupAnswer(
        group=group.name,
        detector=group.snapshot.detector,
        labels=dict(status.group),
        state=verdict.state,
        why=verdict.why,
        at=verdict.at,
        score=drop_nan(verdict.score_ratio),
        anomalous_since=status.anomalous_since,
        event=None if status.event is None else status.event.id,
        events_begun=status.events_begun,
        last_scored_at=status.last_scored_at,
        samples_in_window=status.samples_in_window,
        top_features=[view.name for view in verdict.top_features],
        calibration="pooled" if group.is_pooled else "own",
        muted_by=status.muted_by or None,
    )


def build_group_detail(group: MonitoredGroup) -> GroupDetail:
    """The current status of a group, its detector, and the explanation of its verdict."""
    config, detector, bundle = group.served.config, group.served.detector, group.served.bundle
    preparation, status = detector.preparation, group.status
    return GroupDetail(
        group=build_group(group),
        failed_queries=dict(group.snapshot.failed_queries),
        queries=[
            _build_query(name, config.queries[name], column < preparation.scored)
            for column, name in enumerate(preparation.features)
        ],
        step_seconds=preparation.step,
        window_size=detector.length,
        interval_seconds=config.real_time_anomaly_detection.query_interval_seconds,
        bundle=bundle.id,
        model=bundle.manifest.model,
        prometheus_url=config.web.prometheus_url or config.prometheus_url,
        grafana_url=config.web.grafana_url,
        peers=0 if group.fleet is None else len(group.fleet.labels) - 1,
        explanation=build_explanation(group.name, status.verdict, status.anomalous_since),
    )


def _build_query(name: str, query: Query, scored: bool) -> FeatureQuery:
    limits = query.valid_range
    return FeatureQuery(
        name=name,
        expr=query.expr,
        scored=scored,
        counts=str(query.rule),
        direction=query.direction,
        min_deviation=list(query.min_deviation),
        min_relative_deviation=list(query.min_relative_deviation),
        valid_range=None if limits is None else list(limits),
        outside=query.outside,
        weight=query.weight,
    )


def build_history(
    group: str, step: float, recent: Recent, features: Collection[str]
) -> HistoryAnswer:
    """Verdicts over time with these features; unknown numbers are NaN, which JSON has as null.

    Skips validation: these are up to a hundred thousand numbers, straight from arrays.
    """
    columns = [column for column, name in enumerate(recent.features) if name in features]
    curves = (recent.elevation, recent.contribution, recent.observed, recent.expected)
    rounded = [_round_to_single(curve[:, columns]).T.tolist() for curve in curves]
    return HistoryAnswer.model_construct(
        group=group,
        step_seconds=step,
        times=recent.times.tolist(),
        states=[STATES[state] for state in recent.states],
        score=_round_to_single(recent.score).tolist(),
        threshold=_round_to_single(recent.threshold).tolist(),
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
                columns, *rounded, strict=True
            )
        ],
    )


def _round_to_single(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """The numbers to seven digits, the precision of float32: half as long in JSON."""
    numbers = values.astype(np.float64)
    sizes = np.abs(np.where(np.isfinite(numbers) & (numbers != 0), numbers, 1.0))
    decimals = 6 - np.floor(np.log10(sizes))
    unit = 10.0 ** np.abs(decimals)
    finer = np.rint(numbers * unit) / unit
    return np.where(decimals >= 0, finer, np.rint(numbers / unit) * unit)

"""Explanations: why a sample or an incident is anomalous, as one line of text.

The same line is in the log, on the page, in reports, and in the descriptions of alerts, which
Prometheus renders from promad's metrics (`promad.mixin.alert_templates`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from promad.config.durations import format_instant
from promad.data.groups import Labels, list_matchers
from promad.events.events import AnomalyEvent
from promad.events.incidents import Incident, LeadingFeature, Member
from promad.events.verdict import FeatureView, LargestDeviation, Verdict

_NAMED = 3
"""The most features that are named."""
_SMALLEST_SHARE = 0.25
"""The contribution of a feature that is named, as a share of the largest."""

_SMALLEST_FACTOR, _LARGEST_FACTOR = 0.01, 10_000.0
_SI_PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")


@dataclass(frozen=True)
class Explanation:
    """The explanation of one sample.

    Attributes:
        verdict: the verdict that is explained.
        since: unix seconds since when the group has been anomalous; None if it is not.
        features: those that contribute, largest contribution first.
        paragraph: all of it as text, on one line.
    """

    verdict: Verdict
    since: float | None
    features: tuple[FeatureView, ...]
    paragraph: str


def explain(verdict: Verdict, since: float | None = None) -> Explanation:
    """The explanation of a verdict.

    Args:
        since: unix seconds of the start of the open event, if there is one.
    """
    return Explanation(verdict, since, verdict.ranked_features, paragraph(verdict, since))


def paragraph(verdict: Verdict, since: float | None = None) -> str:
    """A verdict as text, on one line.

    >>> from promad.events.verdict import State
    >>> print(paragraph(Verdict(0.0, State.BLIND, 1.0, why="no sample of cpu")))
    Blind: no sample of cpu.
    """
    if verdict.score_ratio is None:
        return f"{verdict.state.value.capitalize()}: {verdict.why}."
    return _describe_score(
        verdict.score_ratio, since, verdict.ranked_features, verdict.known_share, verdict.at
    )


def event_paragraph(event: AnomalyEvent) -> str:
    """An event as text, on one line: its peak, and where its features deviated most."""
    peak = event.peak
    return _describe_score(event.peak_ratio, event.start, peak.ranked_features, peak.known_share)


def _describe_score(
    score_ratio: float,
    since: float | None,
    features: Sequence[FeatureView],
    known: float | None,
    now: float | None = None,
) -> str:
    """A score and the features behind it.

    Args:
        features: largest contribution first.
        now: unix seconds of the newest sample, if the features' values are its.
    """
    begun = "" if since is None else f"; anomalous since {format_instant(since)}"
    sentences = [f"Score: {format_factor(score_ratio)} the threshold{begun}."]
    deviating = choose_named(features)
    sentences += [feature_sentence(view, now) for view in deviating]
    sentences += [] if deviating else ["No feature is above its baseline."]
    if known is not None and known < 1:
        sentences.append(f"Only {100 * known:.3g}% of the features have current samples.")
    return " ".join(sentences)


def choose_named(features: Sequence[FeatureView]) -> Sequence[FeatureView]:
    """The features to name, of some with the largest contribution first.

    A model's errors at one feature reach others too, so those that contribute little beside the
    first are not named.
    """
    least = _SMALLEST_SHARE * max((view.contribution for view in features), default=0.0)
    deviating = (
        view
        for view in features
        if view.contribution > 0
        and view.contribution >= least
        and (view.elevation > 1 or view.largest is not None)
    )
    return list(deviating)[:_NAMED]


def incident_paragraph(incident: Incident) -> str:
    """An incident as text, on one line; of one group its name, and the text of its event.

    40 of 200 groups deviate since 2026-11-02T10:02:00Z (first: web-17). Leading features:
    latency_p99 (38 groups), errors (31). In common: datacenter="b".
    """
    first = incident.first
    if incident.groups == 1:
        text = _describe_score(first.peak_ratio, first.onset, first.features, first.known_share)
        return f"{shorten_group(first.group, first.labels)}: {text}" if first.labels else text
    sentences = [f"{_count_groups(incident)} {_describe_time(incident)} ({_name_first(first)})."]
    leading = [feature for feature in incident.leading_features if feature.groups]
    sentences += [f"Leading features: {_list_features(leading)}."] if leading else []
    common = list_matchers(incident.common_labels)
    sentences += [f"In common: {common}."] if common else []
    return " ".join(sentences)


def _count_groups(incident: Incident) -> str:
    """How many groups of how many."""
    scope = f" in {list_matchers(incident.scope)}" if incident.scope else ""
    return f"{incident.groups} of {incident.groups_watched} groups{scope}"


def _describe_time(incident: Incident) -> str:
    """Since when, or from when to when; and how many groups do so now, if fewer than all."""
    since = format_instant(incident.first.onset)
    if incident.end is not None:
        return f"deviated from {since} to {format_instant(incident.end)}"
    if incident.open_groups == incident.groups:
        return f"deviate since {since}"
    verb = "does" if incident.open_groups == 1 else "do"
    return f"have deviated since {since}, {incident.open_groups} still {verb}"


def _name_first(member: Member) -> str:
    return f"first: {shorten_group(member.group, member.labels)}"


def shorten_group(name: str, labels: Labels) -> str:
    """A group without its detector: its only label value, or its labels.

    >>> shorten_group('web{instance="a"}', (("instance", "a"),))
    'a'
    >>> shorten_group('web{instance="a", job="b"}', (("instance", "a"), ("job", "b")))
    'instance="a", job="b"'
    """
    if not labels:
        return name
    return labels[0][1] if len(labels) == 1 else list_matchers(labels)


def _list_features(leading: Sequence[LeadingFeature]) -> str:
    """The first few features, with the number of groups that they deviate in."""
    first, *others = leading[:_NAMED]
    noun = "group" if first.groups == 1 else "groups"
    names = [f"{first.name} ({first.groups} {noun})"]
    return ", ".join(names + [f"{each.name} ({each.groups})" for each in others])


def feature_sentence(view: FeatureView, now: float | None = None) -> str:
    """One feature's part as text: values and error are those of one sample.

    That is the sample at which it deviated most, if it is known.

    Args:
        now: unix seconds of the newest sample, if the view's own values are its.

    >>> feature_sentence(FeatureView("cpu", 0.3, 0.75, 0.9, 0.25, elevation=2.5))
    'cpu: 75% of the deviation; observed 0.9, above the expected 0.25; error 2.5× its baseline.'
    """
    share = f"{view.name}: {100 * view.contribution:.0f}% of the deviation"
    since = "" if view.since is None else f" since {format_instant(view.since)}"
    if view.largest is None:
        error = f"error {format_factor(view.elevation)} its baseline{since}"
        return f"{share}; {_compare(view)}; {error}."
    begun = f"; deviates{since}" if since else ""
    newest = "" if now is None or now <= view.largest.at else f"; {_describe_newest(view)}"
    return f"{share}; {_describe_largest(view.largest)}{begun}{newest}."


def _describe_largest(largest: LargestDeviation) -> str:
    return (
        f"observed {format_value(largest.observed)} at {format_instant(largest.at)}, "
        f"{largest.direction} the expected {format_value(largest.expected)}; "
        f"error {format_factor(largest.elevation)} its baseline"
    )


def _describe_newest(view: FeatureView) -> str:
    if math.isnan(view.observed):
        return "no current sample"
    return f"now {format_value(view.observed)}, expected {format_value(view.expected)}"


def _compare(view: FeatureView) -> str:
    """The observed value against the expected one."""
    expected = format_value(view.expected)
    if math.isnan(view.observed):
        return f"no current sample, expected {expected}"
    return f"observed {format_value(view.observed)}, {view.direction} the expected {expected}"


def format_factor(factor: float) -> str:
    """How many times as large, to three digits; without an exponent, so capped at both ends.

    >>> format_factor(2.5), format_factor(1089.7), format_factor(1.09e6), format_factor(1e-5)
    ('2.5×', '1090×', '>10000×', '<0.01×')
    """
    if factor < _SMALLEST_FACTOR:
        return f"<{_SMALLEST_FACTOR:g}×"
    if factor > _LARGEST_FACTOR:
        return f">{_LARGEST_FACTOR:.0f}×"
    return f"{factor:.3g}×" if factor < 100 else f"{factor:.0f}×"


def format_value(value: float) -> str:
    """A measured value to four digits; whole from 1000 on, and with SI prefixes from 100 000 on.

    >>> format_value(0.25), format_value(12345.6), format_value(-1.5e9), format_value(2e-7)
    ('0.25', '12346', '-1.5G', '2e-07')
    """
    if abs(value) < 1000:
        return f"{value:.4g}"
    return f"{value:.0f}" if abs(value) < 100_000 else _shorten(value)


def _shorten(value: float) -> str:
    """The value with an SI prefix, as Prometheus's `humanize` writes it."""
    for prefix in _SI_PREFIXES[:-1]:
        if abs(value) < 1000:
            return f"{value:.4g}{prefix}"
        value /= 1000
    return f"{value:.4g}{_SI_PREFIXES[-1]}"

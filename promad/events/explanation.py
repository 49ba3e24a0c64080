"""Explanations: what is odd about a sample, in the order of what drives it and in plain words.

The same paragraph stands in the log, on the page, in reports and in the descriptions of alerts,
which Prometheus puts together from promad's metrics.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from promad.config.durations import format_instant
from promad.events.verdict import FeatureView, Verdict

_NAMED = 3
"""So many features are named, of those above their baselines."""


@dataclass(frozen=True)
class Explanation:
    """What one sample's verdict comes to.

    Attributes:
        verdict: the judgement that is explained.
        since: unix seconds since when the group has been anomalous; None if it is not.
        features: those that contribute, largest contribution first.
        paragraph: all of it in plain words, on one line.
    """

    verdict: Verdict
    since: float | None
    features: tuple[FeatureView, ...]
    paragraph: str


def explain(verdict: Verdict, since: float | None = None) -> Explanation:
    """The explanation of a verdict.

    Args:
        since: unix seconds of the start of the event that is open, if one is.
    """
    return Explanation(verdict, since, verdict.ranked_features, paragraph(verdict, since))


def paragraph(verdict: Verdict, since: float | None = None) -> str:
    """A verdict in plain words, on one line.

    >>> from promad.events.verdict import State
    >>> print(paragraph(Verdict(0.0, State.BLIND, 1.0, why="no sample of cpu")))
    Blind: no sample of cpu.
    """
    if verdict.score_ratio is None:
        return f"{verdict.state.value.capitalize()}: {verdict.why}."
    begun = "" if since is None else f", anomalous since {format_instant(since)}"
    sentences = [f"The score is {verdict.score_ratio:.3g} times the threshold{begun}."]
    deviating = [view for view in verdict.ranked_features if view.elevation > 1]
    sentences += map(feature_sentence, deviating[:_NAMED])
    sentences += [] if deviating else ["No feature deviates by itself."]
    known = verdict.known_share
    if known is not None and known < 1:
        sentences.append(f"{100 * known:.0f}% of the features are known.")
    return " ".join(sentences)


def feature_sentence(view: FeatureView) -> str:
    """One feature's part in plain words.

    >>> feature_sentence(FeatureView("cpu", 0.3, 0.75, 0.9, 0.25, elevation=2.5))
    'cpu makes 75% of the excess: it is above what is expected, 0.9 against 0.25; its recent error
    is 2.5 times the usual.'
    """
    since = "" if view.since is None else f", since {format_instant(view.since)}"
    return (
        f"{view.name} makes {100 * view.contribution:.0f}% of the excess: {_measured(view)}; "
        f"its recent error is {view.elevation:.3g} times the usual{since}."
    )


def _measured(view: FeatureView) -> str:
    if math.isnan(view.observed):
        return f"it has no sample now, where {view.expected:.4g} is expected"
    return (
        f"it is {view.direction} what is expected, {view.observed:.4g} against {view.expected:.4g}"
    )

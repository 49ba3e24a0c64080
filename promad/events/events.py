"""`AnomalyEvent`: a maximal anomalous run of one group; `promad.events.hysteresis` has the rule."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from promad.data.groups import Labels, sort_labels
from promad.events.verdict import FeatureView, Verdict, verdict_from_json


def make_event_id(group: str, start: float) -> str:
    """The id of the event of a group that began then, in unix seconds."""
    return hashlib.sha256(f"{group}\n{start:.3f}".encode()).hexdigest()[:12]


@dataclass(frozen=True)
class AnomalyEvent:
    """One anomaly, open while `end` is None.

    Attributes:
        group: the name of the group that it befell.
        start: unix seconds of the first sample above the threshold.
        flagged_at: unix seconds of the sample that made it an event.
        end: unix seconds of the last sample above the threshold, once the event is over.
        peak: the verdict with the largest score over threshold so far, attribution and all.
        labels: the group's label values.
        muted: the title of the entry of `mute` that muted the group at `flagged_at`; None if none
            did.
        unmuted_at: unix seconds of the first sample since then at which it was not muted any more;
            None if there is none.
    """

    group: str
    start: float
    flagged_at: float
    end: float | None
    peak: Verdict
    labels: Labels = ()
    muted: str | None = None
    unmuted_at: float | None = None

    @property
    def alerts_from(self) -> float | None:
        """Unix seconds from which alerts may fire; None if the group has been muted throughout."""
        return self.flagged_at if self.muted is None else self.unmuted_at

    @property
    def id(self) -> str:
        """Twelve letters and digits, the same whenever the same event is found again."""
        return make_event_id(self.group, self.start)

    @property
    def peak_ratio(self) -> float:
        """The largest score over threshold seen so far."""
        return self.peak.score_ratio or 0.0

    @property
    def peak_at(self) -> float:
        """When that was, in unix seconds."""
        return self.peak.at

    @property
    def top_features(self) -> tuple[FeatureView, ...]:
        """The three features that made the peak, largest contribution first."""
        return self.peak.top_features


def event_from_json(content: Mapping[str, Any]) -> AnomalyEvent:
    """The event that `dataclasses.asdict` took apart.

    Raises:
        KeyError, TypeError, ValueError: if `content` is no event.
    """
    peak = verdict_from_json(content["peak"])
    labels = tuple((str(name), str(value)) for name, value in content.get("labels", ()))
    return AnomalyEvent(**{**content, "peak": peak, "labels": labels})


def read_labels(content: Mapping[str, Any]) -> Labels:
    """Labels from a JSON object."""
    return sort_labels({str(name): str(value) for name, value in content.items()})

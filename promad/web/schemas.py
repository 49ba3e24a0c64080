"""Requests and responses of the REST API; `GET /openapi.json` is generated from them.

Times are unix seconds. An unknown number is null, never 0.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from promad.events.verdict import State

MOST_ROWS = 20_000
"""The limit on samples in one request."""

Finite = Annotated[float, Field(allow_inf_nan=False)]
Row = Annotated[list[Finite], Field(min_length=1, fail_fast=True)]
"""Validation stops at the first mistake: a body may contain a million."""


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class Problem(_Answer):
    """The reason why a request was refused, in one sentence."""

    detail: str


class Health(_Answer):
    """Whether the daemon can score, and the bundles that it loaded."""

    status: Literal["starting", "ready"]
    available: list[str] = Field(description="All trained bundles, oldest first.")
    loaded: list[str] = Field(description="The loaded bundles, one for each detector.")


class TrainedModel(_Answer):
    """One trained bundle."""

    detector: str
    bundle: str
    model: str
    preset: str
    trained_at: str = Field(description="ISO 8601, UTC.")
    n_features: int
    threshold: float
    threshold_method: str
    current: bool = Field(description="Whether it is the current bundle of `promad models`.")
    loaded: bool = Field(description="Whether the daemon scores with it.")


class LoadedDetector(_Answer):
    """One running detector."""

    detector: str
    bundle: str
    model: str
    preset: str
    threshold: float
    threshold_method: str
    expected_false_alarms_per_week: float | None
    n_features: int
    features: list[str]
    window_size: int
    step_seconds: float
    device: Literal["cpu"]
    config: dict[str, Any] = Field(description="All configuration keys; secrets are masked.")


class ScoreRequest(BaseModel):
    """Samples to score, in raw units. Unknown keys are refused."""

    model_config = ConfigDict(
        extra="allow",
        frozen=True,
        strict=True,
        json_schema_extra={"additionalProperties": False},
    )

    group: str | None = Field(None, description="Name of the group; optional if there is only one.")
    data: list[Row] = Field(
        description="One row per sample, one number per feature; at least one window of rows.",
        min_length=1,
        max_length=MOST_ROWS,
        fail_fast=True,
    )
    timestamps: Annotated[list[Finite], Field(fail_fast=True)] | None = Field(
        None,
        description="Unix seconds of the rows, one step apart; required with time features.",
    )
    features: Annotated[list[str], Field(fail_fast=True)] | None = Field(
        None, description="The feature of each column; by default in the order of GET /config."
    )
    include_per_timestep: bool = False
    include_attribution: bool = True
    scoring_mode: str | None = Field(
        None,
        description="One of the scoring modes of the model (tranad: `phase2_only`, `averaged`); "
        "by default that of the bundle.",
    )

    @model_validator(mode="after")
    def _refuse_unknown_keys(self) -> Self:
        """Stop at the first: `extra="forbid"` would report each of up to a million."""
        for key in self.model_extra or ():
            known = ", ".join(type(self).model_fields)
            raise ValueError(f"{key[:40]} is not a known key — the keys are {known}")
        return self


class AttributedDimension(_Answer):
    """The share of one feature in a segment."""

    dim: int = Field(description="Its column in `data`, from 0.")
    label: str
    mean_elevation: float = Field(
        description="Mean error over the baseline of the feature, from training."
    )
    contribution: float = Field(description="Share of the deviation, 0 to 1.")


class AnomalySegment(_Answer):
    """Consecutive samples above the threshold; positions are rows of `data`, from 0."""

    segment_start: int
    segment_end: int
    segment_length: int
    peak_score: float
    peak_timestamp: int = Field(description="The row of the peak.")
    mean_score: float
    attributed_dimensions: list[AttributedDimension] | None


class ScoredTimestep(_Answer):
    """One row; null before the first complete window."""

    timestep: int
    score: float | None
    is_anomaly: bool | None


class ScoreAnswer(_Answer):
    """The result of scoring a batch."""

    group: str
    bundle: str
    n_timesteps: int
    n_scored: int = Field(description="Rows that end a complete window.")
    n_features: int
    threshold: float
    threshold_method: str
    n_anomalies: int
    anomaly_ratio: float = Field(description="Share of anomalous rows among the scored rows.")
    anomaly_segments: list[AnomalySegment]
    per_timestep: list[ScoredTimestep] | None
    scoring_mode: str | None = Field(description="Null if the model has no scoring modes.")


class LargestDeviationAnswer(_Answer):
    """The sample at which a feature deviated most, in its event if there is one."""

    at: float
    direction: Literal["above", "below"]
    observed: float | None
    expected: float | None
    elevation: float = Field(description="Error of that sample over the baseline from training.")


class FeatureState(_Answer):
    """One feature at one time."""

    name: str
    contribution: float
    direction: Literal["above", "below"] | None = Field(
        description="When it deviated most, if that is known; null without a sample."
    )
    observed: float | None
    expected: float | None
    elevation: float = Field(
        description="Error over the baseline from training; above 1 the feature deviates."
    )
    since: float | None = Field(
        description="Start of the deviation; null if the feature does not deviate."
    )
    largest: LargestDeviationAnswer | None = Field(
        description="Where it deviated most; null if it does not deviate, or if it is not known."
    )


class ExplanationAnswer(_Answer):
    """The explanation of the state of a group."""

    group: str
    at: float
    state: State
    score: float | None = Field(description="Score over threshold; above 1 is anomalous.")
    anomalous_since: float | None
    paragraph: str
    missing: list[str] = Field(description="Features without a sample.")
    features: list[FeatureState] = Field(description="Largest contribution first.")


class MarkerAnswer(_Answer):
    """One marker: a version that was deployed."""

    name: str
    version: str
    at: float
    labels: dict[str, str] = Field(
        description="Labels of the groups that it is about; empty if it is about all groups."
    )


class MarkerList(_Answer):
    """Markers, newest first."""

    markers: list[MarkerAnswer]


class EventAnswer(_Answer):
    """One event: consecutive anomalous samples of a group."""

    id: str
    group: str
    start: float
    flagged_at: float
    end: float | None
    open: bool
    end_reason: Literal["quiet", "bundle", "unwatched", "vanished", "moved"] | None
    peak_at: float
    peak_score: float
    bundle: str
    paragraph: str = Field(description="The peak in plain words.")
    features: list[FeatureState] = Field(description="At the peak, largest contribution first.")
    acknowledged_at: float | None
    feedback: str | None
    comment: str | None
    labels: dict[str, str] = Field(description="Labels of the group.")
    incident: str | None = Field(description="Id of the incident that it is part of.")
    muted: str | None = Field(
        description="The entry of `mute` that was in effect when it began; null if none was."
    )
    unmuted_at: float | None = Field(
        description="When the group was muted no longer, so that alerts could fire; null if the "
        "event was not muted, or was muted until it ended."
    )
    marker: MarkerAnswer | None = Field(
        description="The newest marker shortly before it began; null if there is none."
    )


class EventPage(_Answer):
    """Events, newest start first; `next` is the cursor of the next page, null on the last page."""

    events: list[EventAnswer]
    next: str | None


class LeadingFeatureAnswer(_Answer):
    """One feature of an incident."""

    name: str
    contribution: float = Field(
        description="Share of the deviation of all groups at their peaks, 0 to 1."
    )
    groups: int = Field(description="Groups in which it deviates.")


class IncidentAnswer(_Answer):
    """One incident: events of several groups that began together, or of one group."""

    id: str
    detector: str
    scope: dict[str, str] = Field(description="Values of the labels in `incidents.scope`.")
    start: float
    flagged_at: float
    end: float | None
    open: bool
    groups: int = Field(description="Groups that are part of it.")
    open_groups: int = Field(description="Those that deviate now.")
    groups_watched: int = Field(description="Groups of the scope when the newest one joined.")
    spread: float = Field(description="Share of the groups that are part of it, 0 to 1.")
    feature_share: float = Field(
        description="Share of the features that deviate in any group, 0 to 1."
    )
    first_group: str = Field(description="The group with the earliest onset.")
    first_labels: dict[str, str] = Field(description="Labels of that group.")
    peak_group: str
    peak_at: float
    peak_score: float
    common_labels: dict[str, str] = Field(
        description="Labels that its groups have in common, but not all groups of the scope."
    )
    leading_features: list[LeadingFeatureAnswer] = Field(description="Largest contribution first.")
    bundle: str
    paragraph: str = Field(description="The incident in plain words.")
    muted: str | None = Field(
        description="The entry of `mute` that muted all of its groups when it was found; null if "
        "one was not muted."
    )
    unmuted_at: float | None = Field(
        description="When a group of it was muted no longer, so that alerts could fire; null if "
        "the incident was not muted, or was muted until it ended."
    )
    marker: MarkerAnswer | None = Field(
        description="The newest marker of its first group shortly before it began; null if there "
        "is none."
    )


class MemberAnswer(_Answer):
    """One group of an incident."""

    group: str
    labels: dict[str, str]
    onset: float
    flagged_at: float
    end: float | None
    open: bool
    peak_at: float
    peak_score: float
    event: str = Field(description="Id of its newest event.")
    events: int = Field(description="Its events that are part of the incident.")
    features: list[FeatureState] = Field(
        description="At the peak, largest contribution first; at most five."
    )


class IncidentDetail(_Answer):
    """One incident with its groups, earliest onset first; `incident.groups` is their number."""

    incident: IncidentAnswer
    members: list[MemberAnswer] = Field(description="A page of its groups.")


class IncidentPage(_Answer):
    """Incidents, newest start first; `next` is the cursor of the next page, null on the last."""

    incidents: list[IncidentAnswer]
    next: str | None


class FeatureQuery(_Answer):
    """The query of one feature."""

    name: str
    expr: str
    scored: bool
    counts: str = Field(
        description="Which deviations count, and how much; empty if all do, and alike."
    )
    direction: Literal["both", "above", "below"]
    min_deviation: list[float] = Field(description="Below and above the expected value.")
    min_relative_deviation: list[float] = Field(
        description="Below and above the expected value, as a share of it."
    )
    valid_range: list[float | None] | None
    outside: Literal["missing", "anomalous"] = Field(
        description="What a value outside of the valid range is."
    )
    weight: float


class GroupAnswer(_Answer):
    """The current status of one group."""

    group: str
    detector: str
    labels: dict[str, str]
    state: State
    why: str
    at: float
    score: float | None
    anomalous_since: float | None
    event: str | None = Field(description="Id of the open event.")
    events_begun: int = Field(description="Since the daemon started.")
    last_scored_at: float | None
    samples_in_window: int
    top_features: list[str]
    calibration: Literal["own", "pooled"] = Field(
        description="`pooled` for a group that was not part of the training."
    )
    muted_by: str | None = Field(
        description="The entry of `mute` that mutes the group now; null if none does."
    )


class GroupList(_Answer):
    """Groups, worst first unless sorted otherwise."""

    now: float
    version: str
    groups: list[GroupAnswer] = Field(
        description="One page; with `since`, the groups whose state or coarse score changed."
    )
    total: int = Field(description="All groups.")
    matching: int = Field(description="Groups that match `search` and `state`.")
    states: dict[State, int] = Field(description="All groups, by state.")
    counts: dict[State, int] = Field(description="Groups that match `search`, by state.")
    detectors: list[str] = Field(description="Names of the running detectors.")
    selected: GroupAnswer | None = Field(
        description="The group that `group` names, or the only group."
    )
    token: str = Field(description="`since` of the next request.")
    delta: bool = Field(
        description="Whether `groups` are only those that changed; false for an expired token."
    )
    gone: list[str] = Field(
        description="With `since`, groups that are not monitored or do not match any more."
    )
    shard: int | None = Field(description="Number of the daemon's shard; null without `--shard`.")
    shard_count: int | None = Field(description="How many shards there are.")
    merges: bool = Field(
        description="Whether `web.peers` is set, so that `/api/v1/shards/groups` has all shards."
    )


class GroupDetail(_Answer):
    """One group with its detector, its queries and its explanation."""

    group: GroupAnswer
    failed_queries: dict[str, str]
    queries: list[FeatureQuery]
    step_seconds: float
    window_size: int
    interval_seconds: float
    bundle: str
    model: str
    prometheus_url: str
    grafana_url: str | None
    peers: int = Field(description="Other groups of the fleet; 0 without `group_by`.")
    explanation: ExplanationAnswer


class PeerComparison(_Answer):
    """A value of one group compared with the other groups of its fleet."""

    value: float | None
    peers: int = Field(description="Other groups with a value.")
    lower_quartile: float | None = None
    median: float | None = None
    upper_quartile: float | None = None
    share_below: float | None = Field(
        default=None, description="Share of the other groups with a lower value, 0 to 1."
    )
    share_above: float | None = Field(
        default=None, description="Share of the other groups with a higher value, 0 to 1."
    )


class PeerFeature(PeerComparison):
    """The observed value of one feature compared with the other groups."""

    name: str
    contribution: float


class PeersAnswer(_Answer):
    """How a group differs from the other groups of its fleet at the newest sample."""

    group: str
    at: float
    peers: int = Field(description="Other groups of the fleet.")
    score: PeerComparison = Field(description="Score over threshold.")
    features: list[PeerFeature] = Field(description="Largest contribution first.")


class FeatureHistory(_Answer):
    """One feature over time, one number per sample."""

    name: str
    elevation: list[float | None]
    contribution: list[float | None]
    observed: list[float | None]
    expected: list[float | None]


class HistoryAnswer(_Answer):
    """The newest samples of a group, oldest first."""

    group: str
    step_seconds: float
    times: list[float]
    states: list[State]
    score: list[float | None] = Field(description="Score over threshold; above 1 is anomalous.")
    threshold: list[float] = Field(description="The threshold in the unit of the score.")
    why: list[str]
    features: list[FeatureHistory]

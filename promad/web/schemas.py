"""What the REST API takes and answers; `GET /openapi.json` is made from it.

Times are unix seconds. A number that is not known is null, never 0.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from promad.events.verdict import State

MOST_ROWS = 20_000
"""How many samples one request may have scored."""

Finite = Annotated[float, Field(allow_inf_nan=False)]
Row = Annotated[list[Finite], Field(min_length=1, fail_fast=True)]
"""The first mistake is enough: a body may hold a million."""


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class Problem(_Answer):
    """Why a request was refused, in one sentence."""

    detail: str


class Health(_Answer):
    """Whether the daemon can score, and with what."""

    status: Literal["starting", "ready"]
    available: list[str] = Field(description="bundles that are there, oldest first")
    loaded: list[str] = Field(description="bundles at work, one for each detector")


class TrainedModel(_Answer):
    """One bundle that a training left."""

    detector: str
    bundle: str
    model: str
    preset: str
    trained_at: str = Field(description="ISO 8601, UTC")
    n_features: int
    threshold: float
    threshold_method: str
    current: bool = Field(description="whether promad models has it in use")
    loaded: bool = Field(description="whether the daemon scores with it")


class LoadedDetector(_Answer):
    """A detector at work."""

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
    config: dict[str, Any] = Field(description="every key as it stands; secrets are masked")


class ScoreRequest(BaseModel):
    """Samples to score, in raw units. A key that is not known is refused."""

    model_config = ConfigDict(
        extra="allow",
        frozen=True,
        strict=True,
        json_schema_extra={"additionalProperties": False},
    )

    group: str | None = Field(None, description="may be left out where there is one group alone")
    data: list[Row] = Field(
        description="one row per sample, one number per feature; at least a window of rows",
        min_length=1,
        max_length=MOST_ROWS,
        fail_fast=True,
    )
    timestamps: Annotated[list[Finite], Field(fail_fast=True)] | None = Field(
        None, description="unix seconds of the rows, a step apart; needed with calendar features"
    )
    features: Annotated[list[str], Field(fail_fast=True)] | None = Field(
        None, description="which feature each column is; by default in the order of GET /config"
    )
    include_per_timestep: bool = False
    include_attribution: bool = True
    scoring_mode: Literal["phase2_only", "averaged"] | None = Field(
        None, description="of a tranad bundle; by default the bundle's own"
    )

    @model_validator(mode="after")
    def _knows_every_key(self) -> Self:
        """Stop at the first: `extra="forbid"` would write an essay on each of a million."""
        for key in self.model_extra or ():
            known = ", ".join(type(self).model_fields)
            raise ValueError(f"{key[:40]} is unknown — the keys are {known}")
        return self


class AttributedDimension(_Answer):
    """What one feature has to do with a segment."""

    dim: int = Field(description="its column in `data`, from 0")
    label: str
    mean_elevation: float = Field(description="mean error over its baseline in training")
    contribution: float = Field(description="share of the excess, 0 to 1")


class AnomalySegment(_Answer):
    """Samples in a row above the threshold; positions are rows of `data`, from 0."""

    segment_start: int
    segment_end: int
    segment_length: int
    peak_score: float
    peak_timestamp: int = Field(description="the row of the peak")
    mean_score: float
    attributed_dimensions: list[AttributedDimension] | None


class ScoredTimestep(_Answer):
    """One row; null before the first whole window."""

    timestep: int
    score: float | None
    is_anomaly: bool | None


class ScoreAnswer(_Answer):
    """What scoring came to."""

    group: str
    bundle: str
    n_timesteps: int
    n_scored: int = Field(description="rows at which a whole window ends")
    n_features: int
    threshold: float
    threshold_method: str
    n_anomalies: int
    anomaly_ratio: float = Field(description="share of the scored rows")
    anomaly_segments: list[AnomalySegment]
    per_timestep: list[ScoredTimestep] | None
    scoring_mode: Literal["phase2_only", "averaged"] | None


class FeatureState(_Answer):
    """One feature at one time."""

    name: str
    contribution: float
    direction: Literal["above", "below"] | None = Field(description="null without a sample")
    observed: float | None
    expected: float | None
    elevation: float = Field(description="error over its baseline in training: above 1 it deviates")
    since: float | None = Field(description="since when it deviates; null if it does not")


class ExplanationAnswer(_Answer):
    """Why a group is judged as it is."""

    group: str
    at: float
    state: State
    score: float | None = Field(description="score over threshold: above 1 is anomalous")
    anomalous_since: float | None
    paragraph: str
    missing: list[str] = Field(description="features without a sample")
    features: list[FeatureState] = Field(description="largest contribution first")


class EventAnswer(_Answer):
    """One anomaly."""

    id: str
    group: str
    start: float
    flagged_at: float
    end: float | None
    open: bool
    end_reason: Literal["quiet", "bundle", "unwatched"] | None
    peak_at: float
    peak_score: float
    bundle: str
    paragraph: str = Field(description="the peak in plain words")
    features: list[FeatureState] = Field(description="at the peak, largest contribution first")
    acknowledged_at: float | None
    feedback: str | None
    comment: str | None


class EventPage(_Answer):
    """Events, newest start first; `next` is the cursor of the next page, null on the last."""

    events: list[EventAnswer]
    next: str | None


class FeatureQuery(_Answer):
    """What one feature is measured by."""

    name: str
    expr: str
    scored: bool


class GroupAnswer(_Answer):
    """Where one group stands."""

    group: str
    detector: str
    labels: dict[str, str]
    state: State
    why: str
    at: float
    score: float | None
    anomalous_since: float | None
    event: str | None = Field(description="id of the event that is open")
    events_begun: int = Field(description="since the daemon started")
    last_scored_at: float | None
    samples_in_window: int
    top_features: list[str]


class GroupList(_Answer):
    """Every group, worst first, and where a browser finds the rest."""

    now: float
    version: str
    groups: list[GroupAnswer]


class GroupDetail(_Answer):
    """One group, with what the page needs beside its history."""

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
    explanation: ExplanationAnswer


class FeatureHistory(_Answer):
    """One feature over time, one number per sample."""

    name: str
    elevation: list[float | None]
    contribution: list[float | None]
    observed: list[float | None]
    expected: list[float | None]


class HistoryAnswer(_Answer):
    """A group's newest samples, oldest first."""

    group: str
    step_seconds: float
    times: list[float]
    states: list[State]
    score: list[float | None] = Field(description="score over threshold: above 1 is anomalous")
    threshold: list[float] = Field(description="the limit in the score's own unit")
    why: list[str]
    features: list[FeatureHistory]

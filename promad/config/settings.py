"""Every key of config.yaml beside its type, its default and its unit. Unknown keys are refused.

The shipped `config.yaml` explains each key in words; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, Field, field_validator, model_validator

from promad.config.deviation_rule import EVERYTHING_COUNTS, DeviationRule
from promad.config.marker_settings import MarkerSettings
from promad.config.model_defaults import (
    DEFAULT_MEMBERS,
    MemberName,
    ModelName,
    PresetName,
    fill_defaults,
)
from promad.config.mute_settings import Mute
from promad.config.section import Section as _Section
from promad.config.server_settings import PeerSettings, PrometheusSettings
from promad.config.values import (
    Alias,
    CalendarFeature,
    Duration,
    FileName,
    Instant,
    JoinWithin,
    KerasFileName,
    LabelName,
    LatencyOffset,
    LeastDeviation,
    Location,
    MetricsPrefix,
    NaturalInt,
    PeerUrl,
    PositiveDuration,
    PositiveFloat,
    PositiveInt,
    PromQL,
    Regex,
    ServerUrl,
    Share,
    Text,
    ThresholdValue,
    TimeZone,
    ValidRange,
)

_SHORTEST_JOIN = 120.0
"""Seconds: `incidents.join_within: auto` is at least this."""


class Period(_Section):
    """A stretch of history: unix seconds, both ends included."""

    start: Instant
    end: Instant

    @model_validator(mode="after")
    def _runs_forward(self) -> Period:
        if self.end <= self.start:
            raise ValueError("the period ends before it starts — swap start and end")
        return self


class Query(_Section):
    """What one feature is measured by; in the file also written as the bare expression."""

    expr: PromQL
    condition: bool = False
    valid_range: ValidRange | None = None
    outside: Literal["missing", "anomalous"] = "missing"
    direction: Literal["both", "above", "below"] = "both"
    min_deviation: LeastDeviation = (0.0, 0.0)
    min_relative_deviation: LeastDeviation = (0.0, 0.0)
    weight: PositiveFloat = 1.0

    @model_validator(mode="before")
    @classmethod
    def _from_bare_expression(cls, value: Any) -> Any:
        if isinstance(value, Mapping | Query):
            return value
        if not isinstance(value, str):
            raise ValueError("not a PromQL expression — write it as a string in quotes")
        return {"expr": value}

    @property
    def rule(self) -> DeviationRule:
        """Which deviations count."""
        return DeviationRule(
            self.direction,
            self.min_deviation,
            self.min_relative_deviation,
            self.outside,
            self.weight,
        )

    @model_validator(mode="after")
    def _goes_together(self) -> Query:
        if self.outside == "anomalous" and self.valid_range is None:
            raise ValueError("outside: anomalous needs valid_range — set it, or remove outside")
        if self.condition and self.rule != EVERYTHING_COUNTS:
            raise ValueError(
                f"a condition is not scored, so its deviations cannot count {self.rule} — remove "
                "condition, or the keys about deviations"
            )
        return self


class Exclusion(_Section):
    """Samples that training leaves out: a period, or wherever an expression is not zero."""

    start: Instant | None = None
    end: Instant | None = None
    expr: PromQL | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_bare_expression(cls, value: Any) -> Any:
        return {"expr": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _has_one_meaning(self) -> Exclusion:
        if self.expr is not None:
            if self.start is not None or self.end is not None:
                raise ValueError("has both a period and an expression — split it into two entries")
        elif self.start is None or self.end is None:
            raise ValueError("needs start and end, or a PromQL expression — set one of the two")
        elif self.end <= self.start:
            raise ValueError("the period ends before it starts — swap start and end")
        return self


class RelabelConfig(_Section):
    """One relabelling rule in Prometheus's own words, applied before a series finds its group."""

    action: Literal[
        "replace", "keep", "drop", "labeldrop", "labelkeep", "lowercase", "uppercase"
    ] = "replace"
    source_labels: tuple[Text, ...] = ()
    separator: str = ";"
    regex: Regex = "(.*)"
    target_label: Text | None = None
    replacement: str = "$1"

    @model_validator(mode="after")
    def _is_complete(self) -> RelabelConfig:
        needs_target = self.action in {"replace", "lowercase", "uppercase"}
        if needs_target and self.target_label is None:
            raise ValueError(f"action {self.action} needs target_label — set it")
        needs_source = self.action in {"keep", "drop", "lowercase", "uppercase"}
        if needs_source and not self.source_labels:
            raise ValueError(f"action {self.action} needs source_labels — set it")
        return self


class DataSettings(_Section):
    """What `collect` fetches."""

    collection_period_hours: PositiveFloat = 168.0
    collection_periods_iso: tuple[Period, ...] = ()
    start_time_iso: Instant | None = None
    end_time_iso: Instant | None = None
    step: PositiveDuration = 30.0
    cache_chunk_hours: PositiveFloat = 24.0
    allow_partial: bool = False
    exclude: tuple[Exclusion, ...] = ()
    output_filename: FileName = "prometheus_metrics_data.parquet"


class PreprocessingSettings(_Section):
    """How `preprocess` fills, splits and scales; `detect` does the same by the bundle."""

    input_filename: FileName | None = None
    nan_fill_strategy: Literal["ffill_then_bfill", "mean", "median", "drop_rows", "none"] = (
        "ffill_then_bfill"
    )
    max_fill_steps: NaturalInt = 5
    time_features: tuple[CalendarFeature, ...] = ()
    time_zone: TimeZone = "UTC"
    scaler_type: Literal["ParetoScaler", "StandardScaler", "MinMaxScaler", "RobustScaler"] = (
        "ParetoScaler"
    )
    processed_output_filename: FileName = "processed_metrics_data.parquet"
    scaler_output_filename: FileName = "fitted_scaler.joblib"


class LinearSettings(_Section):
    """The window-PCA and ridge-VAR pair."""

    components: PositiveInt = 20
    lags: PositiveInt = 10
    ridge: PositiveFloat = 1.0


class ForecasterSettings(_Section):
    """The stacked LSTM forecaster."""

    n_predictions: PositiveInt = 10
    layers: tuple[PositiveInt, ...] = (80, 80)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3


class TranadSettings(_Section):
    """The two-phase transformer."""

    scoring_mode: Literal["phase2_only", "averaged"] = "phase2_only"
    loss_weighting: Literal["epoch_inverse", "exponential_decay"] = "epoch_inverse"


class FusionSettings(_Section):
    """Several models, scored as one."""

    members: tuple[MemberName, ...] = DEFAULT_MEMBERS

    @model_validator(mode="after")
    def _has_two_different_members(self) -> FusionSettings:
        if len(set(self.members)) < max(2, len(self.members)):
            raise ValueError("members must be at least two different models — list each once")
        return self


class ScoringSettings(_Section):
    """How errors become a score; `scoring: mse` alone is the plain error over the window."""

    method: Literal["normalised", "mse"] = "normalised"
    normalise_by: Literal["feature", "model"] = "feature"
    quantile: Share = 0.99
    aggregate: Literal["mean", "top_k"] = "mean"
    top_k: PositiveInt = 3
    smoothing_samples: PositiveInt = 10
    compression: PositiveFloat | None = 5.0
    recent_samples: PositiveInt = 3
    required_share: Annotated[float, Field(gt=0, le=1)] = 0.7


class TrainingSettings(_Section):
    """How `train` fits the model. `auto` is the default of the model and its preset."""

    input_processed_filename: FileName | None = None
    model: ModelName
    preset: PresetName
    model_output_filename: KerasFileName = "lstm_autoencoder_model.keras"
    sequence_length: Annotated[int, Field(ge=2, strict=True)]
    train_split_ratio: Share = 0.8
    model_scope: Literal["pooled", "per_group"] = "pooled"
    max_training_windows: PositiveInt = 50_000
    epochs: PositiveInt
    batch_size: PositiveInt
    learning_rate: PositiveFloat
    early_stopping_patience: PositiveInt
    lstm_units_encoder1: PositiveInt
    lstm_units_encoder2_latent: PositiveInt
    lstm_units_decoder1: PositiveInt
    lstm_units_decoder2: PositiveInt
    seed: NaturalInt = 42
    scoring: ScoringSettings
    gate: bool = True
    keep_bundles: Annotated[int, Field(ge=2, strict=True)] | None = None
    linear: LinearSettings = LinearSettings()
    lstm_forecaster: ForecasterSettings = ForecasterSettings()
    tranad: TranadSettings = TranadSettings()
    fusion: FusionSettings = FusionSettings()
    train_on_filtered_sequences: bool = False
    filtered_model_output_filename: KerasFileName = "lstm_autoencoder_model_filtered.keras"

    @model_validator(mode="before")
    @classmethod
    def _fill_model_defaults(cls, value: Any) -> Any:
        """Use the model's defaults for `auto` and missing keys."""
        given = {} if value is None else value
        return fill_defaults(given) if isinstance(given, Mapping) else given

    def of_member(self, model: str) -> TrainingSettings:
        """The settings of one member of a fusion.

        They are the defaults of that model, except for keys that the file sets.
        """
        defaults = TrainingSettings(model=self.model, preset=self.preset)  # type: ignore[call-arg]
        given = {
            name: getattr(self, name)
            for name in type(self).model_fields
            if name not in {"model", "preset", "sequence_length", "scoring"}
            and getattr(self, name) != getattr(defaults, name)
        }
        return TrainingSettings.model_validate({**given, "model": model})


class DataFilteringSettings(_Section):
    """Where `filter` writes the windows, and how much it trims.

    The errors of all windows are kept only if named.
    """

    normal_sequences_output_filename: FileName = "normal_sequences.npy"
    anomalous_sequences_output_filename: FileName = "anomalous_sequences.npy"
    all_sequence_errors_output_filename: FileName | None = None
    trim_share: Share = 0.05
    trim_rounds: PositiveInt = 2


class ThresholdTuning(_Section):
    """What only some of the thresholds need."""

    level: Share = 0.98
    drift_samples: PositiveInt = 200
    history_samples: PositiveInt = 2100
    batch_samples: PositiveInt = 70
    error_buffer: PositiveInt = 100
    minimum_drop: Share = 0.13
    mode: Literal["stream", "batch"] = "stream"


class AlertBudget(_Section):
    """How many false alarms are acceptable."""

    false_alarms_per_week: PositiveFloat = 1.0
    per: Literal["detector", "group"] = "detector"
    max_group_share: Annotated[float, Field(gt=0, le=1)] = 0.5


class EventEnd(_Section):
    """What ends an event: `leave_after_samples` in a row that do not keep it open."""

    by: Literal["recent", "score"] = "recent"
    below: Annotated[float, Field(gt=0, le=1)] = 0.5
    hold: Duration = 7200.0


class RealTimeSettings(_Section):
    """How `detect` polls, judges and publishes."""

    query_interval_seconds: PositiveFloat = 30.0
    anomaly_threshold_mse: ThresholdValue = "auto"
    threshold: Literal["auto", "quantile", "pot", "spot", "dspot", "dynamic"] = "auto"
    threshold_tuning: ThresholdTuning = ThresholdTuning()
    alert_budget: AlertBudget = AlertBudget()
    adapt_threshold: bool = True
    enter_after_samples: PositiveInt = 2
    leave_after_samples: PositiveInt = 5
    event_end: EventEnd = EventEnd()
    latency_offset: LatencyOffset = "auto"
    stale_after: PositiveDuration = 120.0
    exporter_port: Annotated[int, Field(ge=0, le=65535, strict=True)] = 8001
    metrics_prefix: MetricsPrefix = "anomaly_detector_"
    data_step_duration: PositiveDuration | None = None
    forget_after: PositiveDuration = 3600.0
    max_feature_series: NaturalInt = 10_000
    history_samples: PositiveInt = 720
    events_retention: PositiveDuration = 90 * 86400.0

    @property
    def longest_latency_offset(self) -> float:
        """Seconds: the offset, or if it is `auto`, the longest of servers with default settings."""
        return 40.0 if self.latency_offset == "auto" else self.latency_offset


class IncidentSettings(_Section):
    """Which events of several groups are one incident."""

    join_within: JoinWithin = "auto"
    reenter_within: Duration = 120.0
    join_similar_within: Duration = 900.0
    return_within: Duration = 7200.0
    scope: tuple[LabelName, ...] = ()

    @field_validator("scope")
    @classmethod
    def _has_each_label_once(cls, scope: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(scope)) < len(scope):
            raise ValueError("lists a label twice — list each once")
        return scope

    def join_seconds(self, step: float) -> float:
        """Seconds after the newest onset within which an onset joins; `step` in seconds."""
        return max(_SHORTEST_JOIN, 2 * step) if self.join_within == "auto" else self.join_within


class WebSettings(_Section):
    """External addresses, used in links only, and the other shards that the page shows."""

    external_url: ServerUrl | None = None
    prometheus_url: ServerUrl | None = None
    grafana_url: ServerUrl | None = None
    runbook_url: Text = "docs/runbooks.md"
    peers: tuple[PeerUrl, ...] = ()
    peers_http_config: PeerSettings = PeerSettings()

    @field_validator("peers")
    @classmethod
    def _names_each_peer_once(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            if urls.count(url) > 1:
                raise ValueError(f"{url} is listed twice — list each daemon once")
        return urls


class Config(_Section):
    """One detector: which queries, on which server, and what each stage does with them."""

    name: Text = "promad"
    preset: Literal["auto", "standard", "original"] = "auto"
    prometheus_url: ServerUrl = "http://localhost:9090"
    prometheus: PrometheusSettings = PrometheusSettings()
    artifacts_dir: Annotated[Location, Field(validate_default=True)] = Path("artifacts")
    queries: Annotated[Mapping[Alias, Query], Field(min_length=1)]
    group_by: tuple[LabelName, ...] = ()
    shard_by: tuple[LabelName, ...] = ()
    group_relabel_configs: tuple[RelabelConfig, ...] = ()
    max_groups: PositiveInt = 5000
    data_settings: DataSettings = DataSettings()
    preprocessing_settings: PreprocessingSettings = PreprocessingSettings()
    training_settings: TrainingSettings = TrainingSettings.model_validate({})
    data_filtering_settings: DataFilteringSettings = DataFilteringSettings()
    real_time_anomaly_detection: RealTimeSettings = RealTimeSettings()
    incidents: IncidentSettings = IncidentSettings()
    mute: tuple[Mute, ...] = ()
    markers: tuple[MarkerSettings, ...] = ()
    web: WebSettings = WebSettings()

    @field_validator("queries")
    @classmethod
    def _has_a_scored_query(cls, queries: Mapping[str, Query]) -> Mapping[str, Query]:
        if queries and all(query.condition for query in queries.values()):
            raise ValueError("every query is a condition — remove condition from at least one")
        return queries

    @model_validator(mode="after")
    def _score_by_mse_for_a_fixed_threshold(self) -> Config:
        """A threshold given as a number is a limit on the mean squared error."""
        scoring = self.training_settings.scoring
        if self.real_time_anomaly_detection.anomaly_threshold_mse == "auto" or (
            scoring.method == "mse"
        ):
            return self
        plain = scoring.model_copy(update={"method": "mse"})
        training = self.training_settings.model_copy(update={"scoring": plain})
        return self.model_copy(update={"training_settings": training})

    @field_validator("markers")
    @classmethod
    def _names_each_marker_once(
        cls, markers: tuple[MarkerSettings, ...]
    ) -> tuple[MarkerSettings, ...]:
        names = [marker.name for marker in markers]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{name} is listed twice — give each marker a name of its own")
        return markers

    @field_validator("group_by", "shard_by")
    @classmethod
    def _names_each_label_once(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        for label in labels:
            if labels.count(label) > 1:
                raise ValueError(f"{label} is listed twice — list each label once")
        return labels

    @property
    def features(self) -> tuple[str, ...]:
        """The queries' aliases, in the order of the file; conditions come after all others."""
        return tuple(sorted(self.queries, key=lambda alias: self.queries[alias].condition))

    @property
    def scored(self) -> int:
        """How many of the features are scored; the rest only condition the model."""
        return sum(not query.condition for query in self.queries.values())

    @property
    def promql(self) -> dict[str, str]:
        """The expression behind each feature."""
        return {alias: self.queries[alias].expr for alias in self.features}

    @property
    def valid_ranges(self) -> tuple[tuple[float | None, float | None], ...]:
        """The limits of each feature's valid values; empty if no query has any."""
        ranges = tuple(self.queries[alias].valid_range or (None, None) for alias in self.features)
        return ranges if any(limits != (None, None) for limits in ranges) else ()

    @property
    def rules(self) -> tuple[DeviationRule, ...]:
        """Which deviations of each scored feature count; empty if all do, and alike."""
        rules = tuple(self.queries[alias].rule for alias in self.features[: self.scored])
        return rules if any(rule != EVERYTHING_COUNTS for rule in rules) else ()


KeyPath = tuple[str, ...]


def key_paths(section: type[BaseModel] = Config, above: KeyPath = ()) -> Iterator[KeyPath]:
    """The place of every key in the file; `*` means an alias, a header's name or an index."""
    for name, field in section.model_fields.items():
        path = (*above, field.alias or name)
        yield path
        inner = _section_in(field.annotation)
        if inner is not None:
            collection = get_origin(field.annotation) in {Mapping, tuple}
            yield from key_paths(inner, (*path, "*") if collection else path)


def _section_in(annotation: Any) -> type[BaseModel] | None:
    """The section within a type, as in `Mapping[str, Query]` or `BasicAuth | None`."""
    candidates = (annotation, *get_args(annotation))
    return next(
        (each for each in candidates if isinstance(each, type) and issubclass(each, BaseModel)),
        None,
    )

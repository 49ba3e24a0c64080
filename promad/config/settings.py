"""Every key of config.yaml beside its type, its default and its unit. Unknown keys are refused.

The shipped `config.yaml` explains each key in words; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from promad.config.values import (
    Alias,
    AuthorizationType,
    CalendarFeature,
    Duration,
    FileName,
    HeaderName,
    Instant,
    KerasFileName,
    Location,
    MetricsPrefix,
    NaturalInt,
    PositiveDuration,
    PositiveFloat,
    PositiveInt,
    PromQL,
    ServerUrl,
    Share,
    Text,
    ThresholdValue,
    TimeZone,
    Url,
)


class _Section(BaseModel):
    """A part of the configuration: immutable, and a key it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _from_nothing(cls, value: Any) -> Any:
        """A section whose keys are all commented out reads as null and means the defaults."""
        can_do_without = not any(field.is_required() for field in cls.model_fields.values())
        return {} if value is None and can_do_without else value


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

    @model_validator(mode="before")
    @classmethod
    def _from_bare_expression(cls, value: Any) -> Any:
        if isinstance(value, Mapping | Query):
            return value
        if not isinstance(value, str):
            raise ValueError("is no expression — write PromQL, in quotes if in doubt")
        return {"expr": value}


class BasicAuth(_Section):
    """User name and password for the Prometheus server."""

    username: Text
    password: SecretStr | None = None
    password_file: Location | None = None


class Authorization(_Section):
    """An Authorization header for the Prometheus server."""

    type: AuthorizationType = "Bearer"
    credentials: SecretStr | None = None
    credentials_file: Location | None = None


class TlsConfig(_Section):
    """How the Prometheus server's certificate is checked, and which one is shown to it."""

    ca_file: Location | None = None
    cert_file: Location | None = None
    key_file: Location | None = None
    insecure_skip_verify: bool = False


class HttpHeader(_Section):
    """One extra header: literal values, secret ones, or files that hold them."""

    values: tuple[str, ...] = ()
    secrets: tuple[SecretStr, ...] = ()
    files: tuple[Location, ...] = ()


class PrometheusSettings(_Section):
    """How to speak to the Prometheus server; the words are Prometheus's own."""

    timeout: PositiveDuration = 30.0
    compression: Literal["identity", "gzip"] = "identity"
    basic_auth: BasicAuth | None = None
    authorization: Authorization | None = None
    tls_config: TlsConfig = TlsConfig()
    http_headers: Mapping[HeaderName, HttpHeader] = {}
    proxy_url: Url | None = None


class DataSettings(_Section):
    """What `collect` fetches."""

    collection_period_hours: PositiveFloat = 168.0
    collection_periods_iso: tuple[Period, ...] = ()
    start_time_iso: Instant | None = None
    end_time_iso: Instant | None = None
    step: PositiveDuration = 30.0
    cache_chunk_hours: PositiveFloat = 24.0
    allow_partial: bool = False
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
    scaler_type: Literal["MinMaxScaler", "StandardScaler", "RobustScaler"] = "StandardScaler"
    processed_output_filename: FileName = "processed_metrics_data.parquet"
    scaler_output_filename: FileName = "fitted_scaler.joblib"


class TrainingSettings(_Section):
    """How `train` fits the model."""

    input_processed_filename: FileName | None = None
    model: Literal["lstm_autoencoder"] = "lstm_autoencoder"
    model_output_filename: KerasFileName = "lstm_autoencoder_model.keras"
    sequence_length: Annotated[int, Field(ge=2, strict=True)] = 30
    train_split_ratio: Share = 0.8
    epochs: PositiveInt = 50
    batch_size: PositiveInt = 64
    learning_rate: PositiveFloat = 0.001
    early_stopping_patience: PositiveInt = 10
    lstm_units_encoder1: PositiveInt = 64
    lstm_units_encoder2_latent: PositiveInt = 32
    lstm_units_decoder1: PositiveInt = 32
    lstm_units_decoder2: PositiveInt = 64
    seed: NaturalInt = 42
    train_on_filtered_sequences: bool = False
    filtered_model_output_filename: KerasFileName = "lstm_autoencoder_model_filtered.keras"


class DataFilteringSettings(_Section):
    """Where `filter` writes the windows; the errors of all windows are kept only if named."""

    normal_sequences_output_filename: FileName = "normal_sequences.npy"
    anomalous_sequences_output_filename: FileName = "anomalous_sequences.npy"
    all_sequence_errors_output_filename: FileName | None = None


class AlertBudget(_Section):
    """How many false alarms a person is willing to look at."""

    false_alarms_per_week: PositiveFloat = 1.0


class RealTimeSettings(_Section):
    """How `detect` polls, judges and publishes."""

    query_interval_seconds: PositiveFloat = 30.0
    anomaly_threshold_mse: ThresholdValue = "auto"
    alert_budget: AlertBudget = AlertBudget()
    enter_after_samples: PositiveInt = 2
    leave_after_samples: PositiveInt = 5
    latency_offset: Duration = 10.0
    stale_after: PositiveDuration = 120.0
    exporter_port: Annotated[int, Field(ge=0, le=65535, strict=True)] = 8001
    metrics_prefix: MetricsPrefix = "anomaly_detector_"
    data_step_duration: PositiveDuration | None = None


class Config(_Section):
    """One detector: which queries, on which server, and what each stage does with them."""

    name: Text = "promad"
    prometheus_url: ServerUrl = "http://localhost:9090"
    prometheus: PrometheusSettings = PrometheusSettings()
    artifacts_dir: Annotated[Location, Field(validate_default=True)] = Path("artifacts")
    queries: Annotated[Mapping[Alias, Query], Field(min_length=1)]
    data_settings: DataSettings = DataSettings()
    preprocessing_settings: PreprocessingSettings = PreprocessingSettings()
    training_settings: TrainingSettings = TrainingSettings()
    data_filtering_settings: DataFilteringSettings = DataFilteringSettings()
    real_time_anomaly_detection: RealTimeSettings = RealTimeSettings()

    @property
    def features(self) -> tuple[str, ...]:
        """The queries' aliases, in the order of the file."""
        return tuple(self.queries)

    @property
    def promql(self) -> dict[str, str]:
        """The expression behind each feature."""
        return {alias: query.expr for alias, query in self.queries.items()}


KeyPath = tuple[str, ...]


def key_paths(section: type[BaseModel] = Config, above: KeyPath = ()) -> Iterator[KeyPath]:
    """Where every key stands in the file; `*` stands for an alias, a header's name or an index."""
    for name, field in section.model_fields.items():
        path = (*above, name)
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

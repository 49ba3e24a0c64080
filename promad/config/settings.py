"""Every key of config.yaml beside its type, its default and its unit. Unknown keys are refused.

The shipped `config.yaml` explains each key in words; a test holds the two together.
A validator's message reads `what is wrong — what to do`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import promql_parser
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    model_validator,
)

from promad.config.durations import parse_duration, parse_instant


def _duration(value: Any) -> Any:
    if isinstance(value, bool | int | float):
        raise ValueError(f"a duration needs its unit — write {value:g}s for seconds")
    return parse_duration(value) if isinstance(value, str) else value


def _positive_duration(value: Any) -> Any:
    seconds = _duration(value)
    if seconds == 0:
        raise ValueError("must be longer than nothing — write it like 15s")
    return seconds


def _instant(value: Any) -> Any:
    if isinstance(value, date) and not isinstance(value, datetime):
        return parse_instant(value.isoformat())
    return parse_instant(value) if isinstance(value, str | datetime) else value


def _file_name(value: str) -> str:
    if not value or value in {".", ".."} or "/" in value or "\\" in value:
        raise ValueError("must be a bare file name — it is written into artifacts_dir")
    return value


def _server_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("not a server's address — write it like http://localhost:9090")
    if parts.username or parts.password:
        raise ValueError(
            "credentials do not belong in the address — "
            "use prometheus.basic_auth with password_file"
        )
    return value.rstrip("/")


def _promql(value: str) -> str:
    try:
        tree = promql_parser.parse(value)
    except ValueError as error:
        raise ValueError(f"PromQL: {error} — mend the expression") from None
    if isinstance(tree, promql_parser.MatrixSelector):
        raise ValueError(
            "PromQL: a range vector is not a value per time — "
            f"wrap it, as in rate({value}) or avg_over_time({value})"
        )
    if isinstance(tree, promql_parser.StringLiteral):
        raise ValueError("PromQL: a string has no value to learn — write an expression")
    return value


def _time_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError):
        raise ValueError("unknown time zone — write one like UTC or Europe/Berlin") from None
    return value


def _metrics_prefix(value: str) -> str:
    if not (value.isascii() and value.replace("_", "a").isalnum() and not value[0].isdigit()):
        raise ValueError(
            "cannot begin a metric's name — use letters, digits and underscores, letter first"
        )
    return value


Duration = Annotated[float, BeforeValidator(_duration)]
PositiveDuration = Annotated[float, BeforeValidator(_positive_duration)]
Instant = Annotated[float, BeforeValidator(_instant)]
FileName = Annotated[str, AfterValidator(_file_name)]
PositiveInt = Annotated[int, Field(ge=1, strict=True)]
NaturalInt = Annotated[int, Field(ge=0, strict=True)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
CalendarFeature = Literal["hour_of_day", "day_of_week"]


class _Section(BaseModel):
    """A part of the configuration: immutable, and a key it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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

    expr: Annotated[str, AfterValidator(_promql)]

    @model_validator(mode="before")
    @classmethod
    def _from_bare_expression(cls, value: Any) -> Any:
        return {"expr": value} if isinstance(value, str) else value


class BasicAuth(_Section):
    """User name and password for the Prometheus server."""

    username: str
    password: SecretStr | None = None
    password_file: Path | None = None


class Authorization(_Section):
    """An Authorization header for the Prometheus server."""

    type: str = "Bearer"
    credentials: SecretStr | None = None
    credentials_file: Path | None = None


class TlsConfig(_Section):
    """How the Prometheus server's certificate is checked, and which one is shown to it."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    insecure_skip_verify: bool = False


class HttpHeader(_Section):
    """One extra header: literal values, secret ones, or files that hold them."""

    values: tuple[str, ...] = ()
    secrets: tuple[SecretStr, ...] = ()
    files: tuple[Path, ...] = ()


class PrometheusSettings(_Section):
    """How to speak to the Prometheus server; the words are Prometheus's own."""

    timeout: PositiveDuration = 30.0
    compression: Literal["identity", "gzip"] = "identity"
    basic_auth: BasicAuth | None = None
    authorization: Authorization | None = None
    tls_config: TlsConfig = TlsConfig()
    http_headers: Mapping[str, HttpHeader] = {}
    proxy_url: str | None = None


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
    time_zone: Annotated[str, AfterValidator(_time_zone)] = "UTC"
    scaler_type: Literal["MinMaxScaler", "StandardScaler", "RobustScaler"] = "StandardScaler"
    processed_output_filename: FileName = "processed_metrics_data.parquet"
    scaler_output_filename: FileName = "fitted_scaler.joblib"


class TrainingSettings(_Section):
    """How `train` fits the model."""

    input_processed_filename: FileName | None = None
    model: Literal["lstm_autoencoder"] = "lstm_autoencoder"
    model_output_filename: FileName = "lstm_autoencoder_model.keras"
    sequence_length: Annotated[int, Field(ge=2, strict=True)] = 30
    train_split_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.8
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
    filtered_model_output_filename: FileName = "lstm_autoencoder_model_filtered.keras"


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
    anomaly_threshold_mse: PositiveFloat | Literal["auto"] = "auto"
    alert_budget: AlertBudget = AlertBudget()
    enter_after_samples: PositiveInt = 2
    leave_after_samples: PositiveInt = 5
    latency_offset: Duration = 10.0
    stale_after: PositiveDuration = 120.0
    exporter_port: Annotated[int, Field(ge=0, le=65535, strict=True)] = 8001
    metrics_prefix: Annotated[str, Field(min_length=1), AfterValidator(_metrics_prefix)] = (
        "anomaly_detector_"
    )
    data_step_duration: PositiveDuration | None = None


class Config(_Section):
    """One detector: which queries, on which server, and what each stage does with them."""

    name: Annotated[str, Field(min_length=1)] = "promad"
    prometheus_url: Annotated[str, AfterValidator(_server_url)] = "http://localhost:9090"
    prometheus: PrometheusSettings = PrometheusSettings()
    artifacts_dir: Path = Path("artifacts")
    queries: Annotated[Mapping[str, Query], Field(min_length=1)]
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

"""The configuration: every key, its default and its unit, and the reader of config.yaml."""

from promad.config.durations import format_duration, parse_duration, parse_instant
from promad.config.reading import load_config, read_config
from promad.config.server_settings import (
    BasicAuth,
    ClientSettings,
    Oauth2,
    PeerSettings,
    PrometheusSettings,
    Sigv4,
    TlsConfig,
)
from promad.config.settings import (
    AlertBudget,
    Config,
    DataFilteringSettings,
    DataSettings,
    IncidentSettings,
    Period,
    PreprocessingSettings,
    Query,
    RealTimeSettings,
    ScoringSettings,
    TrainingSettings,
    WebSettings,
)

__all__ = [
    "AlertBudget",
    "BasicAuth",
    "ClientSettings",
    "Config",
    "DataFilteringSettings",
    "DataSettings",
    "IncidentSettings",
    "Oauth2",
    "PeerSettings",
    "Period",
    "PreprocessingSettings",
    "PrometheusSettings",
    "Query",
    "RealTimeSettings",
    "ScoringSettings",
    "Sigv4",
    "TlsConfig",
    "TrainingSettings",
    "WebSettings",
    "format_duration",
    "load_config",
    "parse_duration",
    "parse_instant",
    "read_config",
]

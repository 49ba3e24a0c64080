"""The types of single values. A validator's message reads `what is wrong — what to do`."""

from __future__ import annotations

import re
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from promad.config.cron import check_cron
from promad.config.durations import parse_duration, parse_instant
from promad.config.promql import check_promql

_OWN_PARAMETERS = frozenset({"query", "start", "end", "step", "time", "timeout"})
_LABEL_NAME = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110, section 5.6.2


def _read_duration(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        written = f"{int(value)}s" if float(value).is_integer() else f"{value * 1000:g}ms"
        raise ValueError(f"a duration needs a unit — write {written} for seconds")
    return parse_duration(value if isinstance(value, str) else "")


def _read_positive_duration(value: Any) -> float:
    seconds = _read_duration(value)
    if seconds == 0:
        raise ValueError("must be longer than 0s — write it like 15s")
    return seconds


def _read_latency_offset(value: Any) -> float | str:
    return "auto" if value == "auto" else _read_duration(value)


def _read_instant(value: Any) -> float:
    """Text is ISO 8601 (`20261122` too, which looks like a number); code may give unix seconds."""
    return value if isinstance(value, float) else parse_instant(str(value))


def _read_join_within(value: Any) -> float | str:
    if value == "auto":
        return "auto"
    try:
        return _read_duration(value)
    except ValueError as error:
        raise ValueError(f"{error}, or auto") from None


def _check_threshold(value: Any) -> float | str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value == "auto" or (number and 0 < value < float("inf")):
        return value  # type: ignore[no-any-return]
    raise ValueError("must be auto or a number above 0 — auto chooses it by alert_budget")


def _read_parameter(value: Any) -> tuple[str, ...]:
    """The values of a query parameter as text, as in `true`; a single one needs no list."""
    values = value if isinstance(value, list | tuple) else (value,)
    if not values or not all(isinstance(each, str | int | float) for each in values):
        raise ValueError("not a value or a list of values — write it like [true]")
    return tuple(str(each).lower() if isinstance(each, bool) else str(each) for each in values)


def _check_parameter_name(value: str) -> str:
    if value in _OWN_PARAMETERS:
        raise ValueError("promad sets this parameter itself — remove it")
    if not value or not value.isprintable():
        raise ValueError("not a valid parameter name — write it like partial_response")
    return value


def _read_valid_range(value: Any) -> tuple[float | None, float | None]:
    """Two limits in order, either of which may be null."""
    is_pair = isinstance(value, list | tuple) and len(value) == 2
    if not is_pair or not all(map(_is_limit, value)) or set(value) == {None}:
        raise ValueError("must be two numbers, of which one may be null — write it like [0, 100]")
    low, high = (None if limit is None else float(limit) for limit in value)
    if low is not None and high is not None and low >= high:
        raise ValueError(f"the range ends before it starts ([{low:g}, {high:g}]) — swap the two")
    return low, high


def _read_least_deviation(value: Any) -> tuple[float, float]:
    """One number for both directions, or one for below and one for above."""
    both = list(value) if isinstance(value, list | tuple) else [value, value]
    if len(both) != 2 or None in both or not all(map(_is_limit, both)) or min(both) < 0:
        raise ValueError(
            "must be a number of at least 0, or two: below and above the expected value — write "
            "it like 0.1 or [0.1, 0.2]"
        )
    below, above = map(float, both)
    return below, above


def _is_limit(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value is None or (is_number and isfinite(value))


def _check_alias(value: str) -> str:
    taken = value == "timestamp" or value.startswith("group:")
    if taken or not value.strip() or not value.isprintable():
        raise ValueError(
            "not a valid alias — choose another name (timestamp and group:… are reserved)"
        )
    return value


def check_label_name(value: str) -> str:
    """The name, if it can be a label of a group.

    Raises:
        ValueError: with what to write instead.
    """
    if not _LABEL_NAME.fullmatch(value):
        raise ValueError("not a label name — write it like instance")
    if value in _RESERVED_LABELS:
        raise ValueError("reserved — use another label, or rename it by group_relabel_configs")
    return value


def _check_file_name(value: str) -> str:
    if value in {"", ".", ".."} or "/" in value or "\\" in value or not value.isprintable():
        raise ValueError("must be a file name without a directory — it is written to artifacts_dir")
    return value


def _check_keras_file_name(value: str) -> str:
    if not _check_file_name(value).endswith(".keras"):
        raise ValueError("must end in .keras — Keras requires this extension")
    return value


def _resolve_path(value: Path, info: ValidationInfo) -> Path:
    """A path relative to the directory of config.yaml, if that is known."""
    if str(value) == "." and info.field_name != "artifacts_dir":
        raise ValueError("not a file — write the path of a file")
    try:
        path = value.expanduser()
    except RuntimeError:
        raise ValueError("unknown user — write the path without ~") from None
    directory = (info.context or {}).get("directory")
    return path if directory is None else directory / path


def _check_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        well_formed = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        well_formed = False
    if not well_formed or any(letter.isspace() for letter in value):
        raise ValueError("not a valid URL — write it like http://localhost:9090")
    return value


def check_server_url(value: str, section: str = "prometheus") -> str:
    """The URL of a server without a slash at its end.

    Args:
        section: where its client is in the configuration.

    Raises:
        ValueError: with what to write instead.
    """
    parts = urlsplit(_check_url(value))
    if parts.username is not None or parts.password is not None:
        raise ValueError(
            f"credentials are not allowed in the URL — use {section}.basic_auth with password_file"
        )
    if "?" in value or "#" in value:
        raise ValueError("must not contain ? or # — remove them and what follows")
    return value.rstrip("/")


def _check_peer_url(value: str) -> str:
    return check_server_url(value, "web.peers_http_config")


def _check_endpoint_url(value: str) -> str:
    parts = urlsplit(_check_url(value))
    if parts.username is not None or parts.password is not None:
        raise ValueError("credentials are not allowed in the URL — use client_id and client_secret")
    if parts.fragment:
        raise ValueError("must not contain # — remove it and what follows")
    return value


def _check_header_name(value: str) -> str:
    if not _HEADER_NAME.fullmatch(value):
        raise ValueError("not a valid header name — write it like X-Scope-OrgID")
    return value


def _check_authorization_type(value: str) -> str:
    if value.lower() == "basic":
        raise ValueError("not supported here — use prometheus.basic_auth")
    return value


def _check_time_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError):
        raise ValueError("unknown time zone — use a name such as UTC or Europe/Berlin") from None
    return value


def _check_metrics_prefix(value: str) -> str:
    if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", value):
        raise ValueError(
            "not a valid metric name prefix — use letters, digits and underscores, "
            "starting with a letter"
        )
    if value.startswith("promad_"):
        raise ValueError("reserved for the daemon's own metrics — choose another prefix")
    return value


def _check_regex(value: str) -> str:
    try:
        re.compile(value, re.ASCII)
    except (re.error, ValueError) as error:
        raise ValueError(f"not a valid regular expression ({error}) — fix it") from None
    return value


_RESERVED_LABELS = frozenset({"calibration", "detector", "feature_name", "le", "quantile", "state"})
"""Labels of promad's own on the series of a group."""

Text = Annotated[str, Field(min_length=1)]
Duration = Annotated[float, BeforeValidator(_read_duration)]
PositiveDuration = Annotated[float, BeforeValidator(_read_positive_duration)]
Instant = Annotated[float, BeforeValidator(_read_instant)]
PositiveInt = Annotated[int, Field(ge=1, strict=True)]
NaturalInt = Annotated[int, Field(ge=0, strict=True)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
Share = Annotated[float, Field(gt=0, lt=1, strict=True)]
ThresholdValue = Annotated[float | Literal["auto"], BeforeValidator(_check_threshold)]
ParameterName = Annotated[str, AfterValidator(_check_parameter_name)]
ParameterValues = Annotated[tuple[str, ...], BeforeValidator(_read_parameter)]
ValidRange = Annotated[tuple[float | None, float | None], BeforeValidator(_read_valid_range)]
LeastDeviation = Annotated[tuple[float, float], BeforeValidator(_read_least_deviation)]
JoinWithin = Annotated[float | Literal["auto"], BeforeValidator(_read_join_within)]
LabelName = Annotated[str, AfterValidator(check_label_name)]
LatencyOffset = Annotated[float | Literal["auto"], BeforeValidator(_read_latency_offset)]
Alias = Annotated[str, AfterValidator(_check_alias)]
FileName = Annotated[str, AfterValidator(_check_file_name)]
KerasFileName = Annotated[str, AfterValidator(_check_keras_file_name)]
Location = Annotated[Path, AfterValidator(_resolve_path)]
Url = Annotated[str, AfterValidator(_check_url)]
ServerUrl = Annotated[str, AfterValidator(check_server_url)]
PeerUrl = Annotated[str, AfterValidator(_check_peer_url)]
EndpointUrl = Annotated[str, AfterValidator(_check_endpoint_url)]
HeaderName = Annotated[str, AfterValidator(_check_header_name)]
AuthorizationType = Annotated[str, AfterValidator(_check_authorization_type)]
Regex = Annotated[str, AfterValidator(_check_regex)]
PromQL = Annotated[str, AfterValidator(check_promql)]
TimeZone = Annotated[str, AfterValidator(_check_time_zone)]
Cron = Annotated[str, AfterValidator(check_cron)]
MetricsPrefix = Annotated[str, AfterValidator(_check_metrics_prefix)]
CalendarFeature = Literal["hour_of_day", "day_of_week"]

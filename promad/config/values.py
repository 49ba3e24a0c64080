"""The types of single values. A validator's message reads `what is wrong — what to do`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import promql_parser
from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from promad.config.durations import parse_duration, parse_instant

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110, section 5.6.2


def _duration(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f"a duration needs its unit — write {value}s for seconds")
    return parse_duration(value if isinstance(value, str) else "")


def _positive_duration(value: Any) -> float:
    seconds = _duration(value)
    if seconds == 0:
        raise ValueError("must be longer than nothing — write it like 15s")
    return seconds


def _instant(value: Any) -> float:
    """Text is ISO 8601 (`20261122` too, which looks like a number); code may give unix seconds."""
    return value if isinstance(value, float) else parse_instant(str(value))


def _threshold(value: Any) -> float | str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value == "auto" or (number and 0 < value < float("inf")):
        return value  # type: ignore[no-any-return]
    raise ValueError("must be auto or a number above zero — auto chooses one by alert_budget")


def _alias(value: str) -> str:
    taken = value == "timestamp" or value.startswith("group:")
    if taken or not value.strip() or not value.isprintable():
        raise ValueError(
            "cannot name a feature — choose a word for it "
            "(timestamp and group:… are columns of promad's own)"
        )
    return value


def _file_name(value: str) -> str:
    if value in {"", ".", ".."} or "/" in value or "\\" in value or not value.isprintable():
        raise ValueError("must be a bare file name — it is written into artifacts_dir")
    return value


def _keras_file_name(value: str) -> str:
    if not _file_name(value).endswith(".keras"):
        raise ValueError("must end in .keras — Keras knows its files by that")
    return value


def _beside_the_file(value: Path, info: ValidationInfo) -> Path:
    """A relative path is meant from the directory of config.yaml, where the reader knows it."""
    if str(value) == "." and info.field_name != "artifacts_dir":
        raise ValueError("names no file — write its path")
    try:
        path = value.expanduser()
    except RuntimeError:
        raise ValueError("there is no such user — write the path without ~") from None
    directory = (info.context or {}).get("directory")
    return path if directory is None else directory / path


def _url(value: str) -> str:
    try:
        parts = urlsplit(value)
        well_formed = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        well_formed = False
    if not well_formed or any(letter.isspace() for letter in value):
        raise ValueError("not a server's address — write it like http://localhost:9090")
    return value


def _server_url(value: str) -> str:
    parts = urlsplit(_url(value))
    if parts.username is not None or parts.password is not None:
        raise ValueError(
            "credentials do not belong in the address — "
            "use prometheus.basic_auth with password_file"
        )
    if "?" in value or "#" in value:
        raise ValueError("an address has no ? or # — end it before that")
    return value.rstrip("/")


def _header_name(value: str) -> str:
    if not _HEADER_NAME.fullmatch(value):
        raise ValueError("is no header's name — write one like X-Scope-OrgID")
    return value


def _authorization_type(value: str) -> str:
    if value.lower() == "basic":
        raise ValueError("is not for this section — use prometheus.basic_auth")
    return value


def _promql(value: str) -> str:
    try:
        tree = promql_parser.parse(value)
    except ValueError as error:
        raise ValueError(f"PromQL: {error} — mend the expression") from None
    inner = tree
    while isinstance(inner, promql_parser.ParenExpr):
        inner = inner.expr
    if isinstance(inner, promql_parser.MatrixSelector | promql_parser.SubqueryExpr):
        raise ValueError(
            "PromQL: a range vector is not a value per time — "
            "wrap it in a function such as rate() or avg_over_time()"
        )
    if isinstance(inner, promql_parser.StringLiteral):
        raise ValueError("PromQL: a string has no value to learn — write an expression")
    return value


def _time_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError):
        raise ValueError("unknown time zone — write one like UTC or Europe/Berlin") from None
    return value


def _metrics_prefix(value: str) -> str:
    if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", value):
        raise ValueError(
            "cannot begin a metric's name — use letters, digits and underscores, letter first"
        )
    if value.startswith("promad_"):
        raise ValueError("is what the daemon's own metrics begin with — choose another")
    return value


Text = Annotated[str, Field(min_length=1)]
Duration = Annotated[float, BeforeValidator(_duration)]
PositiveDuration = Annotated[float, BeforeValidator(_positive_duration)]
Instant = Annotated[float, BeforeValidator(_instant)]
PositiveInt = Annotated[int, Field(ge=1, strict=True)]
NaturalInt = Annotated[int, Field(ge=0, strict=True)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
Share = Annotated[float, Field(gt=0, lt=1, strict=True)]
ThresholdValue = Annotated[float | Literal["auto"], BeforeValidator(_threshold)]
Alias = Annotated[str, AfterValidator(_alias)]
FileName = Annotated[str, AfterValidator(_file_name)]
KerasFileName = Annotated[str, AfterValidator(_keras_file_name)]
Location = Annotated[Path, AfterValidator(_beside_the_file)]
Url = Annotated[str, AfterValidator(_url)]
ServerUrl = Annotated[str, AfterValidator(_server_url)]
HeaderName = Annotated[str, AfterValidator(_header_name)]
AuthorizationType = Annotated[str, AfterValidator(_authorization_type)]
PromQL = Annotated[str, AfterValidator(_promql)]
TimeZone = Annotated[str, AfterValidator(_time_zone)]
MetricsPrefix = Annotated[str, AfterValidator(_metrics_prefix)]
CalendarFeature = Literal["hour_of_day", "day_of_week"]

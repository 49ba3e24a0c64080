"""The web configuration file of Prometheus and its exporters: its keys, and what is refused.

The format is that of exporter-toolkit. What promad cannot do is refused, and so is what would
protect less than it seems to.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from promad.config.document import Document, NotYamlError, parse_document
from promad.config.durations import parse_duration
from promad.config.reading import describe_problem
from promad.config.values import PositiveInt, Text
from promad.errors import ConfigError, escape_control_characters
from promad.http_server.cipher_suites import CIPHER_SUITES

_LARGEST_FILE_BYTES = 1_000_000
_ELSEWHERE = "see docs/security-of-the-port.md"
_HASH = re.compile(r"\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}")
_HIGHEST_COST = 18
_HASH_REMEDY = "write the output of: htpasswd -nBC 10 USER, without the user"
_HEADERS: Mapping[str, tuple[str, ...]] = {
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
    "Content-Security-Policy": (),
}
"""The headers that may be set, and their values where not every value is allowed."""

_UNVERIFIED = {"RequestClientCert", "RequireClientCert", "RequireAnyClientCert"}
_OLD_VERSIONS = {"TLS10", "TLS11"}


def _check_client_auth(value: str) -> str:
    if value in _UNVERIFIED:
        raise ValueError(
            "not supported: it accepts certificates that nobody signed — write "
            "RequireAndVerifyClientCert"
        )
    return value


def _check_version(value: str) -> str:
    if value in _OLD_VERSIONS:
        raise ValueError("not supported: insecure — write TLS12 or TLS13")
    return value


def _check_cipher(value: str) -> str:
    if value not in CIPHER_SUITES:
        raise ValueError(
            "unknown cipher suite — write it like TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
        )
    return value


def _check_curves(value: tuple[str, ...]) -> tuple[str, ...]:
    if len(value) > 1:
        raise ValueError("several curves are not supported — name one, or remove the key")
    return value


def _check_http2(value: bool) -> bool:
    if value:
        raise ValueError("not supported: promad serves HTTP/1.1 — write false, or remove the key")
    return value


def _check_headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    for name, value in headers.items():
        if name not in _HEADERS:
            raise ValueError(f"{name} cannot be set — use one of {', '.join(_HEADERS)}")
        if allowed := _HEADERS[name]:
            if value not in allowed:
                raise ValueError(f"{name} has an invalid value — use {' or '.join(allowed)}")
        elif not value.isascii() or not value.isprintable():
            raise ValueError(f"{name} has an invalid value — write it in one line of ASCII")
    return {name: value for name, value in headers.items() if value}


def _check_hash(value: str) -> str:
    if not _HASH.fullmatch(value):
        raise ValueError(f"not a bcrypt hash — {_HASH_REMEDY}")
    if int(value[4:6]) > _HIGHEST_COST:
        raise ValueError(f"cost above {_HIGHEST_COST}: minutes per password — {_HASH_REMEDY}")
    return value


def _check_user(name: str) -> str:
    if ":" in name or not name.isprintable():
        raise ValueError("not a user name — write it without colons and control characters")
    return name


def _refuse_nothing(value: Any) -> Any:
    if value is None:
        raise ValueError("has no value — set one, or remove the key")
    return value


def _read_interval(value: Any) -> float:
    if value == 0 and not isinstance(value, bool):
        return 0.0
    return parse_duration(value if isinstance(value, str) else "")


Version = Annotated[
    Literal["TLS10", "TLS11", "TLS12", "TLS13"],
    AfterValidator(_check_version),
]
ClientAuth = Annotated[
    Literal[
        "NoClientCert",
        "RequestClientCert",
        "RequireClientCert",
        "RequireAnyClientCert",
        "VerifyClientCertIfGiven",
        "RequireAndVerifyClientCert",
    ],
    AfterValidator(_check_client_auth),
]
Cipher = Annotated[str, AfterValidator(_check_cipher)]
Curve = Literal["CurveP256", "CurveP384", "CurveP521", "X25519"]
User = Annotated[str, AfterValidator(_check_user)]
PasswordHash = Annotated[str, AfterValidator(_check_hash)]
Users = Annotated[Mapping[User, PasswordHash], Field(min_length=1)]
_NOT_EMPTY = BeforeValidator(_refuse_nothing)
"""A section whose keys are all commented out would leave the port open."""


class _Section(BaseModel):
    """A part of the file: immutable, and a key it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TlsServerConfig(_Section):
    """The certificate of the port, and which clients may connect."""

    cert_file: Text | None = None
    cert: Text | None = None
    key_file: Text | None = None
    key: SecretStr | None = None
    client_ca_file: Text | None = None
    client_ca: Text | None = None
    client_auth_type: ClientAuth = "NoClientCert"
    client_allowed_sans: Annotated[tuple[Text, ...], Field(min_length=1)] | None = None
    min_version: Version = "TLS12"
    max_version: Version = "TLS13"
    cipher_suites: tuple[Cipher, ...] = ()
    curve_preferences: Annotated[tuple[Curve, ...], AfterValidator(_check_curves)] = ()
    prefer_server_cipher_suites: bool = Field(default=True, strict=True)

    @model_validator(mode="after")
    def _check_together(self) -> TlsServerConfig:
        for name in ("cert", "key", "client_ca"):
            both = getattr(self, name), getattr(self, f"{name}_file")
            if None not in both:
                raise ValueError(f"{name} and {name}_file are both set — remove one of the two")
            if both == (None, None) and name != "client_ca":
                raise ValueError(f"{name}_file is missing — add it")
        if self.min_version > self.max_version:
            raise ValueError("min_version is above max_version — swap the two")
        self._check_clients()
        return self

    def _check_clients(self) -> None:
        """Refuse settings for client certificates that would not be enforced."""
        has_authority = (self.client_ca, self.client_ca_file) != (None, None)
        if has_authority != self.verifies_clients:
            what = (
                "client_ca_file needs client_auth_type"
                if has_authority
                else "client_auth_type needs client_ca_file"
            )
            raise ValueError(f"{what} — set both, or neither")
        if self.client_allowed_sans and self.client_auth_type != "RequireAndVerifyClientCert":
            raise ValueError(
                "client_allowed_sans needs a certificate of every client — set client_auth_type "
                "to RequireAndVerifyClientCert"
            )

    @property
    def verifies_clients(self) -> bool:
        """Whether clients are asked for a certificate."""
        return self.client_auth_type != "NoClientCert"


class HttpServerConfig(_Section):
    """Headers of every response."""

    http2: Annotated[bool, Field(strict=True), AfterValidator(_check_http2)] = False
    headers: Annotated[Mapping[str, str], AfterValidator(_check_headers)] = {}


class RateLimitConfig(_Section):
    """One request per `interval` in seconds, and `burst` at once; 0 means no limit."""

    interval: Annotated[float, BeforeValidator(_read_interval)] = 0.0
    burst: PositiveInt = 1


class WebConfig(_Section):
    """The whole file."""

    tls_server_config: Annotated[TlsServerConfig | None, _NOT_EMPTY] = None
    http_server_config: HttpServerConfig = HttpServerConfig()
    basic_auth_users: Annotated[Users | None, _NOT_EMPTY] = None
    rate_limit: RateLimitConfig = RateLimitConfig()


def parse_web_config(content: bytes, path: Path) -> tuple[WebConfig, Document]:
    """What the file's content says, and the lines of its keys.

    Raises:
        ConfigError: with one line for every mistake.
    """
    if len(content) > _LARGEST_FILE_BYTES:
        raise ConfigError([f"{path}: larger than 1 MB — not a web configuration, check the path"])
    try:
        document = parse_document(content.decode())
    except UnicodeDecodeError:
        raise ConfigError([f"{path}: not UTF-8 text — check the path"]) from None
    except NotYamlError as error:
        what = str(error).partition(" — ")[0]
        raise ConfigError([f"{path}:{error.line}: {what} — {_ELSEWHERE}"]) from None
    problems = list(document.problems)
    try:
        config = WebConfig.model_validate(document.values)
    except ValidationError as error:
        problems += [
            describe_problem(found, document, WebConfig, _ELSEWHERE)
            for found in error.errors(include_url=False)
        ]
    if problems:
        raise ConfigError(
            [
                format_problem(path, document, ".".join(map(str, place)), what)
                for place, what in sorted(problems, key=lambda each: document.find_line(each[0]))
            ]
        )
    return config, document


def format_problem(path: Path, document: Document, key: str, what: str) -> str:
    """One line: the file, the line of the key, the key, and what is wrong with it."""
    line = document.find_line(tuple(key.split(".")))
    return escape_control_characters(f"{path}:{line}: {key}: {what}")

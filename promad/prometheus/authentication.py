"""What every request carries of the configuration: its headers, and who asks.

Files that hold secrets are read again for every request, so that a rotated secret works without
a restart. No error names a secret, only the key that it was to come from.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path

from pydantic import SecretStr
from urllib3.util import Url

from promad.config import BasicAuth, ClientSettings, PrometheusSettings
from promad.errors import PrometheusError

SECTION = "prometheus"
_NOT_SELECTING = {
    *("timeout", "compression", "http_method", "max_points_per_request", "union_queries"),
    *("basic_auth", "authorization", "oauth2", "sigv4", "http_headers", "tls_config"),
    *("no_proxy", "proxy_from_environment", "proxy_connect_header"),
    *("follow_redirects", "enable_http2"),
}
"""Settings that select no data, or that `hash_selection` looks at in another form."""


class Authentication:
    """Sends the headers of the configuration; ways that need more than these inherit from it."""

    def __init__(self, settings: ClientSettings, section: str = SECTION) -> None:
        self._settings = settings
        self._section = section

    def build_headers(self) -> dict[str, str]:
        """The headers of one request that do not depend on what it asks.

        Raises:
            PrometheusError: if a secret cannot be obtained.
        """
        return build_headers(self._settings, self._section)

    def sign(
        self, method: str, url: Url, headers: Mapping[str, str], body: bytes | None
    ) -> dict[str, str]:
        """Further headers of a request, by what it asks; `headers` are the others."""
        return {}

    def renew(self, headers: Mapping[str, str]) -> bool:
        """Whether a request that got 401 with these headers should be sent once more."""
        return False

    def close(self) -> None:
        """Close connections of its own, if it has any."""


def build_headers(settings: ClientSettings, section: str = SECTION) -> dict[str, str]:
    """The headers of one request, with the secrets' files as they are now.

    Args:
        section: where the settings are in the configuration.

    Raises:
        PrometheusError: if a file cannot be read or holds what no header can carry.
    """
    found = dict(_build_authorization(settings, section))
    for name, header in settings.http_headers.items():
        key = f"{section}.http_headers.{name}"
        secrets = [secret.get_secret_value() for secret in header.secrets]
        files = [_read_file(file, f"{key}.files") for file in header.files]
        found[name] = check_header(", ".join([*header.values, *secrets, *files]), key)
    return found


def hash_selection(settings: PrometheusSettings) -> str:
    """A hash of what may select the data of a server: headers, user, certificate, and the rest.

    The same server can answer differently to each of them, as for a tenant. Left out are only
    settings that cannot, and a password, which belongs to its user. Secrets are in it as they are
    now, and cannot be read from it.

    Raises:
        PrometheusError: if a file of a secret cannot be read.
    """
    headers = build_headers(settings)
    if settings.basic_auth:
        headers["Authorization"] = f"Basic {_read_user(settings.basic_auth, SECTION)}"
    rest = settings.model_dump(mode="json", exclude=_NOT_SELECTING) | _dump_identity(settings)
    certificate = settings.tls_config.cert_file
    shown = settings.tls_config.cert or ""
    if certificate is not None:
        shown = _read_file(certificate, "prometheus.tls_config.cert_file")
    return sha256(json.dumps([sorted(headers.items()), rest, shown]).encode()).hexdigest()


def _dump_identity(settings: PrometheusSettings) -> dict[str, object]:
    """Who asks, without secrets, if that is by `oauth2` or `sigv4`."""
    found: dict[str, object] = {}
    if settings.oauth2:
        keys = {"client_id", "token_url", "scopes", "endpoint_params"}
        found["oauth2"] = settings.oauth2.model_dump(mode="json", include=keys)
    if settings.sigv4:
        keys = {"region", "access_key", "profile", "role_arn", "external_id"}
        found["sigv4"] = settings.sigv4.model_dump(mode="json", include=keys)
    return found


def _build_authorization(settings: ClientSettings, section: str) -> Iterator[tuple[str, str]]:
    if settings.basic_auth:
        basic, key = settings.basic_auth, f"{section}.basic_auth.password"
        secret = read_secret(basic.password, basic.password_file, key)
        yield "Authorization", build_basic(_read_user(basic, section), secret)
    if settings.authorization:
        bearer, key = settings.authorization, f"{section}.authorization.credentials"
        credentials = read_secret(bearer.credentials, bearer.credentials_file, key)
        yield "Authorization", check_header(f"{bearer.type} {credentials}", key)


def _read_user(basic: BasicAuth, section: str) -> str:
    if basic.username_file is not None:
        return _read_file(basic.username_file, f"{section}.basic_auth.username_file")
    return basic.username or ""


def build_basic(user: str, password: str) -> str:
    """The value of `Authorization` for a user name and a password."""
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


def read_secret(value: SecretStr | None, file: Path | None, key: str) -> str:
    """The secret as it is now, in the configuration or in a file; empty if it is in neither.

    Raises:
        PrometheusError: if the file of `key` cannot be read.
    """
    if file is not None:
        return _read_file(file, f"{key}_file")
    return value.get_secret_value() if value is not None else ""


def _read_file(file: Path, key: str) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not UTF-8 text"
        raise PrometheusError(
            f"{key}: {file} cannot be read ({why}) — check its path and permissions", "unauthorized"
        ) from None


def check_header(value: str, key: str) -> str:
    """The value of a header, if a header can carry it.

    Raises:
        PrometheusError: naming `key`, not the value.
    """
    if not (value.isascii() and value.isprintable()):
        raise PrometheusError(
            f"{key} (hidden): a header cannot contain line breaks or non-ASCII characters — "
            "remove them",
            "unauthorized",
        )
    return value

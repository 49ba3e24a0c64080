"""How promad proves who it is: headers, certificates and the proxy, in Prometheus's own words.

Files that hold secrets are read again for every request, so that a rotated secret works without
a restart. No error names a secret, only the key that it was to come from.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import requests
import urllib3
from pydantic import SecretStr

from promad.config import PrometheusSettings
from promad.errors import PrometheusError


def authenticate(session: requests.Session, settings: PrometheusSettings) -> None:
    """Make every request of the session carry what `settings` ask for, and nothing else.

    What the environment says (proxies, .netrc, certificate bundles) is not looked at.
    """
    tls = settings.tls_config

    def with_headers(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers.update(headers(settings))
        return request

    session.trust_env = False
    session.auth = with_headers
    session.verify = False if tls.insecure_skip_verify else str(tls.ca_file or "") or True
    if tls.cert_file:
        session.cert = (str(tls.cert_file), str(tls.key_file or tls.cert_file))
    if settings.proxy_url:
        session.proxies = {"http": settings.proxy_url, "https": settings.proxy_url}
    if tls.insecure_skip_verify:  # asked for in as many words: no warning at each request
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)


def headers(settings: PrometheusSettings) -> dict[str, str]:
    """The headers of one request, with the secrets' files as they are now.

    Raises:
        PrometheusError: if a file cannot be read or holds what no header can carry.
    """
    found = dict(_authorization(settings))
    for name, header in settings.http_headers.items():
        key = f"prometheus.http_headers.{name}"
        secrets = [secret.get_secret_value() for secret in header.secrets]
        files = [_read(file, f"{key}.files") for file in header.files]
        found[name] = _carried(", ".join([*header.values, *secrets, *files]), key)
    return found


def _authorization(settings: PrometheusSettings) -> Iterator[tuple[str, str]]:
    if settings.basic_auth:
        basic, key = settings.basic_auth, "prometheus.basic_auth.password"
        pair = f"{basic.username}:{_secret(basic.password, basic.password_file, key)}"
        yield "Authorization", f"Basic {b64encode(pair.encode()).decode()}"
    if settings.authorization:
        bearer, key = settings.authorization, "prometheus.authorization.credentials"
        credentials = _secret(bearer.credentials, bearer.credentials_file, key)
        yield "Authorization", _carried(f"{bearer.type} {credentials}", key)


def _secret(value: SecretStr | None, file: Path | None, key: str) -> str:
    if file is not None:
        return _read(file, f"{key}_file")
    return value.get_secret_value() if value is not None else ""


def _read(file: Path, key: str) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not UTF-8 text"
        raise PrometheusError(
            f"{key}: {file} cannot be read ({why}) — give promad a readable file", "unauthorized"
        ) from None


def _carried(value: str, key: str) -> str:
    if not (value.isascii() and value.isprintable()):
        raise PrometheusError(
            f"{key} (hidden) has a line break or a letter outside ASCII — "
            "no header can carry it, write it on one line",
            "unauthorized",
        )
    return value

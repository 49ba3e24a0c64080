"""How promad authenticates: headers, certificates and the proxy, with Prometheus's own keys.

Files that hold secrets are read again for every request, so that a rotated secret works without
a restart. No error names a secret, only the key that it was to come from.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import certifi
import urllib3
from pydantic import SecretStr
from urllib3 import PoolManager, ProxyManager, make_headers
from urllib3.util import parse_url

from promad.config import PrometheusSettings
from promad.errors import PrometheusError
from promad.prometheus.connections import POOLS

_MOST_CONNECTIONS = 10
"""Kept open to one server while they are idle."""
_NOT_SELECTING = {
    *("timeout", "compression", "http_method", "max_points_per_request", "union_queries"),
    *("basic_auth", "authorization", "http_headers", "tls_config"),
}
"""Settings that select no data, or that `hash_selection` looks at in another form."""


def open_pools(settings: PrometheusSettings) -> PoolManager:
    """Connections with the certificates and the proxy that `settings` ask for, and nothing else.

    Settings of the environment (proxies, .netrc, certificate bundles) are ignored.
    """
    tls = settings.tls_config
    options: dict[str, Any] = {
        "maxsize": _MOST_CONNECTIONS,
        "cert_reqs": "CERT_NONE" if tls.insecure_skip_verify else "CERT_REQUIRED",
    }
    authorities = tls.ca_file or Path(certifi.where())
    options["ca_cert_dir" if authorities.is_dir() else "ca_certs"] = str(authorities)
    if tls.cert_file:
        options |= {"cert_file": str(tls.cert_file), "key_file": str(tls.key_file or tls.cert_file)}
    if tls.insecure_skip_verify:  # set explicitly: no warning at each request
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    if settings.proxy_url is None:
        pools = PoolManager(**options)
    else:
        pair = unquote(parse_url(settings.proxy_url).auth or "")
        headers = make_headers(proxy_basic_auth=pair) if pair else {}
        pools = ProxyManager(settings.proxy_url, proxy_headers=headers, **options)
    pools.pool_classes_by_scheme = POOLS
    return pools


def require_tls_files(settings: PrometheusSettings) -> None:
    """Raise PrometheusError if a file of a certificate or a key is not there."""
    tls = settings.tls_config
    for key in ("ca_file", "cert_file", "key_file"):
        file = getattr(tls, key)
        if file is not None and not file.exists():
            raise PrometheusError(
                f"prometheus.tls_config.{key}: no such file: {file} — check prometheus.tls_config",
                "unauthorized",
            )


def build_headers(settings: PrometheusSettings) -> dict[str, str]:
    """The headers of one request, with the secrets' files as they are now.

    Raises:
        PrometheusError: if a file cannot be read or holds what no header can carry.
    """
    found = dict(_build_authorization(settings))
    for name, header in settings.http_headers.items():
        key = f"prometheus.http_headers.{name}"
        secrets = [secret.get_secret_value() for secret in header.secrets]
        files = [_read_file(file, f"{key}.files") for file in header.files]
        found[name] = _check_value(", ".join([*header.values, *secrets, *files]), key)
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
        headers["Authorization"] = f"Basic {settings.basic_auth.username}"
    rest = settings.model_dump(mode="json", exclude=_NOT_SELECTING)
    certificate = settings.tls_config.cert_file
    shown = _read_file(certificate, "prometheus.tls_config.cert_file") if certificate else ""
    return sha256(json.dumps([sorted(headers.items()), rest, shown]).encode()).hexdigest()


def _build_authorization(settings: PrometheusSettings) -> Iterator[tuple[str, str]]:
    if settings.basic_auth:
        basic, key = settings.basic_auth, "prometheus.basic_auth.password"
        pair = f"{basic.username}:{_read_secret(basic.password, basic.password_file, key)}"
        yield "Authorization", f"Basic {b64encode(pair.encode()).decode()}"
    if settings.authorization:
        bearer, key = settings.authorization, "prometheus.authorization.credentials"
        credentials = _read_secret(bearer.credentials, bearer.credentials_file, key)
        yield "Authorization", _check_value(f"{bearer.type} {credentials}", key)


def _read_secret(value: SecretStr | None, file: Path | None, key: str) -> str:
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


def _check_value(value: str, key: str) -> str:
    if not (value.isascii() and value.isprintable()):
        raise PrometheusError(
            f"{key} (hidden): a header cannot contain line breaks or non-ASCII characters — "
            "remove them",
            "unauthorized",
        )
    return value

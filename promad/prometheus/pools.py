"""Connections to a server: its certificates, its TLS versions and the proxy in between."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import certifi
import urllib3
from urllib3 import PoolManager, ProxyManager, make_headers
from urllib3.util import Url, parse_url

from promad.config import Oauth2, PrometheusSettings, TlsConfig
from promad.errors import PrometheusError
from promad.prometheus.connections import POOLS
from promad.prometheus.proxies import choose_proxy

_MOST_CONNECTIONS = 10
"""Kept open to one server while they are idle."""
_VERSIONS = {
    "TLS10": ssl.TLSVersion.TLSv1,
    "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}
_DEFAULT_LOWEST = "TLS12"


def open_pools(settings: PrometheusSettings | Oauth2, url: Url) -> PoolManager:
    """Connections with the certificates and the proxy that `settings` ask for, and nothing else.

    Settings of the environment (.netrc, certificate bundles, and proxies unless they are asked
    for) are ignored. Files of certificates are read for each new connection.
    """
    options = _build_options(settings.tls_config)
    proxy = choose_proxy(settings, url, os.environ)
    if proxy is None:
        pools = PoolManager(**options)
    else:
        pair = unquote(parse_url(proxy).auth or "")
        headers = make_headers(proxy_basic_auth=pair) if pair else {}
        pools = ProxyManager(proxy, proxy_headers=headers, **options)
    pools.pool_classes_by_scheme = POOLS
    return pools


def _build_options(tls: TlsConfig) -> dict[str, Any]:
    """What urllib3 needs to know of certificates and versions."""
    options: dict[str, Any] = {
        "maxsize": _MOST_CONNECTIONS,
        "cert_reqs": "CERT_NONE" if tls.insecure_skip_verify else "CERT_REQUIRED",
    }
    authorities = tls.ca_file or Path(certifi.where())
    options["ca_cert_dir" if authorities.is_dir() else "ca_certs"] = str(authorities)
    if tls.cert_file:
        options |= {"cert_file": str(tls.cert_file), "key_file": str(tls.key_file or tls.cert_file)}
    if tls.server_name:
        options["server_hostname"] = tls.server_name
    lowest = tls.min_version or min(tls.max_version or _DEFAULT_LOWEST, _DEFAULT_LOWEST)
    options["ssl_minimum_version"] = _VERSIONS[lowest]
    if tls.max_version:
        options["ssl_maximum_version"] = _VERSIONS[tls.max_version]
    if tls.insecure_skip_verify:  # set explicitly: no warning at each request
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    return options


def require_tls_files(tls: TlsConfig, section: str) -> None:
    """Raise PrometheusError if a file of a certificate or a key is not there.

    Args:
        section: where `tls_config` is in the configuration.
    """
    for key in ("ca_file", "cert_file", "key_file"):
        file = getattr(tls, key)
        if file is not None and not file.exists():
            raise PrometheusError(
                f"{section}.tls_config.{key}: no such file: {file} — check {section}.tls_config",
                "unauthorized",
            )

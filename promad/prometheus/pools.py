"""Connections to a server: its certificates, its TLS versions and the proxy in between."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import certifi
import urllib3
from urllib3 import PoolManager, ProxyManager, make_headers
from urllib3.util import Url, create_urllib3_context, parse_url
from urllib3.util.ssl_ import resolve_cert_reqs

from promad.config import ClientSettings, Oauth2, TlsConfig
from promad.errors import PrometheusError
from promad.prometheus.authentication import check_header
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


def open_pools(
    settings: ClientSettings | Oauth2, url: Url, section: str = "prometheus"
) -> PoolManager:
    """Connections with the certificates and the proxy that `settings` ask for, and nothing else.

    Settings of the environment (.netrc, certificate bundles, and proxies unless they are asked
    for) are ignored. Files of certificates are read for each new connection.

    Args:
        section: where the settings are in the configuration.

    Raises:
        PrometheusError: if a certificate, key or header in the configuration is not one.
    """
    options = _build_options(settings.tls_config, section)
    proxy = choose_proxy(settings, url, os.environ)
    if proxy is None:
        pools = PoolManager(**options)
    else:
        headers = _build_proxy_headers(settings, url, section) | _authenticate(proxy)
        pools = ProxyManager(proxy, proxy_headers=headers, **options)
    pools.pool_classes_by_scheme = POOLS
    return pools


def _authenticate(proxy: str) -> dict[str, str]:
    pair = unquote(parse_url(proxy).auth or "")
    return make_headers(proxy_basic_auth=pair) if pair else {}


def _build_proxy_headers(
    settings: ClientSettings | Oauth2, url: Url, section: str
) -> dict[str, str]:
    """What a proxy gets with CONNECT, which only servers over TLS need."""
    return {
        name.lower(): check_header(
            ", ".join(each.get_secret_value() for each in values),
            f"{section}.proxy_connect_header.{name}",
        )
        for name, values in settings.proxy_connect_header.items()
        if url.scheme == "https"
    }


def _build_options(tls: TlsConfig, section: str) -> dict[str, Any]:
    """What urllib3 needs to know of certificates and versions."""
    options: dict[str, Any] = {
        "maxsize": _MOST_CONNECTIONS,
        "cert_reqs": "CERT_NONE" if tls.insecure_skip_verify else "CERT_REQUIRED",
    }
    if tls.ca:
        options["ca_cert_data"] = tls.ca
    else:
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
    if tls.cert:
        options["ssl_context"] = _load_certificate(tls, options, f"{section}.tls_config")
    return options


def _load_certificate(tls: TlsConfig, options: Mapping[str, Any], section: str) -> ssl.SSLContext:
    """What shows the certificate of the configuration, with the key in it or beside it."""
    context = create_urllib3_context(
        cert_reqs=resolve_cert_reqs(options["cert_reqs"]),
        ssl_minimum_version=options["ssl_minimum_version"],
        ssl_maximum_version=options.get("ssl_maximum_version"),
    )
    text = tls.cert or ""
    key = tls.key.get_secret_value() if tls.key else text
    try:
        with _hold_in_memory(text) as certificate, _hold_in_memory(key) as held:
            context.load_cert_chain(certificate, held, password="")
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or "not PEM"
        raise PrometheusError(
            f"{section}.cert: no certificate with its key ({reason}) — check cert and key, which "
            "are PEM text without a password",
            "unauthorized",
        ) from None
    return context


@contextmanager
def _hold_in_memory(text: str) -> Iterator[str]:
    """The path of a file that is on no disk, because OpenSSL reads keys from files alone."""
    descriptor = os.memfd_create("promad")
    try:
        os.write(descriptor, text.encode())
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


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

"""What is wrong between the keys below `prometheus`."""

from __future__ import annotations

from collections.abc import Iterator

from promad.config.document import Place
from promad.config.server_settings import Oauth2, PrometheusSettings, TlsConfig
from promad.config.settings import Config, KeyPath

Contradiction = tuple[tuple[Place, ...], str]
"""The keys that do not go together, the one to fix first, and `what is wrong — what to do`."""

_AT = ("prometheus",)
_WAYS = ("basic_auth", "authorization", "oauth2", "sigv4")
"""To authenticate: at most one of them."""
_SECRETS = (
    ("basic_auth", "password"),
    ("authorization", "credentials"),
    ("oauth2", "client_secret"),
    ("sigv4", "secret_key"),
)
"""Secrets that may be in a file instead."""


def find_server_contradictions(config: Config) -> Iterator[Contradiction]:
    """Every contradiction between the keys below `prometheus`, and with the server's URL."""
    server = config.prometheus
    yield from _check_ways(server)
    yield from _check_user(server)
    yield from _check_secrets(server)
    yield from _check_access_key(server)
    yield from _check_headers(server)
    yield from _check_encryption(config.prometheus_url, server.tls_config, _AT, "prometheus_url")
    yield from _check_proxy(server, _AT)
    if server.oauth2:
        at = (*_AT, "oauth2")
        url, tls = server.oauth2.token_url, server.oauth2.tls_config
        yield from _check_encryption(url, tls, at, "prometheus.oauth2.token_url")
        yield from _check_proxy(server.oauth2, at)


def _list_ways(server: PrometheusSettings) -> list[str]:
    return [way for way in _WAYS if getattr(server, way) is not None]


def _check_ways(server: PrometheusSettings) -> Iterator[Contradiction]:
    first, *more = _list_ways(server) or [""]
    for way in more:
        yield ((*_AT, way), (*_AT, first)), f"{first} is set too — remove one of the two"


def _check_user(server: PrometheusSettings) -> Iterator[Contradiction]:
    basic, at = server.basic_auth, (*_AT, "basic_auth", "username")
    if basic and basic.username is None and basic.username_file is None:
        yield (at,), "required key is missing — add it"
    elif basic and basic.username is not None and basic.username_file is not None:
        yield (at,), "username_file is set too — remove one of the two"


def _check_secrets(server: PrometheusSettings) -> Iterator[Contradiction]:
    for way, key in _SECRETS:
        section = getattr(server, way)
        if section is None:
            continue
        given, file = getattr(section, key) is not None, getattr(section, f"{key}_file") is not None
        if way in {"authorization", "oauth2"} and given == file:
            yield (
                ((*_AT, way),),
                f"needs {key} or {key}_file — set exactly one of the two",
            )
        elif given and file:
            yield ((*_AT, way, key),), f"{key}_file is set too — remove one of the two"


def _check_access_key(server: PrometheusSettings) -> Iterator[Contradiction]:
    aws = server.sigv4
    if aws and (aws.access_key is None) != (aws.secret_key is None and aws.secret_key_file is None):
        yield (
            ((*_AT, "sigv4"),),
            "access_key and its secret belong together — set access_key and secret_key_file, or "
            "neither",
        )
    elif aws and aws.external_id is not None and aws.role_arn is None:
        yield (
            ((*_AT, "sigv4", "external_id"), (*_AT, "sigv4", "role_arn")),
            "has no effect without role_arn — set it, or remove external_id",
        )
    elif aws and aws.access_key is not None and aws.profile is not None:
        yield (
            ((*_AT, "sigv4", "profile"), (*_AT, "sigv4", "access_key")),
            "has no effect because access_key is set — remove one of the two",
        )


def _check_headers(server: PrometheusSettings) -> Iterator[Contradiction]:
    ways = _list_ways(server)
    for name in server.http_headers:
        if name.lower() == "authorization" and ways:
            yield (
                ((*_AT, "http_headers", name), *((*_AT, way) for way in ways)),
                f"{ways[0]} sets this header too — remove one of the two",
            )


def _check_encryption(
    url: str, tls: TlsConfig, above: KeyPath, url_key: str
) -> Iterator[Contradiction]:
    at = (*above, "tls_config")
    for key in ("ca", "cert", "key"):
        if getattr(tls, key) is not None and getattr(tls, f"{key}_file") is not None:
            yield ((*at, key),), f"{key}_file is set too — remove one of the two"
    if tls.key is not None and tls.cert is None:
        yield ((*at, "key"),), "needs cert — set the certificate in the same way"
    if tls.key_file is not None and tls.cert_file is None:
        yield ((*at, "key_file"),), "needs cert_file — set the path of the certificate"
    if tls.min_version and tls.max_version and tls.min_version > tls.max_version:
        yield (
            ((*at, "min_version"), (*at, "max_version")),
            f"must not be above max_version ({tls.min_version}, max_version {tls.max_version}) — "
            "swap the two",
        )
    if tls != TlsConfig() and url.startswith("http:"):
        yield (
            (at, tuple(url_key.split("."))),
            f"has no effect because {url_key} uses http — change it to https",
        )


def _check_proxy(settings: PrometheusSettings | Oauth2, above: KeyPath) -> Iterator[Contradiction]:
    at_url, at_none = (*above, "proxy_url"), (*above, "no_proxy")
    at_environment = (*above, "proxy_from_environment")
    if settings.proxy_from_environment and settings.proxy_url is not None:
        yield (at_environment, at_url), "proxy_url is set too — remove one of the two"
    if settings.proxy_from_environment and settings.no_proxy is not None:
        yield (
            (at_none, at_environment),
            "has no effect with proxy_from_environment — set the environment variable NO_PROXY",
        )
    elif settings.no_proxy is not None and settings.proxy_url is None:
        yield (at_none, at_url), "has no effect without proxy_url — set it, or remove no_proxy"
    has_proxy = settings.proxy_from_environment or settings.proxy_url is not None
    if settings.proxy_connect_header and not has_proxy:
        yield (
            ((*above, "proxy_connect_header"), at_url),
            "has no effect without a proxy — set proxy_url, or remove proxy_connect_header",
        )

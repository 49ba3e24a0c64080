"""What is wrong between the keys below `prometheus`, and below `web.peers_http_config`."""

from __future__ import annotations

from collections.abc import Iterator

from promad.config.document import Place
from promad.config.server_settings import (
    ClientSettings,
    Oauth2,
    PrometheusSettings,
    TlsConfig,
)
from promad.config.settings import Config, KeyPath

Contradiction = tuple[tuple[Place, ...], str]
"""The keys that do not go together, the one to fix first, and `what is wrong — what to do`."""

_AT = ("prometheus",)
_AT_PEERS = ("web", "peers_http_config")
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
    """Every contradiction between the keys of a client, and with the URLs that it asks."""
    server, web = config.prometheus, config.web
    yield from _check_client(server, _AT, config.prometheus_url, "prometheus_url")
    yield from _check_access_key(server)
    encrypted = [url for url in web.peers if url.startswith("https:")]
    url = [*encrypted, *web.peers, ""][0]
    yield from _check_client(web.peers_http_config, _AT_PEERS, url, "web.peers")


def _check_client(
    client: ClientSettings, at: KeyPath, url: str, url_key: str
) -> Iterator[Contradiction]:
    yield from _check_ways(client, at)
    yield from _check_user(client, at)
    yield from _check_secrets(client, at)
    yield from _check_headers(client, at)
    yield from _check_encryption(url, client.tls_config, at, url_key)
    yield from _check_proxy(client, at)
    if client.oauth2:
        at_token = (*at, "oauth2")
        url, tls = client.oauth2.token_url, client.oauth2.tls_config
        yield from _check_encryption(url, tls, at_token, f"{'.'.join(at_token)}.token_url")
        yield from _check_proxy(client.oauth2, at_token)


def _list_ways(client: ClientSettings) -> list[str]:
    return [way for way in _WAYS if getattr(client, way, None) is not None]


def _check_ways(client: ClientSettings, at: KeyPath) -> Iterator[Contradiction]:
    first, *more = _list_ways(client) or [""]
    for way in more:
        yield ((*at, way), (*at, first)), f"{first} is set too — remove one of the two"


def _check_user(client: ClientSettings, at: KeyPath) -> Iterator[Contradiction]:
    basic, at_user = client.basic_auth, (*at, "basic_auth", "username")
    if basic and basic.username is None and basic.username_file is None:
        yield (at_user,), "required key is missing — add it"
    elif basic and basic.username is not None and basic.username_file is not None:
        yield (at_user,), "username_file is set too — remove one of the two"


def _check_secrets(client: ClientSettings, at: KeyPath) -> Iterator[Contradiction]:
    for way, key in _SECRETS:
        section = getattr(client, way, None)
        if section is None:
            continue
        given, file = getattr(section, key) is not None, getattr(section, f"{key}_file") is not None
        if way in {"authorization", "oauth2"} and given == file:
            yield (
                ((*at, way),),
                f"needs {key} or {key}_file — set exactly one of the two",
            )
        elif given and file:
            yield ((*at, way, key),), f"{key}_file is set too — remove one of the two"


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


def _check_headers(client: ClientSettings, at: KeyPath) -> Iterator[Contradiction]:
    ways = _list_ways(client)
    for name in client.http_headers:
        if name.lower() == "authorization" and ways:
            yield (
                ((*at, "http_headers", name), *((*at, way) for way in ways)),
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


def _check_proxy(settings: ClientSettings | Oauth2, above: KeyPath) -> Iterator[Contradiction]:
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

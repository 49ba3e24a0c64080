"""How servers are asked: the keys below `prometheus` and `web.peers_http_config`.

Names and meanings are Prometheus's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import SecretStr

from promad.config.section import Section
from promad.config.values import (
    AuthorizationType,
    EndpointUrl,
    HeaderName,
    Location,
    ParameterName,
    ParameterValues,
    PositiveDuration,
    PositiveInt,
    Text,
    Url,
)

TlsVersion = Literal["TLS10", "TLS11", "TLS12", "TLS13"]


class BasicAuth(Section):
    """User name and password for a server."""

    username: Text | None = None
    username_file: Location | None = None
    password: SecretStr | None = None
    password_file: Location | None = None


class Authorization(Section):
    """An Authorization header for a server."""

    type: AuthorizationType = "Bearer"
    credentials: SecretStr | None = None
    credentials_file: Location | None = None


class TlsConfig(Section):
    """How a server's certificate is checked, and which one is shown to it.

    Without `_file`, they are PEM text.
    """

    ca: Text | None = None
    ca_file: Location | None = None
    cert: Text | None = None
    cert_file: Location | None = None
    key: SecretStr | None = None
    key_file: Location | None = None
    server_name: Text | None = None
    min_version: TlsVersion | None = None
    max_version: TlsVersion | None = None
    insecure_skip_verify: bool = False


class Oauth2(Section):
    """OAuth 2.0 client credentials: a token from `token_url`, sent to a server.

    The token server has a proxy and certificates of its own.
    """

    client_id: Text
    client_secret: SecretStr | None = None
    client_secret_file: Location | None = None
    token_url: EndpointUrl
    scopes: tuple[Text, ...] = ()
    endpoint_params: Mapping[Text, str] = {}
    tls_config: TlsConfig = TlsConfig()
    proxy_url: Url | None = None
    no_proxy: Text | None = None
    proxy_from_environment: bool = False
    proxy_connect_header: Mapping[HeaderName, tuple[SecretStr, ...]] = {}


class Sigv4(Section):
    """AWS Signature Version 4; without `access_key`, with the credentials that botocore finds."""

    region: Text | None = None
    access_key: Text | None = None
    secret_key: SecretStr | None = None
    secret_key_file: Location | None = None
    profile: Text | None = None
    role_arn: Text | None = None
    external_id: Text | None = None


class HttpHeader(Section):
    """One extra header: literal values, secret ones, or files that hold them."""

    values: tuple[str, ...] = ()
    secrets: tuple[SecretStr, ...] = ()
    files: tuple[Location, ...] = ()


class ClientSettings(Section):
    """An HTTP client; the keys are Prometheus's own."""

    timeout: PositiveDuration = 30.0
    compression: Literal["identity", "gzip"] = "identity"
    basic_auth: BasicAuth | None = None
    authorization: Authorization | None = None
    oauth2: Oauth2 | None = None
    tls_config: TlsConfig = TlsConfig()
    http_headers: Mapping[HeaderName, HttpHeader] = {}
    proxy_url: Url | None = None
    no_proxy: Text | None = None
    proxy_from_environment: bool = False
    proxy_connect_header: Mapping[HeaderName, tuple[SecretStr, ...]] = {}
    follow_redirects: bool = True
    enable_http2: bool = True


class PrometheusSettings(ClientSettings):
    """The HTTP client for the Prometheus server."""

    sigv4: Sigv4 | None = None
    http_method: Literal["POST", "GET"] = "POST"
    params: Mapping[ParameterName, ParameterValues] = {}
    max_points_per_request: PositiveInt = 10_000
    union_queries: bool = True


class PeerSettings(ClientSettings):
    """The HTTP client for the daemons in `web.peers`."""

    timeout: PositiveDuration = 3.0

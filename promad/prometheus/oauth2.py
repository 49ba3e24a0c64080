"""OAuth 2.0 client credentials: a token that a token server gives for an id and a secret.

(RFC 6749, section 4.4)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any
from urllib.parse import quote_plus, urlencode

from promad.config import ClientSettings, Oauth2
from promad.errors import PrometheusError, UnreachableError
from promad.prometheus.authentication import (
    SECTION,
    Authentication,
    build_basic,
    check_header,
    read_secret,
)
from promad.prometheus.one_series import flatten_text
from promad.prometheus.refusals import load_object
from promad.prometheus.retrying import RetryPolicy
from promad.prometheus.transport import Reply, Session, exchange

_EARLY_SECONDS = 10.0
"""A token is replaced before its end, so that it does not expire on its way."""
_SECONDS_BETWEEN_RENEWALS = 10.0
"""A server that refuses every token must not cause a new one for each request."""
_REMEDY = "check client_id, client_secret, scopes and endpoint_params"


@dataclass(frozen=True)
class Token:
    """A value of `Authorization`, and for how many seconds it is valid."""

    authorization: str
    seconds: float = inf


class Tokens:
    """The current token: fetched when first needed, shortly before its end, or with a new secret.

    `fetch` returns a token for a secret. Threads may share it; one of them fetches.
    """

    def __init__(
        self, fetch: Callable[[str], Token], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._fetch = fetch
        self._now = now
        self._lock = threading.Lock()
        self._token: Token | None = None
        self._secret = ""
        self._ends = 0.0
        self._renewed = -inf
        self._failed: tuple[float, PrometheusError] | None = None

    def get(self, secret: str) -> str:
        """The value of `Authorization`.

        Raises:
            UnreachableError: if there is no token; a thread that waited gets the same error.
        """
        began = self._now()
        with self._lock:
            if self._token and self._secret == secret and self._now() < self._ends:
                return self._token.authorization
            if self._failed and self._failed[0] > began:
                raise self._failed[1]
            return self._replace(secret)

    def _replace(self, secret: str) -> str:
        self._token = None
        try:
            token = self._fetch(secret)
        except PrometheusError as error:
            self._failed = (self._now(), error)
            raise
        early = min(_EARLY_SECONDS, token.seconds / 10)
        self._token, self._secret = token, secret
        self._ends = self._now() + token.seconds - early
        return token.authorization

    def renew(self, refused: str | None) -> bool:
        """Forget a token that a server refused; whether to try again with another one."""
        with self._lock:
            if self._token is None or self._token.authorization != refused:
                return True  # another thread has replaced it
            if self._now() - self._renewed < _SECONDS_BETWEEN_RENEWALS:
                return False
            self._token, self._renewed = None, self._now()
            return True


class Oauth2Authentication(Authentication):
    """Sends the current token with every request, and replaces a token that the server refuses."""

    def __init__(
        self,
        settings: ClientSettings,
        retry: RetryPolicy,
        now: Callable[[], float],
        section: str = SECTION,
    ) -> None:
        super().__init__(settings, section)
        if settings.oauth2 is None:
            raise ValueError("oauth2 is not set")
        self._oauth2 = settings.oauth2
        self._key = f"{section}.oauth2"
        self._server = _TokenServer(settings.oauth2, settings.timeout, retry, self._key)
        self._tokens = Tokens(self._server.fetch, now)

    def build_headers(self) -> dict[str, str]:
        secret = read_secret(
            self._oauth2.client_secret,
            self._oauth2.client_secret_file,
            f"{self._key}.client_secret",
        )
        return {**super().build_headers(), "Authorization": self._tokens.get(secret)}

    def renew(self, headers: Mapping[str, str]) -> bool:
        return self._tokens.renew(headers.get("Authorization"))

    def close(self) -> None:
        self._server.close()


class _ClientSecret(Authentication):
    """Sends the id and the secret to the token server; in the header unless it wants a form."""

    def __init__(self, client_id: str) -> None:
        self._id = client_id
        self.secret = ""
        self.in_header = True

    def build_headers(self) -> dict[str, str]:
        if not self.in_header:
            return {}
        return {"Authorization": build_basic(quote_plus(self._id), quote_plus(self.secret))}


class _TokenServer:
    """Asks for tokens; one thread at a time. `section` is where it is in the configuration."""

    def __init__(self, settings: Oauth2, timeout: float, retry: RetryPolicy, section: str) -> None:
        self._settings = settings
        self._section = section
        self._timeout = timeout
        self._closing = retry.closing
        self._who = _ClientSecret(settings.client_id)
        self._session = Session(settings, retry, self._who, section=section)
        self._session.headers["Accept"] = "application/json"
        self._shown = settings.token_url.partition("?")[0]

    def fetch(self, secret: str) -> Token:
        """A new token.

        Servers differ in where they expect the secret: the header is tried first, then the form.

        Raises:
            UnreachableError: with the URL and the status; never with the secret.
        """
        self._who.secret = secret
        reply = self._ask(secret)
        if reply.status in {400, 401} and self._who.in_header:
            self._who.in_header = False
            other = self._ask(secret)
            self._who.in_header = other.status != 200
            reply = other if other.status == 200 else reply
        if reply.status != 200:
            said = flatten_text(_find_message(reply.body) or reply.reason or "no reason")
            raise self._build_error(f"HTTP {reply.status} ({said})", _REMEDY)
        try:
            return read_token(reply.body)
        except ValueError as error:
            raise self._build_error(str(error), f"check {self._section}.token_url") from None

    def _ask(self, secret: str) -> Reply:
        form: list[tuple[str, str]] = [("grant_type", "client_credentials")]
        if self._settings.scopes:
            form.append(("scope", " ".join(self._settings.scopes)))
        if not self._who.in_header:
            form += [("client_id", self._settings.client_id), ("client_secret", secret)]
        form += self._settings.endpoint_params.items()
        url, body = self._settings.token_url, urlencode(form).encode()
        try:
            return exchange(
                self._session, "POST", url, body, self._timeout, self._timeout, self._closing
            )
        except PrometheusError as error:
            what, _, remedy = str(error).partition(" — ")
            remedy = remedy.replace("prometheus_url", f"{self._section}.token_url")
            raise self._build_error(what, remedy, error.reason) from None

    def _build_error(
        self, what: str, remedy: str, reason: str = "unauthorized"
    ) -> UnreachableError:
        """Without a token no query can be asked, so the next one now would fail as well."""
        return UnreachableError(
            f"{self._section}: no token from {self._shown}: {what} — {remedy}", reason
        )

    def close(self) -> None:
        self._session.close()


def read_token(body: bytes) -> Token:
    """The token in the response of a token server.

    Raises:
        ValueError: if there is none; the message shows nothing of the response.
    """
    document: Any = load_object(body)
    value = document.get("access_token")
    if not isinstance(value, str) or not value:
        raise ValueError("unusable response: no access_token")
    kind = str(document.get("token_type") or "Bearer")
    kind = "Bearer" if kind.lower() == "bearer" else kind
    try:
        authorization = check_header(f"{kind} {value}", "token_url")
    except PrometheusError:
        raise ValueError("unusable response: access_token is not printable ASCII") from None
    return Token(authorization, _read_seconds(document.get("expires_in")))


def _read_seconds(value: Any) -> float:
    """How long a token is valid: until it is refused if that is not a number above 0."""
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        return inf
    return seconds if isfinite(seconds) and seconds > 0 else inf


def _find_message(body: bytes) -> str:
    """The words of a refusal (RFC 6749, section 5.2); empty if it has none."""
    document = load_object(body)
    return str(document.get("error_description") or document.get("error") or "")

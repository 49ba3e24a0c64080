"""One HTTP exchange: retries that end, redirects that stay, bodies that fit into memory.

Errors raised here do not name the server or the query; `client` adds both.
"""

from __future__ import annotations

import http.client
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from io import BytesIO
from typing import cast
from urllib.parse import quote_plus, urljoin, urlsplit

from urllib3 import PoolManager
from urllib3.connection import port_by_scheme
from urllib3.exceptions import ClosedPoolError, HTTPError, LocationValueError, ProxyError, SSLError
from urllib3.util import Url, parse_url

import promad
from promad.config import ClientSettings, Oauth2
from promad.errors import PrometheusError, UnreachableError
from promad.prometheus.authentication import Authentication
from promad.prometheus.connections import Pool, Request, Response
from promad.prometheus.deadline import Limit
from promad.prometheus.pools import open_pools, require_tls_files
from promad.prometheus.retrying import RetryPolicy, build_closed_error
from promad.prometheus.server_clock import read_date

LARGEST_BODY_BYTES = 128 * 2**20
_ROOM_BYTES = 4 * 2**20
"""Allowed for whatever is no sample: warnings, messages, pages."""
_SERIES_BYTES = 2**12
_POINT_BYTES = 64
_PIECE_BYTES = 2**18
_CONNECT_SECONDS = 5.0
_MOST_REDIRECTS = 3
_REDIRECTS = frozenset({301, 302, 307, 308})
_NETWORK_ERRORS = (OSError, http.client.HTTPException, HTTPError)


class BodyTooLargeError(PrometheusError):
    """The body is longer than allowed; `start` is the part of it that was read."""

    def __init__(self, largest: int, start: bytes) -> None:
        super().__init__(
            f"response larger than {largest / 2**20:.3g} MiB — "
            "aggregate the expression so that it returns fewer series",
            "bad_answer",
        )
        self.start = start


class TimedOutError(UnreachableError):
    """The server did not answer completely within the time allowed."""


@dataclass(frozen=True)
class Reply:
    """Status and whole body of an exchange; the body is as sent before compression.

    `date` is when it was made by the server's clock, in unix seconds; None if it does not say.
    """

    status: int
    reason: str
    body: bytes
    date: float | None = None


def bound_body(series: int, points: int) -> int:
    """How many bytes an answer of so many series, of so many points each, may have."""
    expected = series * (_SERIES_BYTES + points * _POINT_BYTES)
    return min(LARGEST_BODY_BYTES, _ROOM_BYTES + expected)


class Session:
    """Connections, and what every request carries; threads may share it.

    `section` is where the certificates and the proxy are in the configuration. `pools` takes the
    place of the network.
    """

    def __init__(
        self,
        settings: ClientSettings | Oauth2,
        retry: RetryPolicy,
        authentication: Authentication,
        pools: PoolManager | None = None,
        *,
        section: str = "prometheus",
        follow_redirects: bool = True,
    ) -> None:
        self.headers = {
            "User-Agent": f"promad/{promad.__version__}",
            "Accept-Encoding": "identity",
            "Accept": "*/*",
        }
        self.section = section
        self.follows_redirects = follow_redirects
        self._settings = settings
        self._retry = retry
        self._authentication = authentication
        self._pools = pools
        self._opening = threading.Lock()
        self._known: dict[tuple[object, ...], Pool] = {}

    def send(self, method: str, url: str, body: bytes | None, timeout: float) -> Response:
        """The answer to a request, repeated as the policy says; it must be released.

        It is also repeated if it got 401 and there are newer credentials.

        Raises:
            OSError, http.client.HTTPException, urllib3.exceptions.HTTPError: if there is none.
            PrometheusError: if a secret cannot be read, or the session was closed meanwhile.
        """
        parts, attempt, was_renewed = _parse_url(url), 0, False
        while True:
            attempt += 1
            headers = self._build_headers(method, parts, body)
            try:
                response = self._send_once(method, parts, headers, body, timeout)
            except ClosedPoolError:
                raise build_closed_error() from None
            except _NETWORK_ERRORS as error:
                seconds = self._retry.plan_after_error(error, attempt)
                if seconds is None:
                    raise
            else:
                if response.status < HTTPStatus.BAD_REQUEST:
                    return response
                if response.status == HTTPStatus.UNAUTHORIZED and not was_renewed:
                    was_renewed = True
                    if self._authentication.renew(headers):
                        response.release()
                        continue
                asked = response.headers.get("retry-after")
                seconds = self._retry.plan_after_status(response.status, asked, attempt)
                if seconds is None:
                    return response
                response.release()
            self._retry.wait(seconds)

    def _build_headers(self, method: str, url: Url, body: bytes | None) -> dict[str, str]:
        """The headers of the configuration replace ours; secrets are read as they are now."""
        headers = {"Host": _name_host(url), **self.headers}
        if body is not None:
            headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
        own = self._authentication.build_headers()
        if own:
            names = {name.lower() for name in own}
            ours = {name: each for name, each in headers.items() if name.lower() not in names}
            headers = ours | own
        return headers | self._authentication.sign(method, url, headers, body)

    def _send_once(
        self, method: str, url: Url, headers: dict[str, str], body: bytes | None, timeout: float
    ) -> Response:
        pool = self._find_pool(url)
        target, scheme = url.request_uri, url.scheme or ""
        if pool.proxy and scheme == "http":
            target = url._replace(auth=None, fragment=None).url
            headers = {**headers, **pool.proxy_headers}
        request = Request(method, target, headers, body, scheme)
        return pool.ask(request, min(_CONNECT_SECONDS, timeout), timeout)

    def close(self) -> None:
        """Close every connection that is not in use; the others are closed after their use."""
        self._authentication.close()
        for pool in self._known.values():
            pool.close()
        if self._pools is not None:
            self._pools.clear()

    def _find_pool(self, url: Url) -> Pool:
        """The connections to a server; urllib3 takes as long to find them as to ask."""
        server = (url.scheme, url.host, url.port)
        if server not in self._known:
            if url.scheme == "https":
                require_tls_files(self._settings.tls_config, self.section)
            with self._opening:
                if self._pools is None:
                    self._pools = open_pools(self._settings, url, self.section)
            found = self._pools.connection_from_host(url.host, url.port, url.scheme)
            self._known = {server: cast("Pool", found)}  # redirects stay on the server
        return self._known[server]


@lru_cache(16)
def _name_host(url: Url) -> str:
    """The header `Host` of a request: without the port if it is that of the scheme."""
    usual = port_by_scheme.get(url.scheme or "")
    return (url._replace(port=None) if url.port == usual else url).netloc or ""


_parse_url = lru_cache(16)(parse_url)


def exchange(
    session: Session,
    method: str,
    url: str,
    form: Mapping[str, str] | bytes | None,
    timeout: float,
    body_seconds: float,
    closing: threading.Event,
    largest_bytes: int | None = None,
) -> Reply:
    """Send the request, follow redirects on the same server, and read the whole body.

    `form` may be bytes, sent as they are; a GET has it in its URL, which may have parameters.
    `timeout` is in seconds, for the connection, and for the status and the headers; `body_seconds`
    is for the body. `largest_bytes` is how long the body may be; the default is for one without
    samples.

    Raises:
        UnreachableError: if the server cannot be connected to or does not answer in time.
        BodyTooLargeError: if its body is longer than `largest_bytes`.
        PrometheusError: if it redirects elsewhere, or its body breaks off.
    """
    body = _encode_form(form) if isinstance(form, Mapping) else form
    if method == "GET" and body is not None:
        in_url = body.decode().replace("+", "%20")  # what is signed must be read in one way alone
        url, body = f"{url}{'&' if '?' in url else '?'}{in_url}", None
    try:
        response = _send(session, method, url, body, timeout)
    except _NETWORK_ERRORS as error:
        raise _build_connection_error(error, timeout, session.section) from None
    except ValueError as error:  # the URL that was configured is valid
        raise PrometheusError(
            f"redirect to an invalid URL ({error}) — check prometheus_url and any proxy in between",
            "redirect",
        ) from None
    try:
        largest = bound_body(0, 0) if largest_bytes is None else largest_bytes
        read = _read_body(response, body_seconds, closing, largest)
        return Reply(response.status, response.reason, read, read_date(response.headers))
    finally:
        response.release()


def _encode_form(form: Mapping[str, str]) -> bytes:
    """The same as `urlencode`, which takes longer than to send it."""
    return "&".join(f"{key}={_quote(value)}" for key, value in form.items()).encode()


_quote = lru_cache(1024)(quote_plus)


def _send(session: Session, method: str, url: str, body: bytes | None, timeout: float) -> Response:
    for _ in range(_MOST_REDIRECTS):
        response = session.send(method, url, body, timeout)
        if response.status not in _REDIRECTS:
            return response
        location = response.headers.get("location", "")
        response.release()
        url = _resolve_redirect(url, location)
        if not session.follows_redirects:
            raise PrometheusError(
                f"redirect to {urlsplit(url).path} not followed — fix prometheus_url, or set "
                "prometheus.follow_redirects to true",
                "redirect",
            )
    raise PrometheusError("too many redirects — fix prometheus_url", "redirect")


def _resolve_redirect(url: str, location: str) -> str:
    """The target of a redirect on the same server; another server must not get the secrets."""
    target = urljoin(url, location)
    here, there = urlsplit(url), urlsplit(target)
    if (here.scheme, here.netloc) != (there.scheme, there.netloc):
        raise PrometheusError(
            f"redirect to another server ({there.scheme}://{there.hostname or ''}) not followed — "
            "set prometheus_url to that server if it is the right one",
            "redirect",
        )
    return target


def _read_body(response: Response, seconds: float, closing: threading.Event, largest: int) -> bytes:
    """The whole body, in the memory of one."""
    limit = Limit(seconds, response.shut_down)
    try:
        with nullcontext() if response.is_at_hand else limit:
            body = _read_pieces(response, closing, largest)
    except _NETWORK_ERRORS as error:
        if limit.is_over:
            raise _build_slow_error(seconds) from None
        raise _build_incomplete_error(error) from None
    if limit.is_over:  # what looks like the end of the body is that of the connection
        raise _build_slow_error(seconds)
    return body


def _read_pieces(response: Response, closing: threading.Event, largest: int) -> bytes:
    body = BytesIO()
    while piece := response.read_piece(_PIECE_BYTES):
        if closing.is_set():
            raise build_closed_error()
        body.write(piece)
        if body.tell() > largest:
            raise BodyTooLargeError(largest, body.getvalue())
    return body.getvalue()


def _build_incomplete_error(error: Exception) -> PrometheusError:
    return PrometheusError(
        f"response incomplete ({_find_cause(error)}) — try again, and check the server's log",
        "bad_answer",
    )


def _build_slow_error(seconds: float) -> PrometheusError:
    return TimedOutError(
        f"response incomplete after {seconds:g} s — "
        "set prometheus.compression to gzip on a slow link, or raise prometheus.timeout",
        "timeout",
    )


def _build_connection_error(error: Exception, timeout: float, section: str) -> PrometheusError:
    if isinstance(error, LocationValueError):
        return PrometheusError(
            f"request failed ({type(error).__name__}) — check prometheus_url and prometheus.*",
            "bad_request",
        )
    if isinstance(error, ProxyError):
        return UnreachableError(
            f"connection through the proxy failed ({_find_cause(error)}) "
            f"— check {section}.proxy_url"
        )
    if isinstance(error, SSLError | ssl.SSLError | ssl.CertificateError):
        return UnreachableError(
            f"TLS connection failed ({_find_cause(error)}) — check {section}.tls_config"
        )
    if isinstance(error, TimeoutError):
        return TimedOutError(
            f"no response within {timeout:g} s — check the server, or raise prometheus.timeout"
        )
    return UnreachableError(
        f"connection failed ({_find_cause(error)}) — check prometheus_url and the server"
    )


def _find_cause(error: BaseException) -> str:
    """The system's message of the innermost error of a chain.

    Only these are shown: the outer messages may hold the whole URL of a proxy.
    """
    words = type(error).__name__
    for inner in _walk_chain(error):
        if isinstance(inner, ssl.SSLCertVerificationError):
            return inner.verify_message
        if isinstance(inner, OSError) and inner.strerror:
            words = inner.strerror
        else:
            words = type(inner).__name__
    return words


def _walk_chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and those it was made from, outermost first."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        inside = [arg for arg in error.args if isinstance(arg, BaseException)]
        reason = getattr(error, "reason", None)
        inside += [reason] if isinstance(reason, BaseException) else []
        error = inside[-1] if inside else error.__cause__ or error.__context__

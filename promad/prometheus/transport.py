"""One HTTP exchange: retries that end, redirects that stay, bodies that fit into memory.

Errors raised here do not name the server or the query; `client` adds both.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import BaseAdapter, HTTPAdapter

import promad
from promad.config import PrometheusSettings
from promad.errors import PrometheusError, UnreachableError
from promad.prometheus.authentication import authenticate
from promad.prometheus.retrying import given_up, retry_policy

LARGEST_BODY_BYTES = 128 * 2**20
_PIECE_BYTES = 2**18
_CONNECT_SECONDS = 5.0
_BODY_TIMEOUTS = 4
"""A body may take this many times `prometheus.timeout`, however steadily it trickles in."""
_MOST_REDIRECTS = 3
_REDIRECTS = frozenset({301, 302, 307, 308})


@dataclass(frozen=True)
class Reply:
    """Status and whole body of an exchange; the body is as sent before compression."""

    status: int
    reason: str
    body: bytes


def open_session(
    settings: PrometheusSettings,
    retries: int,
    adapter: BaseAdapter | None,
    closing: threading.Event,
) -> requests.Session:
    """A session that authenticates, retries and compresses as asked; nothing is sent yet."""
    session = requests.Session()
    authenticate(session, settings)
    session.headers["Accept-Encoding"] = settings.compression
    session.headers["User-Agent"] = f"promad/{promad.__version__}"
    chosen = adapter or HTTPAdapter(max_retries=retry_policy(retries, closing))
    session.mount("http://", chosen)
    session.mount("https://", chosen)
    return session


def exchange(
    session: requests.Session,
    method: str,
    url: str,
    form: Mapping[str, str] | bytes | None,
    timeout: float,
    closing: threading.Event,
) -> Reply:
    """Send the request, follow redirects on the same server, and read the whole body.

    `form` may be bytes, sent as they are. `timeout` is in seconds, for each wait for the server.

    Raises:
        UnreachableError: if the server cannot be connected to or never begins to answer.
        PrometheusError: if it redirects elsewhere, or its body breaks off or is too large.
    """
    try:
        response = _follow(session, method, url, form, timeout)
    except requests.RequestException as error:
        raise _unanswered(error, timeout) from None
    except OSError as error:  # requests says so of files named in tls_config
        raise PrometheusError(f"{error} — check prometheus.tls_config", "unauthorized") from None
    with response:
        body = b"".join(_pieces(response, timeout * _BODY_TIMEOUTS, closing))
        return Reply(response.status_code, response.reason or "", body)


def _follow(
    session: requests.Session,
    method: str,
    url: str,
    form: Mapping[str, str] | bytes | None,
    timeout: float,
) -> requests.Response:
    timeouts = (min(_CONNECT_SECONDS, timeout), timeout)
    for _ in range(_MOST_REDIRECTS):
        response = session.request(
            method, url, data=form, timeout=timeouts, stream=True, allow_redirects=False
        )
        if response.status_code not in _REDIRECTS:
            return response
        response.close()
        url = _on_same_server(url, response.headers.get("Location", ""))
    raise PrometheusError("it redirects in a circle — mend prometheus_url", "redirect")


def _on_same_server(url: str, location: str) -> str:
    """Where a redirect leads; anywhere else the request's secrets would go to a stranger."""
    target = urljoin(url, location)
    here, there = urlsplit(url), urlsplit(target)
    if (here.scheme, here.netloc) != (there.scheme, there.netloc):
        raise PrometheusError(
            f"it redirects to {there.scheme}://{there.hostname or ''} — "
            "promad follows no redirect to another server; if that one is meant, name it in "
            "prometheus_url",
            "redirect",
        )
    return target


def _pieces(
    response: requests.Response, longest_seconds: float, closing: threading.Event
) -> Iterator[bytes]:
    deadline, size = time.monotonic() + longest_seconds, 0
    try:
        for piece in response.iter_content(_PIECE_BYTES):
            size += len(piece)
            if size > LARGEST_BODY_BYTES:
                raise _too_large()
            if time.monotonic() > deadline:
                raise _too_slow(longest_seconds)
            if closing.is_set():
                raise given_up()
            yield piece
    except requests.RequestException as error:
        raise PrometheusError(
            f"the answer broke off ({_cause(error)}) — try again, and see the server's log",
            "bad_answer",
        ) from None


def _too_large() -> PrometheusError:
    return PrometheusError(
        f"the answer is larger than {LARGEST_BODY_BYTES >> 20} MiB — "
        "aggregate the expression, so that it yields fewer series",
        "bad_answer",
    )


def _too_slow(seconds: float) -> PrometheusError:
    return PrometheusError(
        f"the answer was not complete after {seconds:g} s — "
        "set prometheus.compression to gzip on a slow link, or raise prometheus.timeout",
        "timeout",
    )


def _unanswered(error: requests.RequestException, timeout: float) -> PrometheusError:
    if isinstance(error, requests.exceptions.SSLError):
        return UnreachableError(
            f"no TLS connection ({_cause(error)}) — check prometheus.tls_config"
        )
    if isinstance(error, requests.exceptions.ProxyError):
        return UnreachableError(
            f"cannot be reached through the proxy ({_cause(error)}) — check prometheus.proxy_url"
        )
    if isinstance(error, requests.exceptions.ReadTimeout):
        return UnreachableError(
            f"no answer within {timeout:g} s — see how the server is, or raise prometheus.timeout"
        )
    if isinstance(error, requests.ConnectionError):
        return UnreachableError(
            f"cannot be reached ({_cause(error)}) — does it run, and is prometheus_url right?"
        )
    return PrometheusError(
        f"the request failed ({type(error).__name__}) — check prometheus_url and prometheus.*",
        "bad_request",
    )


def _cause(error: BaseException) -> str:
    """The system's own words for what lies at the bottom of a chain of errors.

    Only these are shown: the outer messages may hold the whole URL of a proxy.
    """
    words = type(error).__name__
    for inner in _chain(error):
        if isinstance(inner, ssl.SSLCertVerificationError):
            return inner.verify_message
        if isinstance(inner, OSError) and inner.strerror:
            words = inner.strerror
        elif not isinstance(inner, requests.RequestException):
            words = type(inner).__name__
    return words


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and those it was made from, outermost first."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        inside = [arg for arg in error.args if isinstance(arg, BaseException)]
        reason = getattr(error, "reason", None)
        inside += [reason] if isinstance(reason, BaseException) else []
        error = inside[-1] if inside else error.__cause__ or error.__context__

"""One HTTP exchange: retries that end, redirects that stay, bodies that fit into memory.

Errors raised here do not name the server or the query; `client` adds both.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from urllib.parse import urlencode, urljoin, urlsplit

import requests
from requests.adapters import BaseAdapter
from urllib3 import Retry

import promad
from promad.config import PrometheusSettings
from promad.errors import PrometheusError, UnreachableError
from promad.prometheus.authentication import authenticate
from promad.prometheus.deadline import LimitedAdapter, end_after
from promad.prometheus.retrying import build_closed_error
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


class BodyTooLargeError(PrometheusError):
    """The body is longer than allowed; `start` is the part of it that was read."""

    def __init__(self, largest: int, start: bytes) -> None:
        super().__init__(
            f"response larger than {largest / 2**20:.3g} MiB — "
            "aggregate the expression so that it returns fewer series",
            "bad_answer",
        )
        self.start = start


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


def open_session(
    settings: PrometheusSettings, retry: Retry, adapter: BaseAdapter | None
) -> requests.Session:
    """A session that authenticates, retries and compresses as asked; nothing is sent yet."""
    session = _Session()
    authenticate(session, settings)
    session.headers["Accept-Encoding"] = settings.compression
    session.headers["User-Agent"] = f"promad/{promad.__version__}"
    chosen = adapter or LimitedAdapter(max_retries=retry)
    session.mount("http://", chosen)
    session.mount("https://", chosen)
    return session


def exchange(
    session: requests.Session,
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
    if method == "GET" and isinstance(form, Mapping):
        url, form = f"{url}{'&' if '?' in url else '?'}{urlencode(form)}", None
    try:
        response = _send(session, method, url, form, timeout)
    except requests.RequestException as error:
        raise _build_connection_error(error, timeout) from None
    except OSError as error:  # requests says so of files named in tls_config
        raise PrometheusError(f"{error} — check prometheus.tls_config", "unauthorized") from None
    except ValueError as error:  # the URL that was configured is valid
        raise PrometheusError(
            f"redirect to an invalid URL ({error}) — check prometheus_url and any proxy in between",
            "redirect",
        ) from None
    with response:
        largest = bound_body(0, 0) if largest_bytes is None else largest_bytes
        body = _read_body(_read_pieces(response, body_seconds, closing), largest)
        date = read_date(response.headers)
        return Reply(response.status_code, response.reason or "", body, date)


def _send(
    session: requests.Session,
    method: str,
    url: str,
    form: Mapping[str, str] | bytes | None,
    timeout: float,
) -> requests.Response:
    timeouts = (min(_CONNECT_SECONDS, timeout), timeout)
    for _ in range(_MOST_REDIRECTS):
        response = _request(session, method, url, form, timeouts)
        if response.status_code not in _REDIRECTS:
            return response
        response.close()
        url = _resolve_redirect(url, response.headers.get("Location", ""))
    raise PrometheusError("too many redirects — fix prometheus_url", "redirect")


class _Session(requests.Session):
    """A session that prepares each URL once, which costs as much as all else of a small request."""

    def __init__(self) -> None:
        super().__init__()
        self._prepared: dict[str, requests.PreparedRequest] = {}

    def prepare_form(self, url: str, form: bytes) -> requests.PreparedRequest:
        """A POST of an encoded form, with the secrets and cookies as they are now."""
        template = self._prepared.get(url)
        if template is None or self.cookies:
            template = self.prepare_request(requests.Request("POST", url, data=b""))
            self._prepared = {url: template}
        request = template.copy()
        request.headers["Content-Type"] = "application/x-www-form-urlencoded"
        request.prepare_body(form, None)
        request.prepare_auth(self.auth, url)
        return request


def _request(
    session: requests.Session,
    method: str,
    url: str,
    form: Mapping[str, str] | bytes | None,
    timeouts: tuple[float, float],
) -> requests.Response:
    if method == "POST" and isinstance(form, Mapping) and isinstance(session, _Session):
        return session.send(
            session.prepare_form(url, urlencode(form).encode()),
            timeout=timeouts,
            stream=True,
            allow_redirects=False,
            verify=session.verify,
            cert=session.cert,
            proxies=session.proxies,
        )
    return session.request(
        method, url, data=form, timeout=timeouts, stream=True, allow_redirects=False
    )


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


def _read_body(pieces: Iterator[bytes], largest: int) -> bytes:
    """The pieces together, in the memory of one body."""
    body = BytesIO()
    for piece in pieces:
        body.write(piece)
        if body.tell() > largest:
            raise BodyTooLargeError(largest, body.getvalue())
    return body.getvalue()


def _read_pieces(
    response: requests.Response, longest_seconds: float, closing: threading.Event
) -> Iterator[bytes]:
    with end_after(longest_seconds, response.raw.shutdown) as is_over:
        try:
            for piece in response.iter_content(_PIECE_BYTES):
                if is_over():
                    break
                if closing.is_set():
                    raise build_closed_error()
                yield piece
        except requests.RequestException as error:
            if not is_over():
                raise _build_incomplete_error(error) from None
        if is_over():
            raise _build_slow_error(longest_seconds)


def _build_incomplete_error(error: requests.RequestException) -> PrometheusError:
    return PrometheusError(
        f"response incomplete ({_find_cause(error)}) — try again, and check the server's log",
        "bad_answer",
    )


def _build_slow_error(seconds: float) -> PrometheusError:
    return UnreachableError(
        f"response incomplete after {seconds:g} s — "
        "set prometheus.compression to gzip on a slow link, or raise prometheus.timeout",
        "timeout",
    )


def _build_connection_error(error: requests.RequestException, timeout: float) -> PrometheusError:
    if isinstance(error, requests.exceptions.SSLError):
        return UnreachableError(
            f"TLS connection failed ({_find_cause(error)}) — check prometheus.tls_config"
        )
    if isinstance(error, requests.exceptions.ProxyError):
        return UnreachableError(
            f"connection through the proxy failed ({_find_cause(error)}) "
            "— check prometheus.proxy_url"
        )
    if isinstance(error, requests.exceptions.ReadTimeout):
        return UnreachableError(
            f"no response within {timeout:g} s — check the server, or raise prometheus.timeout"
        )
    if isinstance(error, requests.ConnectionError):
        return UnreachableError(
            f"connection failed ({_find_cause(error)}) — check prometheus_url and the server"
        )
    return PrometheusError(
        f"request failed ({type(error).__name__}) — check prometheus_url and prometheus.*",
        "bad_request",
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
        elif not isinstance(inner, requests.RequestException):
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

"""`PrometheusClient`: one question to the server, one answer or one clear error."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode

import structlog
from urllib3 import PoolManager

from promad.config import PrometheusSettings, format_duration
from promad.data.frame import points_between
from promad.errors import PrometheusError
from promad.prometheus.grid import Span, requests_for
from promad.prometheus.joining import join_answers
from promad.prometheus.one_series import MOST_PARTS, build_several_error, flatten_text
from promad.prometheus.parsing import (
    Answer,
    TableAnswer,
    TooManySeriesError,
    find_series,
    parse_answer,
    parse_table,
)
from promad.prometheus.refusals import (
    REMEDIES,
    TooLargeError,
    build_refusal,
    is_refusal,
    may_allow_get,
)
from promad.prometheus.retrying import LONGEST_WAIT_SECONDS, RetryPolicy
from promad.prometheus.server_clock import measure_offset
from promad.prometheus.sessions import open_session
from promad.prometheus.transport import (
    BodyTooLargeError,
    Reply,
    bound_body,
    exchange,
)

_UNDERSTOOD = frozenset({200, 400, 422})
"""Statuses of a server that looked at the query."""

_MOST_ENTRIES = 20_000
"""Targets, names and other entries that an answer without samples may have."""

_NOT_THE_API = "not in the format of the Prometheus HTTP API"

log = structlog.get_logger()


@dataclass(frozen=True)
class _Expected:
    """How many series an answer may have, and how many points each."""

    series: int
    points: int


class PrometheusClient:
    """Asks a Prometheus-compatible server; may be used from several threads at once.

    `max_points` is how many samples of a series one request may ask for at most.
    `retries` is how often a request is repeated when the connection is lost or the server is
    busy; it is not repeated if the server asks to wait for more than `longest_wait` seconds.
    The body of an answer may take `body_timeouts` times `prometheus.timeout`. `pools` takes the
    place of the network, `now` that of this machine's clock.

    `clock_offset` is about how many seconds the server's clock is ahead of it (negative: behind),
    by the newest reply; None as long as no reply has a date. `bytes_read` counts what answers took,
    once decompressed.
    """

    def __init__(
        self,
        url: str,
        settings: PrometheusSettings,
        *,
        retries: int = 3,
        longest_wait: float = LONGEST_WAIT_SECONDS,
        body_timeouts: int = 4,
        pools: PoolManager | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.url = url.rstrip("/")
        self.max_points = settings.max_points_per_request
        self.clock_offset: float | None = None
        self.bytes_read = 0
        self._now = now
        self._timeout = settings.timeout
        self._server_seconds = settings.timeout - min(1.0, settings.timeout / 10)
        self._body_seconds = settings.timeout * body_timeouts
        self._method: str = settings.http_method
        self._union_queries = settings.union_queries
        self._parameters = urlencode(settings.params, doseq=True, quote_via=quote)
        self._get_failed = False
        self._most_points: dict[str, int] = {}
        self._infos_logged: set[tuple[str, str]] = set()
        self._limits_logged: set[str] = set()
        self._closing = threading.Event()
        self._session = open_session(
            settings, RetryPolicy(retries, longest_wait, self._closing), pools
        )

    @property
    def may_unite(self) -> bool:
        """Whether a request may have many expressions: a URL has no room for them."""
        return self._union_queries and self.may_post

    @property
    def may_post(self) -> bool:
        """Whether a request may be longer than a URL."""
        return self._method == "POST"

    def range_bodies(
        self,
        expr: str,
        start: float,
        end: float,
        step: float,
        *,
        subject: str = "",
        most_series: int = MOST_PARTS,
    ) -> list[bytes]:
        """The unread answers to a range query; times in unix seconds, `step` in seconds.

        It is one answer for each `max_points` samples, unless the server refuses the request by
        its size: then the time is halved until it is accepted, and what was accepted is the limit
        of later requests for the same expression. `subject` is what errors name in place of `expr`.
        `most_series` is how many series the answer may have; its length is limited by them and the
        number of points.

        Raises:
            UnreachableError: if the server does not answer at all.
            PrometheusError: if it refuses the query or its answer is cut short.
        """
        waiting = deque([Span(start, end)])
        bodies: list[bytes] = []
        first_error: TooLargeError | None = None
        while waiting:
            part, *rest = self._cut(expr, waiting.popleft(), step)
            waiting.extendleft(reversed(rest))
            try:
                bodies.append(self.ask_range(expr, part, step, subject or expr, most_series))
            except TooLargeError as error:
                points = points_between(part.start, part.end, step)
                first_error = first_error or error
                if points == 1:  # the time was not the reason
                    self._most_points.pop(expr, None)
                    raise first_error from None
                self._limit_points(expr, (points + 1) // 2, error)
                waiting.appendleft(part)
        return bodies

    def ask_range(
        self,
        expr: str,
        span: Span,
        step: float,
        subject: str,
        most_series: int,
        *,
        time_share: float = 1.0,
    ) -> bytes:
        """The unread answer to one request of a range query; see `range_bodies`.

        Args:
            time_share: of the time that the server has for a query.

        Raises:
            UnreachableError, PrometheusError: as `range_bodies`.
            TooLargeError: if the server refuses it by its size.
        """
        form = {
            "query": expr,
            "start": _format_number(span.start),
            "end": _format_number(span.end),
            "step": _format_number(step),
        }
        points = points_between(span.start, span.end, step)
        expected = _Expected(most_series, points)
        return self._ask("query_range", form, subject, expected, time_share)

    def query_range(
        self,
        expr: str,
        start: float,
        end: float,
        step: float,
        *,
        subject: str = "",
        most_series: int = MOST_PARTS,
    ) -> Answer:
        """The samples at `start`, `start + step`, ... up to `end`.

        Raises:
            PrometheusError: as `range_bodies`, and if the answer cannot be understood.
        """
        bodies = self.range_bodies(expr, start, end, step, subject=subject, most_series=most_series)
        return self.read(bodies, subject or expr, most_series)

    def query(self, expr: str, at: float) -> Answer:
        """The value of each series at one time: an instant query.

        Raises:
            PrometheusError: as `query_range`.
        """
        form = {"query": expr, "time": _format_number(at)}
        body = self._ask("query", form, expr, _Expected(MOST_PARTS, 1))
        return self.read([body], expr)

    def read(self, bodies: Sequence[bytes], expr: str, most_series: int = MOST_PARTS) -> Answer:
        """The answer to `expr` in its bytes, or in those of several requests for parts of it.

        What the server remarks on the expression is logged once.

        Raises:
            PrometheusError: if they cannot be understood, contradict each other, or have more
                series than `most_series`.
        """
        with self._explain_answer(expr, most_series):
            answer = join_answers([parse_answer(body, most_series) for body in bodies])
        self._log_infos(expr, answer.infos)
        return answer

    def read_tables(
        self, bodies: Sequence[bytes], expr: str, most_series: int
    ) -> list[TableAnswer]:
        """The same as `read` for expressions of many series: each body's samples in one table.

        Raises:
            PrometheusError: as `read`, but that parts are not compared with each other.
        """
        with self._explain_answer(expr, most_series):
            answers = [parse_table(body, most_series) for body in bodies]
        for answer in answers:
            self._log_infos(expr, answer.infos)
        return answers

    @contextmanager
    def _explain_answer(self, expr: str, most_series: int) -> Iterator[None]:
        """Make an answer that cannot be understood an error that says so."""
        try:
            yield
        except TooManySeriesError as error:
            if most_series > MOST_PARTS:
                raise self.bad_answer(expr, str(error)) from None
            raise build_several_error(expr, error.labels, most_series, more=True) from None
        except ValueError as error:
            raise self.bad_answer(expr, str(error)) from None

    def _log_infos(self, expr: str, infos: Sequence[str]) -> None:
        for info in infos:
            if (expr, info) not in self._infos_logged:
                self._infos_logged.add((expr, info))
                log.info("info from server", expr=flatten_text(expr), info=flatten_text(info))

    def bad_answer(self, expr: str, why: str) -> PrometheusError:
        """An error for an answer that is not what `expr` should have yielded."""
        remedy = "" if " — " in why else f" — {REMEDIES['bad_answer']}"
        message = f"unusable response: {flatten_text(why)}{remedy}"
        return self._add_server(PrometheusError(message, "bad_answer"), expr)

    def build_info(self) -> dict[str, str]:
        """The server's version; may be empty.

        Raises:
            PrometheusError: if it does not answer, or not in the form of Prometheus's HTTP API.
        """
        path = "status/buildinfo"
        data = self.fetch(path)
        try:
            return {str(key): str(value) for key, value in data.items()}
        except AttributeError:
            raise self.bad_answer(path, _NOT_THE_API) from None

    def fetch(self, path: str, parameters: Mapping[str, str] | None = None) -> Any:
        """The `data` of an answer to GET: plain JSON values, of any form.

        Args:
            path: of the HTTP API, below `/api/v1/`.

        Raises:
            PrometheusError: if the server does not answer, or not in the form of Prometheus's API.
        """
        form = dict(parameters) if parameters else None
        expected = _Expected(_MOST_ENTRIES, 0)
        reply = self._exchange("GET", self._build_url(path), form, path, expected)
        return self._read_data(self._take_body(reply, path), path)

    def fetch_with_stats(self, expr: str, at: float, most_series: int = MOST_PARTS) -> Any:
        """The `data` of an instant query, with `stats` if the server has them.

        Raises:
            PrometheusError: as `fetch`.
        """
        form = {"query": expr, "time": _format_number(at), "stats": "all"}
        return self._read_data(self._ask("query", form, expr, _Expected(most_series, 1)), expr)

    def _read_data(self, body: bytes, subject: str) -> Any:
        try:
            return json.loads(body)["data"]
        except (ValueError, LookupError, TypeError, RecursionError):
            raise self.bad_answer(subject, _NOT_THE_API) from None

    def close(self) -> None:
        """Cancel requests in flight and close every connection."""
        self._closing.set()
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _cut(self, expr: str, span: Span, step: float) -> list[Span]:
        """The span in parts that the server accepts, as far as is known; none ends after it."""
        most = self._most_points.get(expr, self.max_points)
        if points_between(span.start, span.end, step) <= most:
            return [span]
        parts = requests_for([span], step, most)
        return [Span(part.start, min(part.end, span.end)) for part in parts]

    def _limit_points(self, expr: str, most: int, error: PrometheusError) -> None:
        if error.fault not in self._limits_logged:
            self._limits_logged.add(error.fault)
            log.warning("request too large; asking for less", err=str(error))
        self._most_points[expr] = min(most, self._most_points.get(expr, most))

    def _build_url(self, path: str) -> str:
        url = f"{self.url}/api/v1/{path}"
        return f"{url}?{self._parameters}" if self._parameters else url

    def _ask(
        self,
        path: str,
        form: dict[str, str],
        subject: str,
        expected: _Expected,
        time_share: float = 1.0,
    ) -> bytes:
        form = {**form, "timeout": _format_timeout(self._server_seconds * time_share)}
        url = self._build_url(path)
        method = self._method  # another thread may change it meanwhile
        reply = self._exchange(method, url, form, subject, expected)
        if method == "POST" and not self._get_failed and may_allow_get(reply):
            reply = self._try_get(url, form, subject, reply, expected)
        return self._take_body(reply, subject)

    def _try_get(
        self, url: str, form: dict[str, str], subject: str, refused: Reply, expected: _Expected
    ) -> Reply:
        """The reply to GET if that is allowed, else the one to POST; either is remembered."""
        reply = self._exchange("GET", url, form, subject, expected)
        if reply.status not in _UNDERSTOOD:
            self._get_failed = reply.status < 500 or reply.status == 501
            return refused
        self._method = "GET"
        log.info("POST refused; using GET", url=self.url, status=refused.status)
        return reply

    def _exchange(
        self,
        method: str,
        url: str,
        form: dict[str, str] | None,
        subject: str,
        expected: _Expected,
    ) -> Reply:
        sent = self._now()
        try:
            reply = exchange(
                self._session,
                method,
                url,
                form,
                self._timeout,
                self._body_seconds,
                self._closing,
                bound_body(expected.series, expected.points),
            )
        except BodyTooLargeError as error:
            raise self._explain_size(error, subject, expected) from None
        except PrometheusError as error:
            raise self._add_server(error, subject) from None
        self.bytes_read += len(reply.body)
        if reply.date is not None:
            self.clock_offset = measure_offset(reply.date, sent, self._now())
        return reply

    def _explain_size(
        self, error: BodyTooLargeError, subject: str, expected: _Expected
    ) -> PrometheusError:
        """The error of a body that is too long: where one series was expected, those it shows."""
        count, labels = find_series(error.start)
        if expected.series == MOST_PARTS and len(set(labels)) > 1:
            return build_several_error(subject, labels, count - 1, more=True)
        if expected.series > MOST_PARTS and expected.points > 1:
            return self._add_server(TooLargeError(str(error), error.reason), subject)
        return self._add_server(PrometheusError(str(error), error.reason), subject)

    def _take_body(self, reply: Reply, subject: str) -> bytes:
        if is_refusal(reply):
            raise self._add_server(build_refusal(reply), subject)
        return reply.body

    def _add_server(self, error: PrometheusError, expr: str) -> PrometheusError:
        fault = f"{self.url}: {error.fault}"
        return type(error)(f"{self.url}: {flatten_text(expr)}: {error}", error.reason, fault)


_format_timeout = lru_cache(8)(format_duration)


@lru_cache(64)  # the queries of a poll ask for the same times
def _format_number(seconds: float) -> str:
    """Seconds to the millisecond, as the server reads them.

    >>> _format_number(15.0), _format_number(0.5)
    ('15', '0.5')
    """
    return f"{seconds:.3f}".rstrip("0").rstrip(".")

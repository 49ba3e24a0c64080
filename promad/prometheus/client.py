"""`PrometheusClient`: one question to the server, one answer or one clear error."""

from __future__ import annotations

import json
import threading
from types import TracebackType
from typing import Any, Self

from requests.adapters import BaseAdapter

from promad.config import PrometheusSettings, format_duration
from promad.errors import PrometheusError, UnreachableError
from promad.prometheus.one_series import flatten_text
from promad.prometheus.parsing import Answer, parse_answer
from promad.prometheus.transport import Reply, exchange, open_session

_REASONS_BY_TYPE = {"bad_data": "bad_data", "execution": "execution", "timeout": "timeout"}
_REASONS_BY_STATUS = {
    400: "bad_data",
    401: "unauthorized",
    403: "unauthorized",
    404: "not_found",
    405: "not_found",
    408: "timeout",
    422: "execution",
    429: "too_many_requests",
}
_REMEDIES = {
    "bad_data": "fix the expression",
    "execution": "fix the expression, or reduce the number of series that it reads",
    "timeout": "simplify the expression, or raise prometheus.timeout",
    "too_many_requests": "reduce the query rate, or raise the limit of the server",
    "server_error": "check the server's log",
    "unauthorized": "check prometheus.basic_auth, prometheus.authorization and http_headers",
    "not_found": "check prometheus_url and its path",
    "bad_answer": "check that prometheus_url is a Prometheus-compatible server",
}


class PrometheusClient:
    """Asks a Prometheus-compatible server; may be used from several threads at once.

    `retries` is how often a request is repeated when the connection is lost or the server is
    busy. `adapter` takes the place of the network.
    """

    def __init__(
        self,
        url: str,
        settings: PrometheusSettings,
        *,
        retries: int = 3,
        adapter: BaseAdapter | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._timeout = settings.timeout
        self._closing = threading.Event()
        self._session = open_session(settings, retries, adapter, self._closing)

    def range_bytes(self, expr: str, start: float, end: float, step: float) -> bytes:
        """The unread answer to a range query; times in unix seconds, `step` in seconds.

        Raises:
            UnreachableError: if the server does not answer at all.
            PrometheusError: if it refuses the query or its answer is cut short.
        """
        form = {
            "query": expr,
            "start": _format_number(start),
            "end": _format_number(end),
            "step": _format_number(step),
        }
        return self._ask("query_range", form)

    def query_range(self, expr: str, start: float, end: float, step: float) -> Answer:
        """The samples at `start`, `start + step`, ... up to `end`.

        Raises:
            PrometheusError: as `range_bytes`, and if the answer cannot be understood.
        """
        return self.read(self.range_bytes(expr, start, end, step), expr)

    def query(self, expr: str, at: float) -> Answer:
        """The value of each series at one time: an instant query.

        Raises:
            PrometheusError: as `query_range`.
        """
        return self.read(self._ask("query", {"query": expr, "time": _format_number(at)}), expr)

    def read(self, body: bytes, expr: str) -> Answer:
        """The answer to `expr` in its bytes.

        Raises:
            PrometheusError: if they cannot be understood.
        """
        try:
            return parse_answer(body)
        except ValueError as error:
            raise self.bad_answer(expr, str(error)) from None

    def bad_answer(self, expr: str, why: str) -> PrometheusError:
        """An error for an answer that is not what `expr` should have yielded."""
        remedy = "" if " — " in why else f" — {_REMEDIES['bad_answer']}"
        message = f"unusable response: {flatten_text(why)}{remedy}"
        return self._add_server(PrometheusError(message, "bad_answer"), expr)

    def build_info(self) -> dict[str, str]:
        """The server's version; may be empty.

        Raises:
            PrometheusError: if it does not answer, or not in the form of Prometheus's HTTP API.
        """
        path = "status/buildinfo"
        body = self._exchange("GET", path, None, path)
        try:
            data: Any = json.loads(body)["data"]
            return {str(key): str(value) for key, value in data.items()}
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise self.bad_answer(path, "not in the format of the Prometheus HTTP API") from None

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

    def _ask(self, path: str, form: dict[str, str]) -> bytes:
        limit = format_duration(self._timeout - min(1.0, self._timeout / 10))
        return self._exchange("POST", path, {**form, "timeout": limit}, form["query"])

    def _exchange(self, method: str, path: str, form: dict[str, str] | None, what: str) -> bytes:
        url = f"{self.url}/api/v1/{path}"
        try:
            reply = exchange(self._session, method, url, form, self._timeout, self._closing)
        except PrometheusError as error:
            raise self._add_server(error, what) from None
        if reply.status != 200:
            raise self._add_server(_build_refusal(reply), what)
        return reply.body

    def _add_server(self, error: PrometheusError, expr: str) -> PrometheusError:
        message = f"{self.url}: {flatten_text(expr)}: {error}"
        if isinstance(error, UnreachableError):
            return UnreachableError(message)
        return PrometheusError(message, error.reason)


def _build_refusal(reply: Reply) -> PrometheusError:
    """The error of a reply other than 200, with the server's own message if it has one."""
    kind, words = _read_error(reply)
    by_status = "server_error" if reply.status >= 500 else "bad_answer"
    reason = _REASONS_BY_TYPE.get(kind) or _REASONS_BY_STATUS.get(reply.status, by_status)
    said = flatten_text(words or reply.reason or "no reason")
    message = f"HTTP {reply.status} ({said}) — {_REMEDIES[reason]}"
    return PrometheusError(message, reason)


def _read_error(reply: Reply) -> tuple[str, str]:
    """`errorType` and `error` of a refusal, empty where the body is not Prometheus's JSON."""
    try:
        document = json.loads(reply.body)
        return str(document.get("errorType", "")), str(document.get("error", ""))
    except (ValueError, AttributeError, RecursionError):
        return "", ""


def _format_number(seconds: float) -> str:
    """Seconds to the millisecond, as the server reads them.

    >>> _format_number(15.0), _format_number(0.5)
    ('15', '0.5')
    """
    return f"{seconds:.3f}".rstrip("0").rstrip(".")

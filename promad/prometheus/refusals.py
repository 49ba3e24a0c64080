"""Why a server refused a request: its own message, a reason for counters, and what to do."""

from __future__ import annotations

import json
import re
from typing import Any

from promad.errors import BusyError, PrometheusError
from promad.prometheus.one_series import flatten_text
from promad.prometheus.transport import Reply

REMEDIES = {
    "bad_data": "fix the expression",
    "bad_request": "check prometheus_url, its scheme (http or https) and any proxy in between",
    "execution": "fix the expression, or reduce the number of series that it reads",
    "timeout": "simplify the expression, or raise prometheus.timeout",
    "too_many_requests": "reduce the query rate, or raise the limit of the server",
    "server_error": "check the server's log",
    "unauthorized": "check prometheus.basic_auth, authorization, oauth2, sigv4 and http_headers",
    "not_found": "check prometheus_url and its path",
    "bad_answer": "check that prometheus_url is a Prometheus-compatible server",
}
_REMEDY_OF_TOO_LARGE = (
    "raise the limit of the server, or reduce the number of series that the expression reads"
)
_REASONS_BY_TYPE = {
    "bad_data": "bad_data",
    "execution": "execution",
    "timeout": "timeout",
    "canceled": "timeout",
    "internal": "server_error",
    "unavailable": "server_error",
    "not_found": "not_found",
}
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
_TOO_LARGE = re.compile(
    r"too (many|much|long|large|big|wide)|exceed|(longer|larger|greater|more|less|shorter) than"
    r"|\blimit|\bmax|memory|resource.exhausted|reduce .*range",
    re.IGNORECASE,
)
_NOT_TOO_LARGE = re.compile(
    r"parse error|expected type|unknown function|deadline|time.?out|timed out", re.IGNORECASE
)
_STATUSES_OF_TOO_LARGE = frozenset({200, 400, 413, 422})
_REASONS_OF_TOO_LARGE = frozenset({"bad_data", "execution", "bad_request", "bad_answer"})
_LARGEST_REFUSAL_BYTES = 2**16
_ERROR_STATUS = re.compile(rb'"status"\s*:\s*"error"')
_MESSAGE_KEYS = ("error", "message", "detail")


class TooLargeError(PrometheusError):
    """The server refused a request by its size; it may succeed over a shorter time."""


def is_refusal(reply: Reply) -> bool:
    """Whether a reply is an error of the HTTP API, with whichever status."""
    if reply.status != 200:
        return True
    if len(reply.body) > _LARGEST_REFUSAL_BYTES or not _ERROR_STATUS.search(reply.body):
        return False
    document = load_object(reply.body)
    return document.get("status") == "error" and _find_type_reason(document) is not None


def build_refusal(reply: Reply) -> PrometheusError:
    """The error of a refusal, with the server's own message if it has one."""
    document = load_object(reply.body)
    reason = _find_type_reason(document) or _find_status_reason(reply, document)
    said = _find_message(reply.body, document)
    shown = flatten_text(said or reply.reason or "no reason")
    by_size = reply.status in _STATUSES_OF_TOO_LARGE and reason in _REASONS_OF_TOO_LARGE
    if by_size and _is_about_size(said):
        return TooLargeError(f"HTTP {reply.status} ({shown}) — {_REMEDY_OF_TOO_LARGE}", reason)
    kind = BusyError if _is_busy(reply, reason) else PrometheusError
    return kind(f"HTTP {reply.status} ({shown}) — {REMEDIES[reason]}", reason)


def may_allow_get(reply: Reply) -> bool:
    """Whether a refusal of POST may come from something that allows GET alone.

    A 403, 404 or 501 with an error of the HTTP API is about the query or its author.
    """
    return reply.status == 405 or (reply.status in {403, 404, 501} and not load_object(reply.body))


def _is_busy(reply: Reply, reason: str) -> bool:
    """Whether the server refuses whatever it is asked; Prometheus also has 503 for a timeout."""
    return reply.status == 429 or (reply.status == 503 and reason != "timeout")


def _is_about_size(said: str) -> bool:
    return bool(_TOO_LARGE.search(said)) and not _NOT_TOO_LARGE.search(said)


def _find_type_reason(document: dict[str, Any]) -> str | None:
    """The reason by `errorType`; VictoriaMetrics puts a status there."""
    kind = str(document.get("errorType", ""))
    by_status = _REASONS_BY_STATUS.get(int(kind)) if kind.isdecimal() else None
    return _REASONS_BY_TYPE.get(kind) or by_status


def _find_status_reason(reply: Reply, document: dict[str, Any]) -> str:
    """The reason by status; a 400 that is not JSON is about the connection, not the query."""
    if reply.status == 400 and reply.body.strip() and not document:
        return "bad_request"
    by_class = "server_error" if reply.status >= 500 else "bad_answer"
    return _REASONS_BY_STATUS.get(reply.status, by_class)


def load_object(body: bytes) -> dict[str, Any]:
    """The JSON object in the body, empty if it is something else."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _find_message(body: bytes, document: dict[str, Any]) -> str:
    """The server's words: from JSON, or a body of plain text; empty for a page."""
    for key in _MESSAGE_KEYS:
        found = document.get(key)
        if isinstance(found, dict):  # Google: {"error": {"message": ...}}
            found = found.get("message")
        if found:
            return str(found)
    text = body[:_LARGEST_REFUSAL_BYTES].decode(errors="replace").strip()
    return "" if document or text.startswith(("<", "{", "[")) else text

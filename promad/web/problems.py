"""Refusals: every error is answered with `{"detail": "<one sentence>"}`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from promad.errors import DataError, escape_control_characters
from promad.web.headers import HEADERS
from promad.web.schemas import Problem

log = structlog.get_logger()

_VALUE_LETTERS = 40
_NAME_LETTERS = 100
_NAMES_LISTED = 5


def respond_with_problem(
    status: int, detail: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The answer that refuses a request. The detail may quote it, so it is made printable."""
    problem = Problem(detail=escape_control_characters(detail))
    return JSONResponse(problem.model_dump(), status, headers)


async def handle_refusal(request: Request, error: HTTPException) -> Response:
    """The detail of a refusal; a status without one gets a sentence."""
    detail = error.detail
    if detail == HTTPStatus(error.status_code).phrase:
        detail = _describe_status(error.status_code, request, error.headers or {}) or detail
    return respond_with_problem(error.status_code, detail, error.headers)


def _describe_status(status: int, request: Request, headers: Mapping[str, str]) -> str | None:
    path = request.url.path[: 2 * _VALUE_LETTERS]
    if status == 404:
        docs = f"{request.scope.get('root_path', '')}/docs"
        return f"{path} does not exist — GET {docs} lists all paths"
    if status == 405:
        return f"{path} does not support {request.method} — use {headers.get('Allow', 'GET')}"
    return None


async def handle_invalid_parameter(request: Request, error: RequestValidationError) -> Response:
    """The first parameter that is invalid."""
    first = error.errors()[0]
    return respond_with_problem(400, describe_invalid({**first, "loc": first["loc"][1:]}))


async def handle_unreadable_data(request: Request, error: DataError) -> Response:
    """The file that the answer needs and that cannot be read now."""
    log.error("request failed", path=request.url.path, error=str(error))
    return respond_with_problem(503, f"{error}", {"Retry-After": "5"})


async def handle_unexpected_error(request: Request, error: Exception) -> Response:
    """The type of an unexpected error; the server logs its message."""
    detail = f"internal error ({type(error).__name__}) — see the log of promad"
    return respond_with_problem(500, detail, HEADERS)


HANDLERS: dict[int | type[Exception], Any] = {
    HTTPException: handle_refusal,
    RequestValidationError: handle_invalid_parameter,
    DataError: handle_unreadable_data,
    Exception: handle_unexpected_error,
}
"""The handler of each kind of error."""


def describe_invalid(error: Mapping[str, Any]) -> str:
    """One of pydantic's errors as a sentence: the place, its value and what is expected.

    >>> describe_invalid({"type": "float_type", "loc": ("data", 12, 3), "input": "abc",
    ...                   "msg": "Input should be a valid number"})
    'data[12][3] is "abc" — it should be a valid number'
    """
    kind, context = error["type"], error.get("ctx", {})
    place = _format_location(error["loc"])
    if kind == "json_invalid":
        return f"the body is not valid JSON — {context['error']}"
    if kind == "missing":
        return f"{place} is required — GET /docs describes the request"
    if kind in {"too_short", "too_long"}:
        bound = context.get("min_length", context.get("max_length"))
        limit = "at least" if kind == "too_short" else "at most"
        return (
            f"{place} has {format_count(context['actual_length'], 'item')} — send {limit} {bound}"
        )
    if kind == "value_error":
        reason = str(context["error"])
        return f"{place} is {format_value(error['input'])}, {reason}" if error["loc"] else reason
    return f"{place} is {format_value(error['input'])} — {error['msg'].replace('Input', 'it')}"


def _format_location(location: Sequence[str | int]) -> str:
    """`data[12][3]` of `("data", 12, 3)`."""
    first, *others = location or ("the body",)
    return f"{first}{''.join(f'[{other}]' for other in others)}"


def format_count(count: int, noun: str) -> str:
    """A number of things.

    >>> format_count(1, "row"), format_count(2, "row")
    ('1 row', '2 rows')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


def list_some(names: Sequence[str], where: str = "") -> str:
    """The first five names, cut short, then the number of the others and `where` to find them.

    >>> list_some(["a", "b", "c", "d", "e", "f", "g"], ", see below")
    'a, b, c, d, e and 2 more, see below'
    """
    listed = ", ".join(name[:_NAME_LETTERS] for name in names[:_NAMES_LISTED])
    more = len(names) - _NAMES_LISTED
    return f"{listed} and {more} more{where}" if more > 0 else listed


def format_value(value: Any) -> str:
    """A value from a request as JSON, cut short.

    >>> format_value("abc"), format_value(True), format_value(float("nan")), format_value([[1.0]])
    ('"abc"', 'true', 'NaN', 'a list')
    """
    if isinstance(value, list):
        return "a list"
    if isinstance(value, Mapping):
        return "an object"
    text = json.dumps(value[: _VALUE_LETTERS + 1] if isinstance(value, str) else value)
    return text if len(text) <= _VALUE_LETTERS else f"{text[:_VALUE_LETTERS]}…"

"""Refusals: whatever goes wrong is answered with `{"detail": "<one sentence>"}`."""

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

from promad.errors import DataError
from promad.web.headers import HEADERS
from promad.web.schemas import Problem

log = structlog.get_logger()

_SHOWN_LETTERS = 40
_NAME_LETTERS = 100
_NAMED = 5


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The answer that refuses a request."""
    return JSONResponse(Problem(detail=detail).model_dump(), status, headers)


async def refused(request: Request, error: HTTPException) -> Response:
    """What was refused on purpose; what only has a number is put into words."""
    detail = error.detail
    if detail == HTTPStatus(error.status_code).phrase:
        detail = _in_words(error.status_code, request, error.headers or {}) or detail
    return problem(error.status_code, detail, error.headers)


def _in_words(status: int, request: Request, headers: Mapping[str, str]) -> str | None:
    path = request.url.path[: 2 * _SHOWN_LETTERS]
    if status == 404:
        return f"there is nothing at {path} — GET /docs lists what there is"
    if status == 405:
        return f"{path} does not take {request.method} — use {headers.get('Allow', 'GET')}"
    return None


async def invalid(request: Request, error: RequestValidationError) -> Response:
    """A parameter that is not what it should be."""
    first = error.errors()[0]
    return problem(400, sentence({**first, "loc": first["loc"][1:]}))


async def unreadable(request: Request, error: DataError) -> Response:
    """A file that the answer needs cannot be read now."""
    log.error("not answered", path=request.url.path, error=str(error))
    return problem(503, f"{error}", {"Retry-After": "5"})


async def failed(request: Request, error: Exception) -> Response:
    """An error that nobody foresaw; it is logged where the server logs."""
    detail = f"promad failed to answer ({type(error).__name__}) — its log says more"
    return problem(500, detail, HEADERS)


HANDLERS: dict[int | type[Exception], Any] = {
    HTTPException: refused,
    RequestValidationError: invalid,
    DataError: unreadable,
    Exception: failed,
}
"""Which error is answered by what."""


def sentence(error: Mapping[str, Any]) -> str:
    """One of pydantic's errors as a sentence: which place, what is there, what should be.

    >>> sentence({"type": "float_type", "loc": ("data", 12, 3), "input": "abc",
    ...           "msg": "Input should be a valid number"})
    'data[12][3] is "abc" — it should be a valid number'
    """
    kind, place, context = error["type"], _place(error["loc"]), error.get("ctx", {})
    if kind == "json_invalid":
        return f"the body is not JSON — {context['error']}"
    if kind == "missing":
        return f"{place} is missing — GET /docs says what to send"
    if kind in {"too_short", "too_long"}:
        bound = context.get("min_length", context.get("max_length"))
        most = "least" if kind == "too_short" else "most"
        return f"{place} has {context['actual_length']} entries — at {most} {bound} are wanted"
    if kind == "value_error":
        said = str(context["error"])
        return f"{place} is {shown(error['input'])}, {said}" if error["loc"] else said
    return f"{place} is {shown(error['input'])} — {error['msg'].replace('Input', 'it')}"


def _place(location: Sequence[str | int]) -> str:
    """`data[12][3]` of `("data", 12, 3)`."""
    first, *others = location or ("the body",)
    return f"{first}{''.join(f'[{other}]' for other in others)}"


def some(names: Sequence[str], rest: str = "") -> str:
    """The first five names, cut short, and how many more there are; `rest` says where.

    >>> some(["a", "b", "c", "d", "e", "f", "g"], ", see below")
    'a, b, c, d, e and 2 more, see below'
    """
    named = ", ".join(name[:_NAME_LETTERS] for name in names[:_NAMED])
    more = len(names) - _NAMED
    return f"{named} and {more} more{rest}" if more > 0 else named


def shown(value: Any) -> str:
    """A value from a request as JSON has it, cut short.

    >>> shown("abc"), shown(True), shown(float("nan")), shown([[1.0]])
    ('"abc"', 'true', 'NaN', 'a list')
    """
    if isinstance(value, list):
        return "a list"
    if isinstance(value, Mapping):
        return "an object"
    text = json.dumps(value[: _SHOWN_LETTERS + 1] if isinstance(value, str) else value)
    return text if len(text) <= _SHOWN_LETTERS else f"{text[:_SHOWN_LETTERS]}…"

"""Faults of a server: what a request gets in place of its answer, or the answer spoilt."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Points = Sequence[tuple[float, float]]
Series = Sequence[tuple[Mapping[str, str], Points]]


@dataclass(frozen=True)
class Reply:
    """Bytes to send: at once, then one by one until the client leaves; then hang up or not."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    cut: bool = False
    drips: bool = False
    silent: bool = False
    hangs_up: bool = False


def write_matrix(series: Series, **more: Any) -> bytes:
    """A range answer as Prometheus writes it."""
    result = [
        {"metric": dict(labels), "values": [[at, _write_value(value)] for at, value in points]}
        for labels, points in series
    ]
    document = {"status": "success", "data": {"resultType": "matrix", "result": result}, **more}
    return json.dumps(document, separators=(",", ":")).encode()


def _write_value(value: float) -> str:
    return {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}.get(repr(value), repr(value))


def _refuse(status: int, body: bytes, *headers: tuple[str, str]) -> Callable[[bytes], Reply]:
    return lambda _: Reply(status, body, headers)


def _say(body: bytes, *headers: tuple[str, str]) -> Callable[[bytes], Reply]:
    return lambda _: Reply(200, body, headers)


def _api_error(kind: str, message: str) -> bytes:
    return json.dumps({"status": "error", "errorType": kind, "error": message}).encode()


_PAGE = b"<!doctype html><html><body><h1>Welcome</h1></body></html>"

LOST: Mapping[str, Callable[[bytes], Reply]] = {
    "hangs up": lambda _: Reply(hangs_up=True),
    "drips": lambda body: Reply(body=body, drips=True),
    "stalls": lambda _: Reply(silent=True),
    "busy": _refuse(429, b"slow down", ("Retry-After", "3600")),
    "busy for no time": _refuse(429, b"slow down", ("Retry-After", "0")),
    "busy by page": _refuse(503, _PAGE),
    "internal error": _refuse(500, _api_error("internal", "no such shard")),
    "bad gateway": _refuse(502, _PAGE),
    "bad request": _refuse(400, _api_error("bad_data", "parse error \x1b[31m at char 3")),
    "unauthorized": _refuse(401, b""),
    "forbidden": _refuse(403, _PAGE),
    "not found": _refuse(404, _PAGE),
    "unprocessable": _refuse(422, _api_error("execution", "many-to-many matching")),
    "page": _say(_PAGE),
    "cut JSON": lambda body: Reply(body=body[: len(body) // 2]),
    "cut body": lambda body: Reply(body=body, cut=True),
    "null": _say(b"null"),
    "number": _say(b"5"),
    "list": _say(b"[]"),
    "nothing at all": _say(b""),
    "no data": _say(b'{"status":"success"}'),
    "error with 200": _say(_api_error("timeout", "query timed out")),
    "deep JSON": _say(b"[" * 100_000),
    "not UTF-8": _say(b'{"status":"success","data":"\xff\xfe"}'),
    "not gzip": lambda body: Reply(200, body, (("Content-Encoding", "gzip"),)),
    "redirect nowhere": _refuse(302, b"", ("Location", "http://[::1")),
    "redirect elsewhere": _refuse(302, b"", ("Location", "http://other.example/")),
    "redirect without target": _refuse(302, b""),
    "many empty lists": _say(b"[" + b"[]," * 200_000 + b"[]]"),
}
"""Faults after which nothing was answered, by name."""


def spoil_by_warning(series: Series) -> bytes:
    return write_matrix(series, warnings=["a store did not answer"])


def spoil_by_second_series(series: Series) -> bytes:
    return write_matrix([({**labels, "copy": str(n)}, p) for labels, p in series for n in (1, 2)])


def spoil_by_contradiction(series: Series) -> bytes:
    changed = [(labels, [(at, value + 1) for at, value in points]) for labels, points in series]
    return write_matrix([*series, *changed])


def spoil_by_type(series: Series) -> bytes:
    points = [[at, "many"] for _, points in series for at, _ in points]
    result = [{"metric": {}, "values": points}]
    data = {"resultType": "matrix", "result": result}
    return json.dumps({"status": "success", "data": data}).encode()


REFUSED: Mapping[str, Callable[[Series], bytes]] = {
    "partial": spoil_by_warning,
    "two series": spoil_by_second_series,
    "contradiction": spoil_by_contradiction,
    "words for numbers": spoil_by_type,
}
"""Answers with values that must not be taken."""

EMPTY = ("no series", "null for no series", "NaN", "+Inf", "newest sample missing")
"""Answers that are taken, though they lack the newest sample."""

HUGE = {"1e200": 1e200, "sentinel": -18e18}
"""Values that are taken as they are."""

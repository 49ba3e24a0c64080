"""Limits on the size and duration of a request body, and on the number of requests at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

MOST_BYTES = 8 * 2**20
BODY_SECONDS = 10.0


async def read_json_body(request: Request) -> bytearray:
    """The body of a request; reading stops at the size limit.

    Raises:
        HTTPException: 415 if it is not JSON, 413 if it is too large, 408 if it takes too long,
            400 if the client disconnects.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise HTTPException(
            415, f"content type is {content_type[:40] or 'missing'} — send application/json"
        )
    return await read_body(request, MOST_BYTES, "rows")


async def read_body(request: Request, most_bytes: int, parts: str) -> bytearray:
    """The body of a request; reading stops at the size limit.

    Args:
        parts: of which to send fewer if it is too large, for the message.

    Raises:
        HTTPException: 413 if it is too large, 408 if it takes too long, 400 if the client
            disconnects.
    """
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _read_bounded(request, most_bytes, parts)
    except TimeoutError:
        raise HTTPException(
            408, f"reading the body took longer than {BODY_SECONDS:g} s — send fewer {parts}"
        ) from None
    except ClientDisconnect:
        raise HTTPException(400, "the body is incomplete — send all of it") from None


async def _read_bounded(request: Request, most: int, parts: str) -> bytearray:
    # the server accepts digits only
    _refuse_beyond(int(request.headers.get("content-length", 0)), most, parts)
    body = bytearray()
    async for part in request.stream():
        body += part
        _refuse_beyond(len(body), most, parts)
    return body


def _refuse_beyond(size: int, most: int, parts: str) -> None:
    if size > most:
        raise HTTPException(
            413, f"the body is larger than {most // 2**20} MiB — send fewer {parts} per request"
        )


class RequestQueue:
    """Limits requests: `at_once` run, `waiting` more wait, and all others are refused."""

    def __init__(
        self, at_once: int, waiting: int, kind: str = "scoring", refusal: int = 503
    ) -> None:
        self._places = at_once + waiting
        self._running = asyncio.Semaphore(at_once)
        self._kind = kind
        self._refusal = refusal

    @asynccontextmanager
    async def join(self) -> AsyncIterator[asyncio.Semaphore]:
        """A place in the queue until the block ends; yields the semaphore to run under.

        Raises:
            HTTPException: 503, or another status, if the queue is full.
        """
        if self._places == 0:
            raise HTTPException(
                self._refusal, f"too many {self._kind} requests — retry later", {"Retry-After": "1"}
            )
        self._places -= 1
        try:
            yield self._running
        finally:
            self._places += 1

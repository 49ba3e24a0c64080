"""Limits: how large a body may be, how long it may take to arrive, and who has to wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

MOST_BYTES = 8 * 2**20
BODY_SECONDS = 10.0


async def json_body(request: Request) -> bytes:
    """The whole body of a request; no more of it is kept than may be sent.

    Raises:
        HTTPException: 415 if it is not JSON, 413 if it is too large, 408 if it takes too long.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise HTTPException(
            415, f"the body is {content_type[:40] or 'of no type'} — send application/json"
        )
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _bounded(request)
    except TimeoutError:
        raise HTTPException(
            408, f"the body took longer than {BODY_SECONDS:g} s to arrive — send fewer rows"
        ) from None
    except ClientDisconnect:
        raise HTTPException(400, "the body ended early — send all of it") from None


async def _bounded(request: Request) -> bytes:
    _refuse_beyond(int(request.headers.get("content-length", 0)))  # the server lets digits through
    body = bytearray()
    async for part in request.stream():
        body += part
        _refuse_beyond(len(body))
    return bytes(body)


def _refuse_beyond(size: int) -> None:
    if size > MOST_BYTES:
        raise HTTPException(
            413, f"the body is larger than {MOST_BYTES // 2**20} MiB — send fewer rows at a time"
        )


class Turns:
    """A few at work at once, a few in line behind them; whoever comes then is sent away."""

    def __init__(self, at_once: int, in_line: int) -> None:
        self._places = at_once + in_line
        self._turns = asyncio.Semaphore(at_once)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[asyncio.Semaphore]:
        """A place in line for as long as the block lasts; yields what to wait for a turn with.

        Raises:
            HTTPException: 503 if the line is full.
        """
        if self._places == 0:
            raise HTTPException(
                503, "too many batches are being scored — try again", {"Retry-After": "1"}
            )
        self._places -= 1
        try:
            yield self._turns
        finally:
            self._places += 1

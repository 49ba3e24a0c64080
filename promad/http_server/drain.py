"""Reads the rest of a request that is answered before its body is complete.

A server that closes a connection with unread data resets it, and the client may never see the
answer.
"""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

DRAIN_SECONDS = 5.0
DRAIN_BYTES = 64 * 2**20


class DrainMiddleware:
    """Sends each answer, then discards the rest of the body, within limits, and ends the response.

    Clients that send all before they read see the answer, too.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or not _has_body(scope):
            await self._app(scope, receive, send)
            return
        complete = _waits_for_continue(scope)  # then nothing was sent that had to be read

        async def receive_and_note() -> Message:
            nonlocal complete
            message = await receive()
            complete = not message.get("more_body", False)
            return message

        async def send_and_drain(message: Message) -> None:
            ends = message["type"] == "http.response.body" and not message.get("more_body", False)
            if complete or not ends:
                await send(message)
                return
            await send({**message, "more_body": True})
            await _discard_body(receive)
            await send({"type": "http.response.body", "body": b""})

        await self._app(scope, receive_and_note, send_and_drain)


def _has_body(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


def _waits_for_continue(scope: Scope) -> bool:
    return Headers(scope=scope).get("expect", "").lower() == "100-continue"


async def _discard_body(receive: Receive) -> None:
    """Read to the end of the body, or up to the limits."""
    read, more = 0, True
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            while more and read < DRAIN_BYTES:
                message = await receive()
                more = message.get("more_body", False)
                read += len(message.get("body", b""))
    except TimeoutError:
        return

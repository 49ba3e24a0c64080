"""What answers `POST /api/v1/write`: samples by remote write, as of Prometheus.

A sender tries again after 429 and 5xx, and never after any other status. So what can never be taken
is answered with 400, 413 or 415, and what may be later with 429 or 503.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from promad.detection.receiving import DECODERS, NotReadyError, Receiver, Written
from promad.prometheus.received.decoded import MOST_BYTES
from promad.prometheus.received.wire import MalformedError, OversizedError
from promad.web.limits import RequestQueue, read_body
from promad.web.origin import refuse_other_sites

WAITING = 16
"""Requests that wait while one is read: they need 64 MiB at most."""

_MEDIA_TYPE = "application/x-protobuf"
_FIRST = next(iter(DECODERS))
_SECOND_VERSION = "io.prometheus.write.v2."


Endpoint = Callable[[Request], Awaitable[Response]]


def make_endpoint(receiver: Receiver) -> Endpoint:
    """What answers requests of senders."""
    queue = RequestQueue(1, WAITING, "remote-write", 429)

    async def post_samples(request: Request) -> Response:
        try:
            response = await _take(request, receiver, queue)
        except HTTPException as error:
            receiver.metrics.count_request(error.status_code)
            raise
        receiver.metrics.count_request(response.status_code)
        return response

    return post_samples


async def _take(request: Request, receiver: Receiver, queue: RequestQueue) -> Response:
    refuse_other_sites(request, "remote_write of a Prometheus server")
    message = _negotiate(request)
    async with queue.join() as turn:
        body = await read_body(request, MOST_BYTES, "samples")
        async with turn:
            written = await run_in_threadpool(_place, receiver, bytes(body), message)
    headers = _count_written(written) if message.startswith(_SECOND_VERSION) else {}
    if written.problems:
        return PlainTextResponse(f"{written.problems}\n", 400, headers)
    return Response(status_code=204, headers=headers)


def _place(receiver: Receiver, body: bytes, message: str) -> Written:
    try:
        return receiver.take(body, message)
    except NotReadyError as error:
        raise HTTPException(503, f"{error} — retry later", {"Retry-After": "5"}) from None
    except OversizedError as error:
        raise HTTPException(413, f"{error} — send fewer samples per request") from None
    except MalformedError as error:
        raise HTTPException(400, f"malformed request: {error}") from None


def _negotiate(request: Request) -> str:
    """The name of the message that is sent; a sender of the first version need not say.

    Raises:
        HTTPException: 415 if it is none that can be read.
    """
    encoding = request.headers.get("content-encoding", "snappy")
    if encoding.lower() != "snappy":
        raise HTTPException(415, f"content encoding is {encoding[:40]} — send snappy")
    media, *parameters = request.headers.get("content-type", _MEDIA_TYPE).split(";")
    named = dict(each.strip().partition("=")[::2] for each in parameters)
    message = named.get("proto", _FIRST).strip('"')
    if media.strip().lower() != _MEDIA_TYPE or message not in DECODERS:
        accepted = ", ".join(f"{_MEDIA_TYPE};proto={each}" for each in DECODERS)
        sent = request.headers.get("content-type", "")[:80]
        raise HTTPException(415, f"content type is {sent} — send one of {accepted}")
    return message


def _count_written(written: Written) -> dict[str, str]:
    """What a sender of the second version reads: how much was used of each kind."""
    counts = {"Samples": written.samples, "Histograms": 0, "Exemplars": 0}
    return {
        f"X-Prometheus-Remote-Write-{kind}-Written": str(count) for kind, count in counts.items()
    }

"""`/metrics`: the daemon's registry, after what detectors of many groups have rendered."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import parse_qs

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from promad.exposition import AnySnapshot, merge_fleets
from promad.exposition.segments import Segment, join_compressed

_SENT_AT_ONCE = 1 << 16
"""Bytes that are worth sending by themselves; smaller parts are put together."""


def answer_scrape(
    registry: CollectorRegistry, snapshots: Sequence[AnySnapshot], request: Request
) -> Response:
    """All metrics, or those that parameters `name[]` choose, in the format that was asked for."""
    chosen = parse_qs(request.url.query).get("name[]", [])
    selected = registry.restricted_registry(chosen) if chosen else registry
    encode, content_type = choose_encoder(_read_accept(request))
    openmetrics = content_type.startswith("application/openmetrics-text")
    fleets = merge_fleets(snapshots, openmetrics, chosen)
    headers = {"content-type": content_type}
    if not fleets:
        return Response(encode(selected), media_type=None, headers=headers)
    segments = [*fleets, Segment(encode(selected))]  # last, as OpenMetrics ends with it
    headers["vary"] = "Accept-Encoding"
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["content-encoding"] = "gzip"
        return PartsResponse(join_compressed(segments), headers)
    return PartsResponse([segment.plain for segment in segments], headers)


def _read_accept(request: Request) -> str:
    """The formats that a scraper accepts; rendered names are never escaped by dots."""
    return re.sub(r"escaping=dots", "escaping=underscores", request.headers.get("accept", ""))


class PartsResponse(Response):
    """Sends its parts one after the other, without copying the large ones."""

    def __init__(self, parts: Sequence[bytes], headers: dict[str, str]) -> None:
        length = str(sum(map(len, parts)))
        super().__init__(None, media_type=None, headers={**headers, "content-length": length})
        self._parts = gather_parts(parts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        for part in self._parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def gather_parts(parts: Sequence[bytes]) -> list[bytes]:
    """The same bytes in fewer parts: small ones next to each other become one."""
    gathered: list[bytes] = []
    waiting: list[bytes] = []
    for part in parts:
        if len(part) < _SENT_AT_ONCE:
            waiting.append(part)
            continue
        gathered += [b"".join(waiting), part]
        waiting = []
    return [part for part in (*gathered, b"".join(waiting)) if part]

"""`/metrics`: the daemon's registry, after what detectors of many groups have rendered."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs
from weakref import ReferenceType, ref

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from promad.exposition import AnySnapshot, merge_fleets
from promad.exposition.segments import Joined, Segment, join_compressed

_SENT_AT_ONCE = 1 << 16
"""Bytes that are worth sending by themselves; smaller parts are put together."""


@dataclass(frozen=True, eq=False)
class _Prepared:
    """What detectors of many groups have rendered at one tick, as every scraper reads it.

    Attributes:
        snapshots: references that keep none of them alive.
    """

    snapshots: Sequence[ReferenceType[AnySnapshot]]
    openmetrics: bool
    joined: Joined
    plain: Sequence[bytes]

    def is_of(self, snapshots: Sequence[AnySnapshot], openmetrics: bool) -> bool:
        """Whether it was prepared for these very snapshots, and this format."""
        return (
            openmetrics == self.openmetrics
            and len(snapshots) == len(self.snapshots)
            and all(kept() is shot for kept, shot in zip(self.snapshots, snapshots, strict=True))
        )


class ScrapeAnswers:
    """The answers to scrapes; what is the same for all scrapers after a tick is prepared once.

    May be used from several threads.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._prepared: _Prepared | None = None

    def answer(self, snapshots: Sequence[AnySnapshot], request: Request) -> Response:
        """All metrics, or those that parameters `name[]` choose, in the format asked for."""
        chosen = parse_qs(request.url.query).get("name[]", [])
        selected = self._registry.restricted_registry(chosen) if chosen else self._registry
        encode, content_type = choose_encoder(_read_accept(request))
        openmetrics = content_type.startswith("application/openmetrics-text")
        fleets = self._prepare(snapshots, openmetrics, chosen)
        headers = {"content-type": content_type}
        if not fleets.plain:
            return Response(encode(selected), media_type=None, headers=headers)
        own = Segment(encode(selected))  # last, as OpenMetrics ends with it
        headers["vary"] = "Accept-Encoding"
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers["content-encoding"] = "gzip"
            return PartsResponse(join_compressed([fleets.joined, own]), headers)
        return PartsResponse([*fleets.plain, own.plain], headers)

    def _prepare(
        self, snapshots: Sequence[AnySnapshot], openmetrics: bool, chosen: Sequence[str]
    ) -> _Prepared:
        """What was prepared for these very snapshots, or is now."""
        known = self._prepared
        if known is not None and not chosen and known.is_of(snapshots, openmetrics):
            return known
        segments = merge_fleets(snapshots, openmetrics, chosen)
        plain = gather_parts([segment.plain for segment in segments])
        prepared = _Prepared([*map(ref, snapshots)], openmetrics, Joined(segments), plain)
        if not chosen:
            self._prepared = prepared
        return prepared


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

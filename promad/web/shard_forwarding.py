"""`/api/v1/shards/{shard}/…`: some requests about one group or incident, answered by its shard.

Each route has the parameters and the response of the route that it forwards to. Of the own shard it
is answered here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from promad.prometheus.transport import Reply
from promad.shards import Peers, SilentError
from promad.shards.peer import describe_refusal, read_answer, read_detail
from promad.web import events_api, groups_api, incidents_api, markers_api, peers_api
from promad.web.schemas import (
    EventPage,
    ExplanationAnswer,
    GroupDetail,
    HistoryAnswer,
    IncidentDetail,
    MarkerList,
    PeersAnswer,
    Problem,
)
from promad.web.shards_api import SHARED, OtherPeers

_GATEWAY_PROBLEMS: dict[int | str, dict[str, Any]] = {
    502: {"model": Problem, "description": "The shard did not respond, or not as promad does."},
    504: {"model": Problem, "description": "The shard did not respond in time."},
}
_OF_THIS_DAEMON = frozenset({401, 403, 407})
"""Statuses about the credentials of this daemon, not those of its client."""


@dataclass(frozen=True)
class Endpoint:
    """One request that is forwarded.

    Attributes:
        path: below `/api/v1/`, with parameters in braces.
        answer: what answers it here.
    """

    path: str
    answer: Callable[..., Any]
    model: type[BaseModel]


ENDPOINTS = (
    Endpoint("group", groups_api.get_group, GroupDetail),
    Endpoint("peers", peers_api.get_peers, PeersAnswer),
    Endpoint("history", groups_api.get_history, HistoryAnswer),
    Endpoint("explain", groups_api.get_explanation, ExplanationAnswer),
    Endpoint("events", events_api.list_events, EventPage),
    Endpoint("markers", markers_api.list_markers, MarkerList),
    Endpoint("incidents/{id}", incidents_api.get_incident, IncidentDetail),
)
"""All requests that are forwarded; they only read."""


def create_forwarding_router() -> APIRouter:
    """A route for each of `ENDPOINTS`."""
    router = APIRouter(prefix="/api/v1/shards", **SHARED)
    for endpoint in ENDPOINTS:
        router.add_api_route(
            f"/{{shard}}/{endpoint.path}",
            _make_answer(endpoint),
            name=f"shard_{endpoint.path.replace('s/{id}', '')}",
            summary=f"Forward to `/api/v1/{endpoint.path}` of a shard",
            description="The parameters and the response are those of the route of that shard.",
            response_model=endpoint.model,
            responses=_GATEWAY_PROBLEMS,
        )
    return router


def _make_answer(endpoint: Endpoint) -> Callable[..., Any]:
    """What answers the route: FastAPI reads its parameters from its signature."""

    def answer(request: Request, peers: Peers, shard: int, **given: Any) -> Any:
        if not 0 <= shard < peers.share.count:
            raise HTTPException(
                404,
                f"there is no shard {shard} of {peers.share.count} — GET /api/v1/shards lists all",
            )
        if shard == peers.share.number:
            return endpoint.answer(**given)
        return _forward(peers, shard, request, endpoint)

    own = (
        inspect.Parameter("request", inspect.Parameter.KEYWORD_ONLY, annotation=Request),
        inspect.Parameter("peers", inspect.Parameter.KEYWORD_ONLY, annotation=OtherPeers),
        inspect.Parameter("shard", inspect.Parameter.KEYWORD_ONLY, annotation=int),
    )
    others = [
        each.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for each in inspect.signature(endpoint.answer, eval_str=True).parameters.values()
    ]
    answer.__signature__ = inspect.Signature([*own, *others])  # type: ignore[attr-defined]
    return answer


def _forward(peers: Peers, shard: int, request: Request, endpoint: Endpoint) -> Response:
    """The answer of another shard; bytes as they are, of a newer promad with all that it has."""
    path = endpoint.path.format(
        **{name: quote(str(value), safe="") for name, value in request.path_params.items()}
    )
    query = urlencode(request.query_params.multi_items())
    try:
        return peers.ask(
            shard, f"api/v1/{path}?{query}", lambda reply: _pass_on(reply, endpoint.model)
        )
    except SilentError as error:
        raise HTTPException(
            HTTPStatus.GATEWAY_TIMEOUT if error.timed_out else HTTPStatus.BAD_GATEWAY, f"{error}"
        ) from None


def _pass_on(reply: Reply, model: type[BaseModel]) -> Response:
    """The response to the client, or a refusal with the other side's status.

    Raises:
        SilentError: if it is no answer of promad, or a refusal of this daemon's credentials.
        HTTPException: if it is a refusal.
    """
    if reply.status == HTTPStatus.OK:
        read_answer(reply, model)
        return Response(reply.body, media_type="application/json")
    detail = read_detail(reply)
    if reply.status < HTTPStatus.BAD_REQUEST or reply.status in _OF_THIS_DAEMON or detail is None:
        raise SilentError(describe_refusal(reply))
    raise HTTPException(reply.status, detail)

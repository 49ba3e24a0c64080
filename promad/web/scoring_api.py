"""`POST /score`: samples in, anomalies and what they are made of out."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from promad.web.limits import Turns, json_body
from promad.web.lookup import REFUSALS, AtWork
from promad.web.schemas import Problem, ScoreAnswer, ScoreRequest
from promad.web.scoring import answer_to

router = APIRouter()

_REFUSED = {
    400: "The body is no such request, and where not.",
    404: "There is no such group.",
    408: "The body took too long to arrive.",
    413: "The body is too large.",
    415: "The body is not application/json.",
    422: "The bundle cannot score these samples, and why not.",
}
_BODY = {
    "required": True,
    "content": {"application/json": {"schema": ScoreRequest.model_json_schema()}},
}


@router.post(
    "/score",
    response_model=ScoreAnswer,
    openapi_extra={"requestBody": _BODY},
    responses={
        **{status: {"model": Problem, "description": why} for status, why in _REFUSED.items()},
        **REFUSALS,
    },
    tags=["Scoring"],
)
async def score(request: Request, at_work: AtWork) -> Response:
    """Score a batch of samples by a bundle at work; the daemon remembers nothing of it.

    Each score depends on the window that ends at its row and a few rows before, as in the daemon.
    There is no hysteresis: a segment is every run of rows above the threshold.
    """
    turns: Turns = request.app.state.turns
    async with turns.place() as turn:
        body = await json_body(request)
        async with turn:
            content = await run_in_threadpool(lambda: answer_to(body, at_work).model_dump_json())
    return Response(content, media_type="application/json")

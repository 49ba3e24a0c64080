"""`POST /score`: anomalies in a batch of samples, and their attribution."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from promad.web.limits import RequestQueue, read_json_body
from promad.web.lookup import REFUSALS, Running
from promad.web.schemas import Problem, ScoreAnswer, ScoreRequest
from promad.web.scoring_process import Scorer

router = APIRouter()

_REFUSED = {
    400: "The body is not a valid request; `detail` names the first invalid value.",
    404: "No group has this name.",
    408: "Reading the body took too long.",
    413: "The body is too large.",
    415: "The body is not application/json.",
    422: "The bundle cannot score these samples; `detail` gives the reason.",
}
_BODY = {
    "required": True,
    "content": {"application/json": {"schema": ScoreRequest.model_json_schema()}},
}


@router.post(
    "/score",
    name="score",
    response_model=ScoreAnswer,
    openapi_extra={"requestBody": _BODY},
    responses={
        **{status: {"model": Problem, "description": why} for status, why in _REFUSED.items()},
        **REFUSALS,
    },
    tags=["Scoring"],
)
async def post_score(request: Request, running: Running) -> Response:
    """Score a batch of samples with a loaded bundle. The state of the daemon does not change.

    As in the daemon, each score depends on the window that ends at its row and on a few rows
    before. There is no hysteresis: each run of rows above the threshold is a segment.
    """
    queue: RequestQueue = request.app.state.scoring_queue
    score: Scorer = request.app.state.score
    async with queue.join() as turn:
        body = await read_json_body(request)
        async with turn:
            content = await run_in_threadpool(score, body, running)
    return Response(content, media_type="application/json")

"""`/api/v1/groups`, and one group's standing, history and explanation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

import promad
from promad.config.durations import format_instant
from promad.events.verdict import State, Verdict
from promad.web.answers import explanation_answer, group_answer, group_detail, history_answer
from promad.web.lookup import REFUSALS, AtWork, GroupParameter, Time, Watched, chosen, watched
from promad.web.problems import some
from promad.web.schemas import (
    ExplanationAnswer,
    GroupAnswer,
    GroupDetail,
    GroupList,
    HistoryAnswer,
)

router = APIRouter(prefix="/api/v1", responses=REFUSALS, tags=["Groups"])

_WORST_FIRST = (State.ANOMALOUS, State.BLIND, State.WARMING, State.OK)


@router.get("/groups")
def groups(
    request: Request,
    at_work: AtWork,
    state: State | None = None,
    limit: Annotated[int | None, Query(ge=1)] = None,
) -> GroupList:
    """Every group, worst first."""
    answers = [
        group_answer(group)
        for group in watched(at_work)
        if state in {None, group.status.verdict.state}
    ]
    answers.sort(key=_badness)
    now = request.app.state.now()
    return GroupList(now=now, version=promad.__version__, groups=answers[:limit])


def _badness(group: GroupAnswer) -> tuple[int, float, str]:
    """Scores in fifths of the threshold: small ones do not change places at every look."""
    score = -math.inf if group.score is None else group.score
    coarse = math.floor(5 * score) if 0 <= score < 1 else score
    return _WORST_FIRST.index(group.state), -coarse, group.group


@router.get("/group")
def group(at_work: AtWork, name: GroupParameter = None) -> GroupDetail:
    """One group, and what its detector is made of."""
    return group_detail(chosen(at_work, name))


@router.get("/history", response_model=HistoryAnswer)
def history(
    at_work: AtWork,
    name: GroupParameter = None,
    start: Time | None = None,
    end: Time | None = None,
    features: Annotated[
        str | None, Query(description="only these, with commas between; none if empty")
    ] = None,
) -> Response:
    """The newest samples of a group, as far as they are kept in memory."""
    group = chosen(at_work, name)
    recent = group.ring.between(
        -math.inf if start is None else start, math.inf if end is None else end
    )
    wanted = recent.features if features is None else _named(features, recent.features)
    step = group.served.detector.preparation.step
    answer = history_answer(group.name, step, recent, wanted)
    return Response(answer.model_dump_json(), media_type="application/json")


def _named(features: str, known: Sequence[str]) -> set[str]:
    names = set(features.split(",")) - {""}
    if unknown := sorted(names - set(known)):
        raise HTTPException(
            404, f"{unknown[0][:100]} is no feature of the group — there are {some(known)}"
        )
    return names


@router.get("/explain")
def explain(
    at_work: AtWork, name: GroupParameter = None, at: Time | None = None
) -> ExplanationAnswer:
    """Why a group is judged as it is, or was at a time: by the newest sample not after it."""
    group = chosen(at_work, name)
    if at is None:
        status = group.status
        return explanation_answer(group.name, status.verdict, status.anomalous_since)
    verdict = _verdict_at(group, at)
    return explanation_answer(group.name, verdict, _since(group, verdict))


def _verdict_at(group: Watched, at: float) -> Verdict:
    until = group.ring.between(end=at)
    if len(until.times):
        return until.verdict(-1)
    kept, times = "nothing is kept yet", group.ring.between().times
    if len(times):
        kept = f"samples from {format_instant(times[0])} to {format_instant(times[-1])} are kept"
    when = format_instant(at)
    raise HTTPException(
        404,
        f"there is no sample of {group.name} for {when}, {kept} — promad explain --at {when} looks "
        "further back",
    )


def _since(group: Watched, verdict: Verdict) -> float | None:
    """The start of the event that a sample of the past belongs to."""
    if verdict.state is not State.ANOMALOUS:
        return None
    events = group.served.events.find(group=group.name, end=verdict.at, limit=1)
    return events[0].event.start if events else None

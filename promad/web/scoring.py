"""Scoring a request with a running detector, without the state of the daemon."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from promad.data.frame import MetricFrame
from promad.detection.running_detector import RunningDetector
from promad.scoring.detector import Detector
from promad.scoring.scores import Scores, raise_outside
from promad.scoring.segments import Part, Segment, find_parts, find_segments
from promad.scoring.streaming import ScoringState, join_scores, score_samples
from promad.web.lookup import find_group
from promad.web.problems import describe_invalid, list_some
from promad.web.samples import Samples, read_samples
from promad.web.schemas import (
    AnomalySegment,
    AttributedDimension,
    ScoreAnswer,
    ScoredTimestep,
    ScoreRequest,
)

Values = NDArray[np.float64]

SECONDS = 30.0
"""The time limit for one batch. A thread cannot be stopped, so it checks the clock itself."""

_CHUNK_ROWS = 1000


@dataclass(frozen=True)
class ScoringTarget:
    """A group, and the detector and bundle that score for it."""

    group: str
    bundle: str
    detector: Detector


FindTarget = Callable[[str | None], ScoringTarget]
"""Finds the group of that name, or the only one; raises HTTPException."""


def find_target(running: Sequence[RunningDetector], name: str | None) -> ScoringTarget:
    """The target in this process, see `find_group`."""
    group = find_group(running, name)
    return ScoringTarget(group.name, group.served.bundle.id, group.served.detector)


def score_request(body: bytes | bytearray, find: FindTarget) -> ScoreAnswer:
    """The scores of the samples in a request.

    Raises:
        HTTPException: if the samples cannot be scored, or not within the time limit.
    """
    began = time.monotonic()
    try:
        request = ScoreRequest.model_validate_json(body)
    except ValidationError as error:
        raise HTTPException(400, describe_invalid(error.errors(include_url=False)[0])) from None
    target = find(request.group)
    detector = _set_scoring_mode(target.detector, request.scoring_mode)
    samples = read_samples(request, detector)
    scored = _score_frame(detector, samples.frame, began + SECONDS)
    return _build_answer(request, target, detector, samples, *scored)


def _set_scoring_mode(detector: Detector, mode: str | None) -> Detector:
    """The detector with its model in the requested mode; the running detector does not change."""
    if mode is None:
        return detector
    modes = detector.model.scoring_modes
    if not modes:
        raise HTTPException(
            422, f"scoring_mode is {mode[:40]}, the model has no scoring modes — omit scoring_mode"
        )
    if mode not in modes:
        raise HTTPException(
            422,
            f"scoring_mode is {mode[:40]} — the scoring modes of the model are {list_some(modes)}",
        )
    return replace(detector, model=detector.model.in_scoring_mode(mode))


def _score_frame(
    detector: Detector, frame: MetricFrame, deadline: float
) -> tuple[Values, Values, Values]:
    """Scores and limits (rows,) and errors (rows, features) of the rows that end a window."""
    state, calibration = ScoringState.begin(detector, 1), detector.calibrate(frame.groups)
    chunks: list[Scores] = []
    for chunk in frame.split(_CHUNK_ROWS):
        if time.monotonic() > deadline:
            done = sum(len(each.times) for each in chunks)
            raise HTTPException(
                503,
                f"scoring took longer than {SECONDS:g} s ({done} of {frame.samples} rows scored) "
                "— send fewer rows per request",
                {"Retry-After": "30"},
            )
        with np.errstate(over="ignore"):  # the detector clips huge values
            chunks.append(score_samples(detector, calibration, state, chunk))
    whole = join_scores(chunks)
    ends = whole.in_window[0] == detector.length
    limits = detector.threshold.limit(whole.score[0, ends])
    scores = raise_outside(whole.score[0, ends], limits, whole.outside[0, ends].any(axis=1))
    return scores, limits, whole.errors[0, ends]


def _build_answer(
    request: ScoreRequest,
    target: ScoringTarget,
    detector: Detector,
    samples: Samples,
    scores: Values,
    limits: Values,
    errors: Values,
) -> ScoreAnswer:
    unscored = samples.frame.samples - len(scores)
    anomalies = int((scores > limits).sum())

    def attribute(segment: Segment) -> list[AttributedDimension] | None:
        if not request.include_attribution:
            return None
        parts = find_parts(segment, errors, detector.scoring.baseline)
        return [_describe_part(part, samples) for part in parts]

    return ScoreAnswer(
        group=target.group,
        bundle=target.bundle,
        n_timesteps=samples.frame.samples,
        n_scored=len(scores),
        n_features=len(samples.frame.features),
        threshold=detector.threshold.value,
        threshold_method=detector.threshold.method,
        n_anomalies=anomalies,
        anomaly_ratio=anomalies / len(scores),
        anomaly_segments=[
            _describe_segment(segment, unscored, attribute(segment))
            for segment in find_segments(scores, limits)
        ],
        per_timestep=_list_timesteps(unscored, scores, limits)
        if request.include_per_timestep
        else None,
        scoring_mode=detector.model.scoring_mode,
    )


def _describe_segment(
    segment: Segment, unscored: int, parts: list[AttributedDimension] | None
) -> AnomalySegment:
    return AnomalySegment(
        segment_start=unscored + segment.first,
        segment_end=unscored + segment.last,
        segment_length=segment.length,
        peak_score=segment.peak,
        peak_timestamp=unscored + segment.peak_at,
        mean_score=segment.mean,
        attributed_dimensions=parts,
    )


def _describe_part(part: Part, samples: Samples) -> AttributedDimension:
    return AttributedDimension(
        dim=int(samples.columns[part.column]),
        label=samples.frame.features[part.column],
        mean_elevation=part.elevation,
        contribution=part.contribution,
    )


def _list_timesteps(unscored: int, scores: Values, limits: Values) -> list[ScoredTimestep]:
    before = [ScoredTimestep(timestep=row, score=None, is_anomaly=None) for row in range(unscored)]
    flags = (scores > limits).tolist()
    return before + [
        ScoredTimestep(timestep=unscored + row, score=score, is_anomaly=flag)
        for row, (score, flag) in enumerate(zip(scores.tolist(), flags, strict=True))
    ]

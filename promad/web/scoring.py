"""Scoring a request: the same detector that is at work, without its memory of what came before."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from promad.data.frame import MetricFrame
from promad.detection.running_detector import Served
from promad.models.tranad import Tranad
from promad.scoring.detector import Detector
from promad.scoring.scores import Scores
from promad.scoring.segments import Segment, find_segments, parts_of
from promad.scoring.streaming import ScoringState, join_scores, score_samples
from promad.web.lookup import Watched, chosen
from promad.web.problems import sentence
from promad.web.samples import Samples, samples_of
from promad.web.schemas import (
    AnomalySegment,
    AttributedDimension,
    ScoreAnswer,
    ScoredTimestep,
    ScoreRequest,
)

Values = NDArray[np.float64]
Mode = Literal["phase2_only", "averaged"]

SECONDS = 30.0
"""For so long a batch may be scored. A thread cannot be stopped: it looks at the clock itself."""

_PIECE_ROWS = 1000


def answer_to(body: bytes, at_work: Sequence[Served]) -> ScoreAnswer:
    """What scoring the request in a body comes to.

    Raises:
        HTTPException: if it cannot be scored, or not in time.
    """
    began = time.monotonic()
    try:
        request = ScoreRequest.model_validate_json(body)
    except ValidationError as error:
        raise HTTPException(400, sentence(error.errors(include_url=False)[0])) from None
    group = chosen(at_work, request.group)
    detector = _in_mode(group.served.detector, request.scoring_mode)
    samples = samples_of(request, detector)
    scores, errors = _score(detector, samples.frame, began + SECONDS)
    return _answer(request, group, detector, samples, scores, errors)


def _in_mode(detector: Detector, mode: Mode | None) -> Detector:
    """The detector with a TranAD that takes its errors as asked; the one at work stays as it is."""
    if mode is None:
        return detector
    if not isinstance(detector.model, Tranad):
        raise HTTPException(422, f"scoring_mode is {mode}, the bundle is no tranad — leave it out")
    model = replace(detector.model, averaged=mode == "averaged")
    return replace(detector, model=model)


def _mode_of(detector: Detector) -> Mode | None:
    if not isinstance(detector.model, Tranad):
        return None
    return "averaged" if detector.model.averaged else "phase2_only"


def _score(detector: Detector, frame: MetricFrame, deadline: float) -> tuple[Values, Values]:
    """Score and errors of every row at which a window ends, oldest first."""
    state, calibration = ScoringState.begin(detector, 1), detector.calibrate(1)
    pieces: list[Scores] = []
    for part in frame.split(_PIECE_ROWS):
        if time.monotonic() > deadline:
            done = sum(len(each.times) for each in pieces)
            raise HTTPException(
                503,
                f"scoring took longer than {SECONDS:g} s, {done} of {frame.samples} rows were done "
                "— send fewer rows at a time",
                {"Retry-After": "30"},
            )
        with np.errstate(over="ignore"):  # a value out of all proportion is held to a bound
            pieces.append(score_samples(detector, calibration, state, part))
    whole = join_scores(pieces)
    ends = whole.in_window[0] == detector.length
    return whole.score[0, ends], whole.errors[0, ends]


def _answer(
    request: ScoreRequest,
    group: Watched,
    detector: Detector,
    samples: Samples,
    scores: Values,
    errors: Values,
) -> ScoreAnswer:
    limits = detector.threshold.limit(scores)
    unscored = samples.frame.samples - len(scores)
    found = find_segments(scores, limits)
    anomalies = int((scores > limits).sum())
    baseline = detector.scoring.baseline

    def attributed(segment: Segment) -> list[AttributedDimension]:
        return [
            AttributedDimension(
                dim=int(samples.columns[part.column]),
                label=samples.frame.features[part.column],
                mean_elevation=part.elevation,
                contribution=part.contribution,
            )
            for part in parts_of(segment, errors, baseline)
        ]

    return ScoreAnswer(
        group=group.name,
        bundle=group.served.bundle.id,
        n_timesteps=samples.frame.samples,
        n_scored=len(scores),
        n_features=len(samples.frame.features),
        threshold=detector.threshold.value,
        threshold_method=detector.threshold.method,
        n_anomalies=anomalies,
        anomaly_ratio=anomalies / len(scores),
        anomaly_segments=[
            AnomalySegment(
                segment_start=unscored + segment.first,
                segment_end=unscored + segment.last,
                segment_length=segment.length,
                peak_score=segment.peak,
                peak_timestamp=unscored + segment.peak_at,
                mean_score=segment.mean,
                attributed_dimensions=attributed(segment) if request.include_attribution else None,
            )
            for segment in found
        ],
        per_timestep=_timesteps(unscored, scores, limits) if request.include_per_timestep else None,
        scoring_mode=_mode_of(detector),
    )


def _timesteps(unscored: int, scores: Values, limits: Values) -> list[ScoredTimestep]:
    before = [ScoredTimestep(timestep=row, score=None, is_anomaly=None) for row in range(unscored)]
    flags = (scores > limits).tolist()
    return before + [
        ScoredTimestep(timestep=unscored + row, score=score, is_anomaly=flag)
        for row, (score, flag) in enumerate(zip(scores.tolist(), flags, strict=True))
    ]

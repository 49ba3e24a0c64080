"""The samples of a score request as a frame, or the reason why they cannot be scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from starlette.exceptions import HTTPException

from promad.data.frame import MetricFrame, single_group
from promad.data.preparation import Preparation
from promad.scoring.detector import Detector
from promad.web.lookup import EARLIEST, LATEST
from promad.web.problems import format_count, list_some
from promad.web.schemas import ScoreRequest

_STEP_TOLERANCE = 0.01


@dataclass(frozen=True)
class Samples:
    """Rows to score.

    Attributes:
        frame: the rows, columns in the bundle's order.
        columns: the column in the request of each feature of the bundle, int64 (features,).
    """

    frame: MetricFrame
    columns: NDArray[np.int64]


def read_samples(request: ScoreRequest, detector: Detector) -> Samples:
    """The rows of a request with the columns in the order of the detector's features.

    Raises:
        HTTPException: 422 with the place of the first mistake, if the detector cannot score them.
    """
    preparation = detector.preparation
    columns = _match_columns(request.features, preparation.features)
    _check_shape(request.data, preparation.features, detector.length)
    start = _read_start(request, preparation)
    values = np.array(request.data, np.float64)[:, columns]
    frame = single_group(start, preparation.step, preparation.features, values)
    return Samples(frame, columns)


def _refuse(detail: str) -> HTTPException:
    return HTTPException(422, detail)


def _match_columns(given: Sequence[str] | None, wanted: Sequence[str]) -> NDArray[np.int64]:
    """The column in the request of each feature of the bundle."""
    if given is None:
        return np.arange(len(wanted))
    places = {name: place for place, name in enumerate(given)}
    if missing := [name for name in wanted if name not in places]:
        raise _refuse(f"features lacks {list_some(missing)} — list all features of the bundle")
    if len(given) > len(wanted):
        raise _refuse(
            f"features has {format_count(len(given), 'name')}, the bundle has "
            f"{format_count(len(wanted), 'feature')} ({list_some(wanted)}) — list each once"
        )
    return np.array([places[name] for name in wanted])


def _check_shape(data: Sequence[Sequence[float]], features: Sequence[str], length: int) -> None:
    for place, row in enumerate(data):
        if len(row) != len(features):
            raise _refuse(
                f"data[{place}] has {format_count(len(row), 'value')}, the bundle has "
                f"{format_count(len(features), 'feature')} ({list_some(features)}) "
                "— send one number for each feature"
            )
    if len(data) < length:
        raise _refuse(
            f"data has {format_count(len(data), 'row')}, a window of the bundle has {length} "
            f"— send at least {format_count(length, 'row')}"
        )


def _read_start(request: ScoreRequest, preparation: Preparation) -> float:
    """The time of the first row in unix seconds; 0 where the bundle does not use times."""
    if request.timestamps is None:
        if preparation.time_features:
            raise _refuse(
                f"timestamps is required, the bundle uses {' and '.join(preparation.time_features)}"
                " — send one timestamp for each row"
            )
        return 0.0
    _check_times(np.array(request.timestamps), len(request.data), preparation.step)
    return request.timestamps[0]


def _check_times(times: NDArray[np.float64], rows: int, step: float) -> None:
    if len(times) != rows:
        raise _refuse(
            f"timestamps has {format_count(len(times), 'item')}, data has "
            f"{format_count(rows, 'row')} — send one timestamp for each row"
        )
    bounds = (times.min(), times.max(), times[0] + rows * step)
    if min(bounds) < EARLIEST or max(bounds) > LATEST:
        raise _refuse("timestamps are outside the years 1 to 9999 — send unix seconds")
    gaps = np.diff(times)
    uneven = np.abs(gaps - step) > _STEP_TOLERANCE * step
    if uneven.any():
        place = int(uneven.argmax()) + 1
        raise _refuse(
            f"timestamps[{place}] is {gaps[place - 1]:g} s after the previous one, the step of the "
            f"bundle is {step:g} s — send samples one step apart"
        )

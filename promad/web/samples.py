"""What a request to score means: its rows as a frame, or why they cannot be scored."""

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
from promad.web.problems import some
from promad.web.schemas import ScoreRequest

_STEP_TOLERANCE = 0.01


@dataclass(frozen=True)
class Samples:
    """Rows to score.

    Attributes:
        frame: the rows, columns in the bundle's order.
        columns: which column of the request each of them was, int64 (features,).
    """

    frame: MetricFrame
    columns: NDArray[np.int64]


def samples_of(request: ScoreRequest, detector: Detector) -> Samples:
    """The rows of a request as the detector takes them.

    Raises:
        HTTPException: 422, naming the place, if the detector cannot score them.
    """
    preparation = detector.preparation
    columns = _columns(request.features, preparation.features)
    _check_shape(request.data, preparation.features, detector.length)
    start = _start(request, preparation)
    values = np.array(request.data, np.float64)[:, columns]
    frame = single_group(start, preparation.step, preparation.features, values)
    return Samples(frame, columns)


def _refusal(detail: str) -> HTTPException:
    return HTTPException(422, detail)


def _columns(given: Sequence[str] | None, wanted: Sequence[str]) -> NDArray[np.int64]:
    """Where each feature of the bundle stands in the request."""
    if given is None:
        return np.arange(len(wanted))
    places = {name: place for place, name in enumerate(given)}
    if missing := [name for name in wanted if name not in places]:
        raise _refusal(f"features lacks {some(missing)} — name all of the bundle's features")
    if len(given) > len(wanted):
        raise _refusal(
            f"features has {len(given)} names, the bundle {len(wanted)} features "
            f"({some(wanted)}) — name each once"
        )
    return np.array([places[name] for name in wanted])


def _check_shape(data: Sequence[Sequence[float]], features: Sequence[str], length: int) -> None:
    for place, row in enumerate(data):
        if len(row) != len(features):
            raise _refusal(
                f"data[{place}] has {len(row)} values, the bundle has {len(features)} features "
                f"({some(features)}) — send one number for each"
            )
    if len(data) < length:
        raise _refusal(
            f"data has {len(data)} rows, a window of the bundle has {length} — send at least that"
        )


def _start(request: ScoreRequest, preparation: Preparation) -> float:
    """The time of the first row, in unix seconds; 0 where times are of no matter."""
    if request.timestamps is None:
        if preparation.time_features:
            raise _refusal(
                "timestamps are missing, the bundle looks at "
                f"{' and '.join(preparation.time_features)} — send one for each row"
            )
        return 0.0
    _check_times(np.array(request.timestamps), len(request.data), preparation.step)
    return request.timestamps[0]


def _check_times(times: NDArray[np.float64], rows: int, step: float) -> None:
    if len(times) != rows:
        raise _refusal(f"timestamps has {len(times)} entries, data {rows} rows — send one for each")
    reach = (times.min(), times.max(), times[0] + rows * step)
    if min(reach) < EARLIEST or max(reach) > LATEST:
        raise _refusal("timestamps go beyond the years 1 to 9999 — send unix seconds")
    gaps = np.diff(times)
    uneven = np.abs(gaps - step) > _STEP_TOLERANCE * step
    if uneven.any():
        place = int(uneven.argmax()) + 1
        raise _refusal(
            f"timestamps[{place}] is {gaps[place - 1]:g} s after the one before, the bundle's step "
            f"is {step:g} s — send samples a step apart"
        )

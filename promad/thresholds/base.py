"""`Threshold`, which every fit returns, and the settings it is fitted with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from promad.errors import DataError
from promad.thresholds.history import History, history_from_json
from promad.thresholds.peaks import Peaks, peaks_from_json
from promad.thresholds.threshold_state import Constant, ThresholdState

FEWEST_SCORES = 10


@dataclass(frozen=True)
class DynamicSettings:
    """What nonparametric dynamic thresholding needs; counts are samples.

    Attributes:
        history: how many of the newest scores each score is compared with.
        batch: how many scores are judged at once in the published form.
        error_buffer: how far around a high score its sequence reaches.
        minimum_drop: by which share a sequence must top what is no anomaly.
        mode: `stream` judges each score as it comes; `batch` is the published form, which needs
            later scores and so suits recorded data only (a daemon streams all the same).
    """

    history: int = 2100
    batch: int = 70
    error_buffer: int = 100
    minimum_drop: float = 0.13
    mode: Literal["stream", "batch"] = "stream"


@dataclass(frozen=True)
class ThresholdSettings:
    """What a threshold may need to know beside the scores.

    Attributes:
        value: the limit itself, where a person gave it.
        false_alarms_per_week: how many events per week of normal data are acceptable.
        step: seconds between scores.
        enter_after, leave_after: the hysteresis that turns scores into events.
        leave_below: what the recent score must exceed to keep an event open, as a share of the way
            from the typical score to the limit; None where scores above the limit do.
        typical: the typical score of normal data.
        hold_seconds: so long after its onset an event is compared with the state before it.
        level: the quantile of scores above which a tail is fitted.
        bounded: whether the tail of `pot` may have an end.
        usual_scale: of the tail of other series, which the tail of `pot` is held against; None if
            it stands by itself.
        drift_samples: the normal scores whose mean `dspot` subtracts.
        dynamic: what `dynamic` needs.
    """

    step: float
    false_alarms_per_week: float = 1.0
    enter_after: int = 1
    leave_after: int = 1
    leave_below: float | None = None
    hold_seconds: float = 0.0
    typical: float = 0.0
    value: float | None = None
    level: float = 0.98
    bounded: bool = True
    usual_scale: float | None = None
    drift_samples: int = 200
    dynamic: DynamicSettings = DynamicSettings()


def _begin_constant(value: float, parameters: Mapping[str, Any], groups: int) -> ThresholdState:
    return Constant(np.full(groups, value))


def _begin_peaks(value: float, parameters: Mapping[str, Any], groups: int) -> ThresholdState:
    return Peaks(*peaks_from_json(parameters), groups)


def _begin_history(value: float, parameters: Mapping[str, Any], groups: int) -> ThresholdState:
    return History(*history_from_json(parameters), groups)


_BEGIN: Mapping[str, Callable[[float, Mapping[str, Any], int], ThresholdState]] = {
    "spot": _begin_peaks,
    "dspot": _begin_peaks,
    "dynamic": _begin_history,
}
"""How the thresholds that move begin; all others stay at their value."""


@dataclass(frozen=True)
class Threshold:
    """A fitted limit, in the score's unit.

    Attributes:
        method: the name under which THRESHOLDS knows it.
        value: the limit, above zero; a score above it is anomalous. Of a threshold that moves, the
            limit that it begins with.
        expected_false_alarms_per_week: how often normal data should cross it; None if unknown.
        why: one sentence on where the number comes from.
        interval: 90 % of the uncertainty of `expected_false_alarms_per_week` that comes from how
            little was seen, as low and high; None if unknown. Fits of a tail are repeated on data
            drawn from it (parametric bootstrap, fixed seed), counted events are taken as Poisson.
            It knows nothing of drift.
        parameters: what a threshold that moves continues from: plain JSON values.
    """

    method: str
    value: float
    expected_false_alarms_per_week: float | None
    why: str
    interval: tuple[float, float] | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def begin(self, groups: int = 1) -> ThresholdState:
        """The threshold at work on so many groups, before their first scores."""
        begin = _BEGIN.get(self.method, _begin_constant)
        return begin(self.value, self.parameters, groups)

    def limit(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """The limit that each score of one group is held to: (samples,) to (samples,).

        Those of `begin()` following the scores, which come in chronological order; NaN scores get
        the limit as it is. Each depends on its own and earlier scores only, except for `dynamic`
        in its batch mode.
        """
        return self.begin().follow_series(scores[:, np.newaxis])[:, 0]

    def to_json(self) -> dict[str, Any]:
        """Plain values, from which `from_json` makes the same threshold."""
        return {
            "method": self.method,
            "value": self.value,
            "expected_false_alarms_per_week": self.expected_false_alarms_per_week,
            "why": self.why,
            "interval": None if self.interval is None else list(self.interval),
            "parameters": dict(self.parameters),
        }

    @staticmethod
    def from_json(content: dict[str, Any]) -> Threshold:
        """The threshold that `to_json` described; `interval` and `parameters` may be missing.

        Raises:
            KeyError, TypeError, ValueError: if `content` is not such a description.
        """
        value, rate = float(content["value"]), content["expected_false_alarms_per_week"]
        if not np.isfinite(value) or value <= 0:
            raise ValueError(f"threshold {value} is not above zero")
        interval = content.get("interval")
        threshold = Threshold(
            str(content["method"]),
            value,
            None if rate is None else float(rate),
            str(content["why"]),
            None if interval is None else (float(interval[0]), float(interval[1])),
            dict(content.get("parameters") or {}),
        )
        threshold.begin()
        return threshold


def take_known_scores(
    scores: NDArray[np.float64], settings: ThresholdSettings
) -> NDArray[np.float64]:
    """The scores that are not NaN.

    Raises:
        DataError: if fewer than `FEWEST_SCORES` are known, or fewer than begin and end an event;
            or if one is infinite.
    """
    known = scores[~np.isnan(scores)]
    fewest = max(FEWEST_SCORES, settings.enter_after + settings.leave_after)
    if len(known) < fewest:
        raise DataError(
            f"{len(known)} scores are too few to choose a threshold ({fewest} are "
            "needed) — collect a longer period or set anomaly_threshold_mse to a number"
        )
    if np.isinf(known).any():
        raise DataError(
            f"{int(np.isinf(known).sum())} of {len(known)} scores are infinite, so no "
            "threshold can be chosen — check the collected data for extreme values"
        )
    return known

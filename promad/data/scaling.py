"""Scaling: each feature brought to a common size, learned from the training part alone.

`Scaler` is an affine map as plain numbers: all that training and scoring need. With scikit-learn
installed, the same map is written as its estimator too, for other programs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

WIDEST_BULK = 10.0
"""How many units wide the middle 98 % of a feature's values may become. Most features span a few;
one that hardly moves but in bursts would otherwise be measured by its stillness alone, and its
ordinary bursts would lie beyond what preparation lets through."""

CONSTANT_UNIT = 0.05
"""A feature that never moved in training is scaled so that a change of a twentieth of its size, or
of 0.05 where it is smaller than 1, counts as one unit: `up` falling from 1 to 0 is then 20 units.
"""

PARETO = "ParetoScaler"
"""Centred on the mean, and one unit is the root of standard deviation times range: between the two,
so a feature that hardly moves but for bursts neither explodes nor drowns (van den Berg et al. 2006,
"Centering, scaling, and transformations", BMC Genomics 7:142, table 1, where the root of the
standard deviation alone is meant; with the range it keeps the unit of the feature)."""


@dataclass(frozen=True)
class Scaler:
    """`scaled = (value - center) / scale`, per feature; both float64 (features,)."""

    kind: str
    center: Values
    scale: Values

    def transform(self, values: Values) -> Values:
        """(..., features) in natural units to scaled units; NaN stays NaN."""
        return (values - self.center) / self.scale

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, from which `from_json` makes the same scaler to the last bit."""
        return {"kind": self.kind, "center": self.center.tolist(), "scale": self.scale.tolist()}

    @staticmethod
    def from_json(content: dict[str, Any]) -> Scaler:
        """The scaler that `to_json` described.

        Raises:
            KeyError, ValueError: if `content` is not such a description.
        """
        center = np.asarray(content["center"], np.float64)
        scale = np.asarray(content["scale"], np.float64)
        finite = np.isfinite(center).all() and np.isfinite(scale).all()
        if center.shape != scale.shape or not np.all(scale > 0) or not finite:
            raise ValueError("center and scale do not describe a scaler")
        return Scaler(str(content["kind"]), center, scale)


def fit_scaler(kind: str, values: Values, features: Sequence[str]) -> tuple[Scaler, Any]:
    """Fit `kind` (`PARETO` or a scikit-learn class) on values (samples, features) without NaN.

    Returns the scaler and the scikit-learn estimator with the same parameters, which for `PARETO`
    is a StandardScaler; None without scikit-learn. Where the measure of spread of that class is too
    small for `WIDEST_BULK` that decides; where both are nothing, the standard deviation; and where
    the feature never moved, `CONSTANT_UNIT` of its size.
    """
    center, spread = _MEASURES[kind](values)
    bulk = np.subtract(*np.percentile(values, [99, 1], axis=0))
    scale = np.maximum(spread, bulk / WIDEST_BULK)
    scale = np.where(scale > _noise(values), scale, values.std(axis=0))
    still = scale <= _noise(values)
    scale = np.where(still, CONSTANT_UNIT * np.maximum(np.abs(center), 1.0), scale)
    return Scaler(kind, center, scale), _build_estimator(kind, values, features, center, scale)


def _build_estimator(
    kind: str, values: Values, features: Sequence[str], center: Values, scale: Values
) -> Any | None:
    """The scikit-learn estimator with exactly `center` and `scale`; None without scikit-learn."""
    if find_spec("sklearn") is None:
        return None
    import pandas as pd
    from sklearn import preprocessing

    estimator = getattr(preprocessing, "StandardScaler" if kind == PARETO else kind)()
    estimator.fit(pd.DataFrame(values, columns=list(features)))
    _adjust(estimator, center, scale)
    return estimator


def _noise(values: Values) -> Values:
    """What rounding alone can make a constant feature seem to move: float64 (features,).

    Nothing smaller than single precision can tell apart is a movement either.
    """
    return np.maximum(np.abs(values).max(axis=0) * 1e-12, np.finfo(np.float32).tiny)


def _measure_standard(values: Values) -> tuple[Values, Values]:
    return values.mean(axis=0), values.std(axis=0)


def _measure_range(values: Values) -> tuple[Values, Values]:
    return values.min(axis=0), np.ptp(values, axis=0)


def _measure_quartiles(values: Values) -> tuple[Values, Values]:
    low, high = np.percentile(values, [25, 75], axis=0)
    return np.median(values, axis=0), high - low


def _measure_pareto(values: Values) -> tuple[Values, Values]:
    return values.mean(axis=0), np.sqrt(values.std(axis=0) * np.ptp(values, axis=0))


_MEASURES: Mapping[str, Callable[[Values], tuple[Values, Values]]] = {
    PARETO: _measure_pareto,
    "StandardScaler": _measure_standard,
    "MinMaxScaler": _measure_range,
    "RobustScaler": _measure_quartiles,
}
"""The centre and the spread of each feature: two float64 (features,) of (samples, features)."""


def _adjust(estimator: Any, center: Values, scale: Values) -> None:
    """Give the estimator exactly `center` and `scale`."""
    if hasattr(estimator, "data_min_"):
        estimator.scale_ = 1.0 / scale
        estimator.min_ = -center / scale
        estimator.data_range_ = scale
    else:
        estimator.scale_ = scale

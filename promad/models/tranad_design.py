"""How a TranAD network is laid out: its presets, the range it measures in, where its rows are.

Building and fitting it, its ONNX form and running it all read this; it needs neither Keras nor
ONNX.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from promad.data.windows import Windows, batches

FACTS = "promad"
"""The metadata key of the ONNX file under which facts that no graph holds are kept, as JSON."""


@dataclass(frozen=True)
class Design:
    """What sets a preset apart. In each of them the network sees all rows but the newest.

    Attributes:
        judged: the row of a window that is to be reconstructed, counted from its end.
        limits: between which inputs are held, in the model's units.
        narrowest: the smallest range of a feature, in outer units, that is taken for its own.
        added: what is added to each range.
        rectified: whether hidden layers pass only what is positive.
        own_units: whether errors are in the model's units, not in the outer ones.
    """

    judged: int
    limits: tuple[float, float]
    narrowest: float
    added: float
    rectified: bool
    own_units: bool


DESIGNS: Mapping[str, Design] = {
    "strict": Design(
        judged=-1,
        limits=(-0.5, 1.5),
        narrowest=1.0,
        added=0.0,
        rectified=True,
        own_units=False,
    ),
    "paper": Design(
        judged=-2,
        limits=(-1e6, 1e6),
        narrowest=0.0,
        added=1e-4,
        rectified=False,
        own_units=True,
    ),
}
"""`narrowest` is one outer unit: what never moved in training is measured in the caller's units.
Beyond `limits` of a million, squares of squares would overflow single precision."""


@dataclass(frozen=True)
class Measure:
    """`normalised = (value - low) / span`, per column; float32 (width,). The first are features."""

    low: NDArray[np.float32]
    span: NDArray[np.float32]
    features: int

    @property
    def width(self) -> int:
        return len(self.low)

    def denormalise(self, normalised: NDArray[np.float32]) -> NDArray[np.float64]:
        """(..., features) in the model's units to outer units."""
        span, low = (each[: self.features].astype(np.float64) for each in (self.span, self.low))
        return normalised * span + low


def fit_measure(windows: Windows, features: int, design: Design) -> Measure:
    """The range of each column over windows without NaN; of conditions, no less than 1."""
    extremes = [(batch.min(axis=(0, 1)), batch.max(axis=(0, 1))) for batch in batches(windows)]
    lows, highs = zip(*extremes, strict=True)
    low = np.min(lows, axis=0)
    narrowest = np.where(np.arange(windows.width) < features, design.narrowest, 1.0)
    span = np.maximum(np.max(highs, axis=0) - low + design.added, narrowest)
    return Measure(low.astype(np.float32), span.astype(np.float32), features)


def positional_encoding(rows: int, columns: int) -> NDArray[np.float32]:
    """The sum of a sine and a cosine of each row's number, slower from column to column.

    The published code, unlike transformers before it, puts both into the same cell.
    """
    speeds = np.exp(-np.arange(columns) * np.log(10_000.0) / columns)
    angles = np.arange(rows)[:, np.newaxis] * speeds
    return np.asarray(np.sin(angles) + np.cos(angles), np.float32)


def first_phase_weight(weighting: str, epoch: int) -> float:
    """The first phase's share of the loss in an epoch, counted from 1; the second has the rest.

    >>> [round(first_phase_weight("epoch_inverse", epoch), 2) for epoch in (1, 2, 5)]
    [1.0, 0.5, 0.2]
    """
    return 1.0 / epoch if weighting == "epoch_inverse" else float(1.01**-epoch)

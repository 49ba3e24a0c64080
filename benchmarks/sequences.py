"""Anomalous sequences as Telemanom's authors published them, for the experiment in `telemanom`.

Hundman et al. 2018, "Detecting spacecraft anomalies using LSTMs and nonparametric dynamic
thresholding", KDD, sections 3.2 and 3.3. promad itself judges samples one by one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from promad.data.moving_average import Averages, average
from promad.thresholds.epsilon import Errors, Gate, WindowGate, anomalous_points


@dataclass(frozen=True)
class Sequences:
    """Anomalous sequences in time order.

    Attributes:
        starts, ends: their first row and the row after their last, int64 (sequences,).
        scores: how far beyond epsilon, float64 (sequences,).
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    scores: Errors


@dataclass(frozen=True, eq=False)
class MovingGate:
    """A gate for each window from the target beside it, as in the paper's code.

    Attributes:
        target: what was forecast, float64 (samples,) without NaN, row by row beside the errors.
        least: that of every gate, in the unit of the target.
    """

    target: Errors
    least: float = 0.05

    def at(self, start: int, end: int) -> Gate:
        """The gate of the window of those rows; `end` is the row after its last."""
        return replace(Gate.of(self.target[start:end]), least=self.least)


def sequences(
    errors: Errors,
    gate: WindowGate,
    *,
    history: int = 2100,
    batch: int = 70,
    error_buffer: int = 100,
    minimum_drop: float = 0.13,
    ignore: int = 0,
    complete: bool = False,
) -> Sequences:
    """The anomalous sequences in smoothed errors, float64 (samples,) without NaN, as published.

    Low errors are looked at as well as high ones, mirrored. Sequences of one sample are dropped.

    Args:
        gate: what errors are measured against; `MovingGate(target)` is the published one.
        history: `window_size * batch_size` of the paper's code.
        ignore: errors at the beginning that are not judged (see `ignored`).
        complete: also judge the up to `batch - 1` errors that the published form passes over.
    """
    points = anomalous_points(
        errors,
        gate,
        history=history,
        batch=batch,
        error_buffer=error_buffer,
        minimum_drop=minimum_drop,
        ignore=ignore,
        complete=complete,
    )
    edges = np.flatnonzero(np.diff(np.concatenate([[False], ~np.isnan(points), [False]])))
    bounds = [(int(a), int(b)) for a, b in edges.reshape(-1, 2) if b - a > 1]
    return Sequences(
        np.array([start for start, _ in bounds], np.int64),
        np.array([end for _, end in bounds], np.int64),
        np.array([points[start:end].max() for start, end in bounds], np.float64),
    )


def ignored(samples: int, length: int) -> int:
    """How many errors at the beginning the paper's code passes over, for windows of `length`.

    >>> [ignored(samples, 250) for samples in (1799, 2499, 2500)]
    [0, 250, 500]
    """
    if samples < 1800:
        return 0
    return length if samples < 2500 else 2 * length


def smooth(errors: Errors, span: int, settling: int = 0) -> Errors:
    """The exponentially weighted mean of errors up to each: (samples,) to (samples,), no NaN.

    Weights fall by `1 - 2 / (span + 1)` with each sample and add up to 1 (pandas' `adjust=True`).
    The first `settling` are replaced by the mean of the first `2 * settling`; the paper's code does
    so with one window's length.
    """
    smoothed = average(errors, span, Averages.begin(), least_share=0.0)
    if settling and len(errors):
        smoothed[:settling] = smoothed[: 2 * settling].mean()
    return smoothed

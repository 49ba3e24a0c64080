"""Three linear parts: a projection of each window onto the main directions of normal windows, and
two predictions of the newest sample from those before it. Fits in seconds, without TensorFlow.

Good at: features that move together (a broken correlation leaves the plane), sudden jumps and
changes of level, and being there at once. Bad at: anomalies that a linear map explains too, as the
absence of a daily peak; relations that hold in one regime only; a slow drift, of which each step is
small and which the directions follow.

First part: principal components of whole windows (windows, length * columns), and of the difference
between a window and its projection the last sample's (Jolliffe 2002, "Principal Component
Analysis", section 10.1). Second part: a vector autoregression on the last `lags` samples, with a
ridge penalty (Lütkepohl 2005, "New Introduction to Multiple Time Series Analysis", section 2.2;
Hoerl and Kennard 1970). Third part: an autoregression of each feature on its own last samples,
shrunk towards the random walk; an outlier of one feature does not reach the predictions of the
others. Each part's squared residual is divided by what its mean over the features stays below for
99 % of training, and they are added with weights. Bundles of before have the first two parts alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from promad.models.base import Inputs, Outcome, SingleScoringMode

_AT_ONCE = 128
"""Windows whose arrays are small enough to stay in a processor's cache."""

_FARTHEST = 1e6
"""Inputs are clipped to this many scaled units, so that no square overflows."""

Values = NDArray[np.float64]
Learned = NDArray[np.float32]
"""A reconstruction of the first part's residuals, (windows, length, features) in scaled units."""


@dataclass(frozen=True)
class Linear(SingleScoringMode):
    """The fitted parts; all float64.

    Attributes:
        features: how many of the columns are reconstructed.
        length: samples per window.
        mean: of the flattened windows, (length * columns,).
        directions: orthonormal, (length * columns, components).
        coefficients: from 1, the last `lags` samples and the newest sample's conditions to the
            newest sample, (1 + lags * columns + conditions, features).
        lags: samples that the second part looks back.
        baselines: what each part's squared residual is divided by, (parts,): what its mean over the
            features stays below for 99 % of training, over the part's weight.
        own: from 1, a feature's own last `lags` samples and the newest sample's conditions to its
            newest sample, (1 + lags + conditions, features); None if there is no third part.
    """

    features: int
    length: int
    mean: Values
    directions: Values
    coefficients: Values
    lags: int
    baselines: Values
    own: Values | None = None

    def apply(self, windows: Inputs, learned: Learned | None = None) -> Outcome:
        """Errors in units of the parts' baselines, the mean of their expectations, and the mean
        squared residual of the first part in scaled units.

        Args:
            learned: what something else makes of the first part's residuals.
        """
        errors, expected, window_errors = np.empty((3, len(windows), self.features))
        for first in range(0, len(windows), _AT_ONCE):
            part = slice(first, first + _AT_ONCE)
            rows = clip_tails(windows[part], self.length)
            predictions = self.predict(rows)
            newest = rows[:, -1, : self.features].copy()
            residuals = self._leave_residuals(rows)
            if learned is not None:
                residuals -= learned[part]
            expectations = np.concatenate([(newest - residuals[:, -1])[np.newaxis], predictions])
            errors[part] = add_parts(np.square(newest - expectations), self.baselines)
            expected[part] = expectations.mean(axis=0)
            np.einsum("wsf,wsf->wf", residuals, residuals, out=window_errors[part])
        window_errors /= self.length
        return Outcome(errors, expected, window_errors)

    def find_residuals(self, windows: Inputs) -> Values:
        """What the first part does not reconstruct of windows: (windows, length, features)."""
        return self._leave_residuals(clip_tails(windows, self.length))

    def _leave_residuals(self, rows: Values) -> Values:
        """Turn windows into what the first part does not reconstruct: (windows, length, features).

        It is done in place, and the mean is one more direction: of many windows, each pass over
        them costs nearly as much as the arithmetic.
        """
        flat = rows.reshape(len(rows), self.mean.size)
        weights = np.ones((len(rows), self.directions.shape[1] + 1))
        plane, offset = self._plane
        weights[:, :-1] = flat @ self.directions - offset
        flat -= weights @ plane
        return flat.reshape(rows.shape)[:, :, : self.features]

    @cached_property
    def _plane(self) -> tuple[Values, Values]:
        """The directions and the mean, (components + 1, length * columns), and the mean's weights
        in the directions, (components,).
        """
        return np.vstack([self.directions.T, self.mean]), self.mean @ self.directions

    def predict(self, rows: Values) -> Values:
        """The last sample from those before it, by the second part and by the third if there is
        one: (parts - 1, windows, features).
        """
        known = self.lags * rows.shape[2]
        before, conditions = rows[:, -1 - self.lags : -1], rows[:, -1, self.features :]
        together = before.reshape(len(rows), known) @ self.coefficients[1 : 1 + known]
        together += self.coefficients[0] + conditions @ self.coefficients[1 + known :]
        if self.own is None:
            return np.asarray(together[np.newaxis], np.float64)
        return np.stack([together, predict_own(before, conditions, self.own)])

    def measure_parts(self, windows: Inputs, learned: Learned | None = None) -> Values:
        """Each part's squared residual at the last sample: (parts, windows, features).

        Args:
            learned: as for `apply`.
        """
        found = np.empty((len(self.baselines), len(windows), self.features))
        for first in range(0, len(windows), _AT_ONCE):
            part = slice(first, first + _AT_ONCE)
            rows = clip_tails(windows[part], self.length)
            newest = rows[:, -1, : self.features].copy()
            found[1:, part] = newest - self.predict(rows)
            found[0, part] = self._leave_residuals(rows)[:, -1]
            if learned is not None:
                found[0, part] -= learned[part, -1]
        return np.square(found, out=found)


def predict_own(before: Values, conditions: Values, own: Values) -> Values:
    """The next sample of each feature by its own last ones: (..., features).

    Args:
        before: (..., lags, columns).
        conditions: of the next sample, (..., conditions).
        own: (..., 1 + lags + conditions, features), broadcast against the others.
    """
    lags, features = before.shape[-2], own.shape[-1]
    predicted = np.einsum("...lf,...lf->...f", before[..., :features], own[..., 1 : 1 + lags, :])
    predicted += own[..., 0, :]
    predicted += np.einsum("...c,...cf->...f", conditions, own[..., 1 + lags :, :])
    return np.asarray(predicted, np.float64)


def add_parts(squares: Values, baselines: Values) -> Values:
    """Squared residuals, (parts, windows, features), in units of each part, added up.

    Args:
        baselines: (parts,), or of each window's, (parts, windows).
    """
    units = baselines.reshape(len(baselines), -1, 1)
    return np.asarray((squares / units).sum(axis=0), np.float64)


def clip_tails(windows: Inputs, length: int) -> Values:
    """The last `length` samples of each window as float64, clipped to what can be squared."""
    tail = windows[:, windows.shape[1] - length :].astype(np.float64, order="C")
    flat = tail.reshape(-1)
    if not flat @ flat < _FARTHEST**2:  # the quickest way to learn that none is that far
        np.clip(tail, -_FARTHEST, _FARTHEST, out=tail)
    return tail

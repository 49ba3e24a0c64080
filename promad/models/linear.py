"""A linear pair: a projection of each window onto the main directions of normal windows, and a
prediction of the newest sample from those before it. Fits in seconds, without TensorFlow.

Good at: features that move together (a broken correlation leaves the plane), sudden jumps and
changes of level, and being there at once. Bad at: anomalies that a linear map explains too, as the
absence of a daily peak; relations that hold in one regime only; a slow drift, of which each step is
small and which the directions follow.

First part: principal components of whole windows (windows, length * columns), and of the difference
between a window and its projection the last sample's (Jolliffe 2002, "Principal Component
Analysis", section 10.1). Second part: a vector autoregression on the last `lags` samples, with a
ridge penalty (Lütkepohl 2005, "New Introduction to Multiple Time Series Analysis", section 2.2;
Hoerl and Kennard 1970). Each part's squared residual is divided by what its mean over the features
stays below for 99 % of training, and the two are added.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from promad.config import TrainingSettings
from promad.data.windows import Split, TailWindows, Windows, batches, cut_to
from promad.files import read_plain
from promad.models.base import Inputs, Outcome, Progress, SingleScoringMode, TrainingHistory
from promad.models.loading import LARGEST_FILE, read_arrays, refuse_unreadable

CODE_FREE_FILE = "linear.npz"
_ARRAYS = ("shape", "mean", "directions", "coefficients", "usual")

_BASELINE_QUANTILE = 0.99
_SMALLEST_BASELINE = 1e-6
_AT_ONCE = 128
"""Windows whose arrays are small enough to stay in a processor's cache."""

_FARTHEST = 1e6
"""Inputs are clipped to this many scaled units, so that no square overflows."""

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Linear(SingleScoringMode):
    """A fitted pair; all float64.

    Attributes:
        features: how many of the columns are reconstructed.
        length: samples per window.
        mean: of the flattened windows, (length * columns,).
        directions: orthonormal, (length * columns, components).
        coefficients: from 1, the last `lags` samples and the newest sample's conditions to the
            newest sample, (1 + lags * columns + conditions, features).
        lags: samples that the second part looks back.
        baselines: what each part's squared residual is divided by, (2,).
    """

    features: int
    length: int
    mean: Values
    directions: Values
    coefficients: Values
    lags: int
    baselines: Values

    def apply(self, windows: Inputs) -> Outcome:
        """Errors in units of both parts' baselines, the mean of both expectations, and the mean
        squared residual of the first part in scaled units.
        """
        errors, expected, window_errors = np.empty((3, len(windows), self.features))
        for first in range(0, len(windows), _AT_ONCE):
            part = slice(first, first + _AT_ONCE)
            rows = clip_tails(windows[part], self.length)
            prediction = self.predict(rows)
            newest = rows[:, -1, : self.features].copy()
            residuals = self._leave_residuals(rows)
            together = np.square(residuals[:, -1]) / self.baselines[0]
            in_time = np.square(newest - prediction) / self.baselines[1]
            errors[part] = together + in_time
            expected[part] = (newest - residuals[:, -1] + prediction) / 2
            np.einsum("wsf,wsf->wf", residuals, residuals, out=window_errors[part])
        window_errors /= self.length
        return Outcome(errors, expected, window_errors)

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

    def reconstruct(self, rows: Values) -> Values:
        """The windows projected onto the directions: (windows, length, features)."""
        flat = rows.reshape(len(rows), self.mean.size)
        projected = ((flat - self.mean) @ self.directions) @ self.directions.T + self.mean
        return projected.reshape(rows.shape)[:, :, : self.features]

    def predict(self, rows: Values) -> Values:
        """The last sample, from the ones before it: (windows, features)."""
        known = self.lags * rows.shape[2]
        lagged = rows[:, -1 - self.lags : -1].reshape(len(rows), known)
        predicted = lagged @ self.coefficients[1 : 1 + known] + self.coefficients[0]
        if self.features < rows.shape[2]:
            predicted += rows[:, -1, self.features :] @ self.coefficients[1 + known :]
        return np.asarray(predicted, np.float64)


def judge_residuals(
    actual: Values, reconstruction: Values, prediction: Values, baselines: Values
) -> Outcome:
    """What both parts make of windows.

    Args:
        actual, reconstruction: (windows, length, features).
        prediction: of the last samples, (windows, features).
        baselines: of both parts, (2,), or of each window's, (windows, 2).
    """
    residuals = np.square(actual - reconstruction)
    together = residuals[:, -1] / baselines[..., :1]
    in_time = np.square(actual[:, -1] - prediction) / baselines[..., 1:]
    expected = (reconstruction[:, -1] + prediction) / 2
    return Outcome(together + in_time, expected, residuals.mean(axis=1))


def clip_tails(windows: Inputs, length: int) -> Values:
    """The last `length` samples of each window as float64, clipped to what can be squared."""
    tail = windows[:, windows.shape[1] - length :].astype(np.float64, order="C")
    flat = tail.reshape(-1)
    if not flat @ flat < _FARTHEST**2:  # the quickest way to learn that none is that far
        np.clip(tail, -_FARTHEST, _FARTHEST, out=tail)
    return tail


def collect_known(rows: Values, features: int, lags: int) -> Values:
    """What the second part predicts the last sample from: (windows, 1 + lags * columns + ...)."""
    count = len(rows)
    before = rows[:, -1 - lags : -1].reshape(count, lags * rows.shape[2])
    return np.hstack([np.ones((count, 1)), before, rows[:, -1, features:]])


@dataclass(frozen=True)
class TrainedLinear:
    """The fitted pair. Its history has one entry: the residuals' mean squares on both parts."""

    model: Linear
    history: TrainingHistory
    settings: TrainingSettings

    @property
    def versions(self) -> dict[str, str]:
        return {"numpy": version("numpy")}

    def save(self, directory: Path, native_file_name: str) -> None:
        model = self.model
        with (directory / CODE_FREE_FILE).open("wb") as file:
            np.savez(
                file,
                shape=np.array([model.features, model.length, model.lags]),
                mean=model.mean,
                directions=model.directions,
                coefficients=model.coefficients,
                usual=model.baselines,
            )

    def refit(self, windows: Windows) -> TrainedLinear:
        """The same pair fitted to all of these windows, which takes seconds."""
        own = TailWindows(windows, self.model.length)
        model = _fit(own, self.model.features, self.settings)
        return TrainedLinear(model, self.history, self.settings)


def fit(
    split: Split, features: int, settings: TrainingSettings, seed: int, progress: Progress
) -> TrainedLinear:
    """Fit on `split.training`. Nothing is left to chance, so the seed changes nothing.

    Args:
        features: how many columns of the windows are to be reconstructed.
    """
    own = cut_to(split, settings.sequence_length)
    model = _fit(own.training, features, settings)
    losses = [_mean_error(model, windows) for windows in (own.training, own.validation)]
    progress(1, 1, losses[0], losses[1])
    return TrainedLinear(model, TrainingHistory((losses[0],), (losses[1],), 1), settings)


def load(directory: Path) -> Linear:
    """The model in a bundle's directory.

    Raises:
        BundleError: if the file is no such model.
    """
    path = directory / CODE_FREE_FILE
    with refuse_unreadable(path):
        found = read_arrays(BytesIO(read_plain(path, LARGEST_FILE)), _ARRAYS)
        features, length, lags = (int(value) for value in found["shape"])
        model = Linear(
            features,
            length,
            found["mean"],
            found["directions"],
            found["coefficients"],
            lags,
            found["usual"],
        )
        if not _is_consistent(model):
            raise ValueError("its arrays do not match")
    return model


def _is_consistent(model: Linear) -> bool:
    """Whether the shapes and signs are those of one pair."""
    width = model.mean.size // max(model.length, 1)
    known = 1 + model.lags * width + width - model.features
    return (
        min(model.features, model.length, model.lags, width) > 0
        and model.lags < model.length
        and model.features <= width
        and model.directions.ndim == 2
        and model.mean.shape == (model.length * width,)
        and model.directions.shape[:1] == model.mean.shape
        and model.coefficients.shape == (known, model.features)
        and model.baselines.shape == (2,)
        and bool((model.baselines > 0).all())
    )


def _fit(windows: Windows, features: int, settings: TrainingSettings) -> Linear:
    length, lags = windows.length, min(settings.linear.lags, windows.length - 1)
    mean, directions = _fit_directions(windows, settings.linear.components)
    coefficients = _fit_autoregression(windows, features, lags, settings.linear.ridge)
    unscaled = Linear(features, length, mean, directions, coefficients, lags, np.ones(2))
    return replace(unscaled, baselines=_fit_baselines(unscaled, windows))


def _iterate_batches(windows: Windows) -> Iterator[Values]:
    for batch in batches(windows):
        yield clip_tails(batch, windows.length)


def _fit_directions(windows: Windows, most: int) -> tuple[Values, Values]:
    """Mean and leading directions of the flattened windows; at most a quarter of all directions.

    With more, a window of a single feature would be reconstructed as it is.
    """
    size = windows.length * windows.width
    total, products = np.zeros(size), np.zeros((size, size))
    for rows in _iterate_batches(windows):
        flat = rows.reshape(len(rows), -1)
        total += flat.sum(axis=0)
        products += flat.T @ flat
    mean = total / len(windows)
    covariance = products / len(windows) - np.outer(mean, mean)
    directions = np.linalg.eigh(covariance).eigenvectors[:, ::-1]
    return mean, np.ascontiguousarray(directions[:, : max(1, min(most, size // 4))])


def _fit_autoregression(windows: Windows, features: int, lags: int, ridge: float) -> Values:
    """Coefficients that predict the last sample from those before; the constant is not shrunk."""
    size = 1 + lags * windows.width + windows.width - features
    products, targets = np.zeros((size, size)), np.zeros((size, features))
    for rows in _iterate_batches(windows):
        known = collect_known(rows, features, lags)
        products += known.T @ known
        targets += known.T @ rows[:, -1, :features]
    penalty = np.full(size, ridge)
    penalty[0] = ridge * 1e-9
    return np.asarray(np.linalg.solve(products + np.diag(penalty), targets), np.float64)


def _fit_baselines(model: Linear, windows: Windows) -> Values:
    """What each part's mean squared residual stays below for 99 % of training: (2,)."""
    means = [_mean_residuals(model, rows) for rows in _iterate_batches(windows)]
    found = np.quantile(np.concatenate(means), _BASELINE_QUANTILE, axis=0)
    return np.asarray(np.maximum(found, _SMALLEST_BASELINE), np.float64)


def _mean_residuals(model: Linear, rows: Values) -> Values:
    """Both parts' mean squared residual at the last sample: (windows, 2)."""
    actual = rows[:, -1, : model.features]
    both = (actual - model.reconstruct(rows)[:, -1], actual - model.predict(rows))
    return np.column_stack([np.square(residual).mean(axis=1) for residual in both])


def _mean_error(model: Linear, windows: Windows) -> float:
    """The mean squared residual of the first part over whole windows, as networks report theirs."""
    total = sum(float(model.apply(batch).window_errors.sum()) for batch in batches(windows))
    return total / (len(windows) * model.features)

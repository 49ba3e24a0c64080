"""LSTM forecaster: predicts each sample from those before it.

Good at: values that do not follow from their own past or from the commands that condition them,
jumps, broken cycles. Bad at: slow drifts, which a forecast follows, and features that are noise.

Hundman et al. 2018, "Detecting spacecraft anomalies using LSTMs and nonparametric dynamic
thresholding", KDD, section 3.1, with these departures. Every row of a training window, not its
last alone, is forecast from the rows before it, so that windows may start far apart. Farther
horizons, which only steady the training, weigh less. Validation comes after training in time
instead of being a random part of it. As in the published code the last weights are kept: later
data may differ so much that the first epochs look best. Several features share one network.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promad.config import TrainingSettings
from promad.data.windows import Split, cut_to
from promad.models.base import Inputs, Outcome, Progress, SingleScoringMode
from promad.models.loading import refuse_unreadable
from promad.models.onnx_session import (
    CODE_FREE_FILE,
    load_session,
    open_session,
    run_in_batches,
)
from promad.models.trained_network import (
    TrainedNetwork,
    check_equality,
    run_native,
    silence_native_messages,
    take_few,
)

_STARTS_PER_WINDOW = 4
_LEAST_IMPROVEMENT = 3e-4


@dataclass(frozen=True)
class LstmForecaster(SingleScoringMode):
    """A fitted forecaster, run by ONNX Runtime on one thread.

    `features` columns of a window's last row are forecast from the `history` rows before it; the
    other columns only condition the model.
    """

    session: Any
    history: int
    features: int

    @property
    def length(self) -> int:
        return self.history + 1

    def forecast(self, windows: Inputs) -> NDArray[np.float32]:
        """What each window's last row should hold: float32 (windows, features)."""
        before = np.ascontiguousarray(windows[:, -1 - self.history : -1])
        return run_in_batches(self.session, before)[0]

    def apply(self, windows: Inputs) -> Outcome:
        """Per feature the squared error of the forecast of the last sample, and the forecast."""
        expected = self.forecast(windows).astype(np.float64)
        errors = np.square(windows[:, -1, : self.features] - expected)
        return Outcome(errors, expected, errors)


def fit(
    split: Split, features: int, settings: TrainingSettings, seed: int, progress: Progress
) -> TrainedNetwork[LstmForecaster]:
    """Fit on `split.training`, stop by `split.validation`; the same seed gives the same model.

    Args:
        features: how many columns of the windows are to be forecast.
    """
    from promad.models.lstm_onnx import forecaster_to_onnx

    with silence_native_messages():
        from promad.models.forecaster_training import build_network, forecast_loss
        from promad.models.training import Course, plan_with_adam, train_network

    split = cut_to(split, settings.sequence_length)
    length, width = split.training.length, split.training.width
    network = build_network(width, features, settings, seed)
    loss = forecast_loss(network, length, features, settings.lstm_forecaster.n_predictions)
    stride = max(1, length // _STARTS_PER_WINDOW)
    course = Course(stride, _LEAST_IMPROVEMENT, best_kept=False)
    plan = plan_with_adam(loss, settings.learning_rate, course)
    history = train_network(network, plan, split, settings, seed, progress)
    onnx_bytes = forecaster_to_onnx(network.get_weights(), length - 1, features)
    model = LstmForecaster(open_session(onnx_bytes), length - 1, features)
    few = take_few(split.validation)
    native = run_native(network, few[:, :-1])[:, -1, :features]
    check_equality(model.forecast(few), native)
    return TrainedNetwork(model, history, network, onnx_bytes)


def load(directory: Path) -> LstmForecaster:
    """The model in a bundle's directory, from its code-free form.

    Raises:
        BundleError: if the file is no such model.
    """
    path = directory / CODE_FREE_FILE
    session = load_session(path)
    with refuse_unreadable(path):
        history, features = session.get_inputs()[0].shape[1], session.get_outputs()[0].shape[-1]
        return LstmForecaster(session, int(history), int(features))

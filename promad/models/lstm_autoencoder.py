"""LSTM autoencoder: reconstructs a window from a narrow state that it was squeezed into.

Good at: features that move together, daily shapes, a relation that breaks while each value stays
in its usual range. Bad at: anomalies that are merely rare values of a smooth feature, and short
spikes in long windows, which the mean over the window dilutes.

Malhotra et al. 2016, "LSTM-based Encoder-Decoder for Multi-sensor Anomaly Detection", section 2,
with these departures: the decoder is fed with the repeated latent state rather than its own output;
tanh throughout and a linear output, which can follow a feature beyond what training saw.

Preset `original` has two layers on each side, by the keys `lstm_units_*`, and is fitted to the mean
squared error of every window in every epoch. Preset `improved` has one layer of
`lstm_units_encoder1`, a dense latent state of `lstm_units_encoder2_latent` and one layer of
`lstm_units_decoder2`. It clips what it reads, so that what is far away cannot be copied through,
while the error is taken against what was measured and keeps the overshoot. It is trained with
noise, on Huber's error, on every third of the overlapping windows in each epoch. Its decoder sees
the conditions, which the latent state then need not carry.
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
    silence_native_messages,
    take_few,
)


@dataclass(frozen=True)
class LstmAutoencoder(SingleScoringMode):
    """A fitted autoencoder, run by ONNX Runtime on one thread.

    `features` columns of a window's last `length` rows are reconstructed; the other columns only
    condition the model.
    """

    session: Any
    length: int
    features: int

    def reconstruct(self, windows: Inputs) -> NDArray[np.float32]:
        """The windows as the model reconstructs them: float32 (windows, length, features)."""
        return run_in_batches(self.session, windows)[0]

    def apply(self, windows: Inputs) -> Outcome:
        """Per feature the squared errors at the last sample and over all, and the reconstruction.

        Of longer windows the last rows are taken.
        """
        windows = windows[:, -self.length :]
        found = self.reconstruct(windows)
        squares = np.square(windows[:, :, : self.features] - found, dtype=np.float64)
        return Outcome(squares[:, -1], found[:, -1].astype(np.float64), squares.mean(axis=1))


def fit(
    split: Split, features: int, settings: TrainingSettings, seed: int, progress: Progress
) -> TrainedNetwork[LstmAutoencoder]:
    """Fit on `split.training`, stop by `split.validation`; the same seed gives the same model.

    Args:
        features: how many columns of the windows are to be reconstructed.
    """
    with silence_native_messages():
        from promad.models.autoencoder_training import PRESETS
        from promad.models.training import plan_with_adam, train_network

    split = cut_to(split, settings.sequence_length)
    length, width = split.training.length, split.training.width
    preset = PRESETS[settings.preset]
    network = preset.build(length, width, features, settings, seed)
    loss = preset.loss(network, features)
    plan = plan_with_adam(loss, settings.learning_rate, preset.course)
    history = train_network(network, plan, split, settings, seed, progress)
    onnx_bytes = preset.to_onnx(network.get_weights(), length, features)
    model = LstmAutoencoder(open_session(onnx_bytes), length, features)
    few = take_few(split.validation)
    check_equality(model.reconstruct(few), network(few).numpy())
    return TrainedNetwork(model, history, network, onnx_bytes)


def load(directory: Path) -> LstmAutoencoder:
    """The model in a bundle's directory, from its code-free form.

    Raises:
        BundleError: if the file is no such model.
    """
    path = directory / CODE_FREE_FILE
    session = load_session(path)
    with refuse_unreadable(path):
        _, length, features = session.get_outputs()[0].shape
        return LstmAutoencoder(session, int(length), int(features))

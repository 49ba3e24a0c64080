"""A fitted LSTM autoencoder at work; `lstm_autoencoder` says what it is for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promad.models.base import Inputs, Outcome, SingleScoringMode
from promad.models.onnx_session import run_in_batches


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

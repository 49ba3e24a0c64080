"""The autoencoder's preset `residual`: a linear model, and a network for what it leaves.

The linear parts (`linear_parts`) are the base. The network reconstructs what the projection leaves
of a window, and its newest samples are hidden from it: it has to fill them in from those before,
so it cannot pass an anomaly on. Of each feature a share of the reconstruction is used, the share
that lowers the error most on the validation part, 0 where none does. So where there is nothing to
learn, the model is the linear one. (Lai et al. 2018, "Modeling long- and short-term temporal
patterns with deep neural networks", SIGIR, section 3.5, on a linear model beside a network. A share
is a least-squares slope, held between 0 and 1.)

The shares are part of the network's last layer. A bundle holds both models, or the linear one alone
where the network was left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from promad.config.settings import LinearSettings
from promad.data.windows import TailWindows, Windows, batches
from promad.models.autoencoder import LstmAutoencoder
from promad.models.base import Inputs, Outcome, SingleScoringMode, TrainingHistory
from promad.models.linear import TrainedLinear
from promad.models.linear_fitting import Learn, cross_fit, fit_parts
from promad.models.linear_parts import Linear
from promad.models.trained_network import TrainedNetwork

_HIDDEN, _HIDDEN_SHARE = 3, 0.25
"""The newest samples, which the network does not see: so many, or this share of short windows."""
_LEAST_GAIN = 1e-3
"""The share by which the network must lower a feature's squared error to be used for it."""

Values = NDArray[np.float64]


@dataclass(frozen=True)
class ResidualAutoencoder(SingleScoringMode):
    """A linear model, and a network that reconstructs the residuals of its first part."""

    base: Linear
    network: LstmAutoencoder

    @property
    def length(self) -> int:
        return self.base.length

    def apply(self, windows: Inputs) -> Outcome:
        """As the linear model, with what the network reconstructs taken off the residuals."""
        own = windows[:, -self.length :]
        return self.base.apply(own, self.network.reconstruct(own))


@dataclass(frozen=True)
class TrainedResidual:
    """Both, fitted; the history is the network's."""

    base: TrainedLinear
    network: TrainedNetwork[LstmAutoencoder]

    @property
    def model(self) -> ResidualAutoencoder:
        return ResidualAutoencoder(self.base.model, self.network.model)

    @property
    def history(self) -> TrainingHistory:
        return self.network.history

    @property
    def versions(self) -> dict[str, str]:
        return self.base.versions | self.network.versions

    @property
    def linear_part(self) -> TrainedLinear:
        return self.base

    def save(self, directory: Path, native_file_name: str) -> None:
        self.base.save(directory, native_file_name)
        self.network.save(directory, native_file_name)

    def refit(self, windows: Windows) -> TrainedResidual:
        """The same with the linear model fitted to all of these windows."""
        return self._with_base(fit_parts(*self._describe_fit(windows)))

    def cross_fit(self, windows: Windows) -> tuple[TrainedResidual, Values] | None:
        """As that of the linear model; the network stays as it is."""
        found = cross_fit(*self._describe_fit(windows))
        return None if found is None else (self._with_base(found[0]), found[1])

    def _describe_fit(self, windows: Windows) -> tuple[Windows, int, LinearSettings, Learn]:
        own, base = TailWindows(windows, self.base.model.length), self.base
        return own, base.model.features, base.settings.linear, self.network.model.reconstruct

    def _with_base(self, model: Linear) -> TrainedResidual:
        return replace(self, base=replace(self.base, model=model))


def find_shown(length: int, width: int, features: int) -> NDArray[np.float32]:
    """1 for what the network sees of a window, 0 for the newest samples: (length, width).

    Conditions are not hidden.
    """
    shown = np.ones((length, width), np.float32)
    shown[length - min(_HIDDEN, max(1, int(length * _HIDDEN_SHARE))) :, :features] = 0.0
    return shown


def find_shares(base: Linear, learn: Learn, windows: Windows) -> NDArray[np.float32]:
    """How much of what the network reconstructs is used for each feature: (features,), 0 to 1."""
    squares = np.zeros((3, base.features))
    for batch in batches(windows):
        left = base.find_residuals(batch)[:, -1]
        found = learn(batch)[:, -1].astype(np.float64)
        squares += [(left * left).sum(axis=0), (left * found).sum(axis=0), (found**2).sum(axis=0)]
    before, product, own = squares
    shares = np.clip(product / np.maximum(own, np.finfo(np.float32).tiny), 0.0, 1.0)
    after = before - 2 * shares * product + shares**2 * own
    return np.where(after < (1 - _LEAST_GAIN) * before, shares, 0.0).astype(np.float32)

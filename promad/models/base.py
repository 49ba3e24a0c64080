"""What every model promises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Inputs = NDArray[np.float32]

Progress = Callable[[int, int, float, float], None]
"""Called after each epoch: epoch from 1, epochs at most, training loss, validation loss."""


@dataclass(frozen=True)
class Outcome:
    """What a model makes of windows; both float64 (windows, features), in scaled units.

    Attributes:
        errors: how badly each feature was reproduced: at least 0, higher is worse.
        expected: what the model would have had at each window's last sample.
    """

    errors: NDArray[np.float64]
    expected: NDArray[np.float64]


class Model(Protocol):
    """A fitted model; applying it changes nothing, and each window is judged by itself."""

    def apply(self, windows: Inputs) -> Outcome:
        """Errors and expected values of windows, float32 (windows, length, width) without NaN."""
        ...


@dataclass(frozen=True)
class TrainingHistory:
    """Mean squared error after each epoch, on both parts; `best_epoch` counts from 1."""

    training_loss: tuple[float, ...]
    validation_loss: tuple[float, ...]
    best_epoch: int


class Trained(Protocol):
    """What fitting returns: the model, how it came about, and how to keep it."""

    @property
    def model(self) -> Model: ...

    @property
    def history(self) -> TrainingHistory: ...

    @property
    def versions(self) -> dict[str, str]:
        """The versions of the libraries that did the fitting."""
        ...

    def save(self, directory: Path, native_file_name: str) -> None:
        """Write the code-free form that `load` reads, and the training library's own file."""
        ...

"""What every model promises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from promad.data.windows import Windows

Inputs = NDArray[np.float32]

Progress = Callable[[int, int, float, float], None]
"""Called after each epoch: epoch from 1, epochs at most, training loss, validation loss."""


@dataclass(frozen=True)
class Outcome:
    """What a model makes of windows; all float64.

    Attributes:
        errors: how badly each feature's last sample was reconstructed or predicted, squared, so at
            least 0, higher is worse: (windows, features), or of a fusion its members' side by
            side, (windows, members * features). The unit is the model's own, scaled units squared
            where it does not say otherwise; scoring divides by the baseline in training.
        expected: what the model would have had at each window's last sample, (windows, features)
            in scaled units.
        window_errors: the mean squared error of each feature over the whole window, (windows,
            features); the same as `errors` where a model looks at the last sample alone.
    """

    errors: NDArray[np.float64]
    expected: NDArray[np.float64]
    window_errors: NDArray[np.float64]


class Model(Protocol):
    """A fitted model; applying it changes nothing, and each window is judged by itself."""

    @property
    def length(self) -> int:
        """How many of a window's last samples it looks at."""
        ...

    def apply(self, windows: Inputs) -> Outcome:
        """Errors and expected values of windows, float32 (windows, length, width) without NaN."""
        ...

    @property
    def scoring_modes(self) -> tuple[str, ...]:
        """The ways to take errors that can be asked for; empty where there is one way only."""
        ...

    @property
    def scoring_mode(self) -> str | None:
        """The mode in use; None where there is one way only."""
        ...

    def in_scoring_mode(self, mode: str) -> Model:
        """The same model in another of its `scoring_modes`."""
        ...


@runtime_checkable
class GroupedModel(Model, Protocol):
    """A model with weights of its own for each group that was trained on."""

    def apply_groups(self, windows: Inputs, groups: NDArray[np.int64]) -> Outcome:
        """As `apply`, each window by the weights of its group, int64 (windows,); -1 has none."""
        ...

    def of_group(self, row: int) -> Model:
        """The model of one group; the pooled one for -1."""
        ...


class SingleScoringMode:
    """The scoring modes of a model that takes its errors in one way only."""

    scoring_modes: tuple[str, ...] = ()
    scoring_mode: str | None = None

    def in_scoring_mode(self, mode: str) -> Model:
        """Never anything: there is no mode to choose.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"{type(self).__name__} has no scoring mode {mode}")


@dataclass(frozen=True)
class TrainingHistory:
    """The loss after each epoch, on both parts; the weights of `best_epoch`, from 1, are kept."""

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

    def refit(self, windows: Windows) -> Trained:
        """The same fitted to all windows where that takes seconds; itself where it does not."""
        ...


@runtime_checkable
class Completed(Trained, Protocol):
    """A network that completes a linear model."""

    @property
    def linear_part(self) -> Trained:
        """The linear model alone, as it was fitted."""
        ...


@runtime_checkable
class CrossFitted(Trained, Protocol):
    """What also judges the windows it is fitted to as if it had not seen them."""

    def cross_fit(self, windows: Windows) -> tuple[Trained, NDArray[np.float64]] | None:
        """The same fitted to all windows, and their errors by fits that have not seen them.

        None if the windows are too few; the errors are as in `Outcome`, of windows in order of
        time.
        """
        ...

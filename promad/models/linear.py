"""`linear`: three linear parts, see `linear_parts`, in a file of plain arrays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.metadata import version
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from promad.config import TrainingSettings
from promad.data.windows import Split, TailWindows, Windows, batches, cut_to
from promad.files import read_plain
from promad.models.base import Progress, TrainingHistory
from promad.models.linear_fitting import cross_fit, fit_parts
from promad.models.linear_parts import Linear
from promad.models.loading import LARGEST_FILE, read_arrays, refuse_unreadable

CODE_FREE_FILE = "linear.npz"
_ARRAYS = ("shape", "mean", "directions", "coefficients", "usual")
_OWN = "own"

Values = NDArray[np.float64]


@dataclass(frozen=True)
class TrainedLinear:
    """The fitted parts. The history has one entry: the residuals' mean squares on both parts."""

    model: Linear
    history: TrainingHistory
    settings: TrainingSettings

    @property
    def versions(self) -> dict[str, str]:
        return {"numpy": version("numpy")}

    def save(self, directory: Path, native_file_name: str) -> None:
        model = self.model
        own = {} if model.own is None else {_OWN: model.own}
        with (directory / CODE_FREE_FILE).open("wb") as file:
            np.savez(
                file,
                allow_pickle=False,
                shape=np.array([model.features, model.length, model.lags]),
                mean=model.mean,
                directions=model.directions,
                coefficients=model.coefficients,
                usual=model.baselines,
                **own,
            )

    def refit(self, windows: Windows) -> TrainedLinear:
        """The same fitted to all of these windows, which takes seconds."""
        own = TailWindows(windows, self.model.length)
        model = fit_parts(own, self.model.features, self.settings.linear)
        return replace(self, model=model)

    def cross_fit(self, windows: Windows) -> tuple[TrainedLinear, Values] | None:
        """The same fitted to all of these windows, and their errors by a fit without them.

        None if they are too few; see `linear_fitting.cross_fit`.
        """
        own = TailWindows(windows, self.model.length)
        found = cross_fit(own, self.model.features, self.settings.linear)
        return None if found is None else (replace(self, model=found[0]), found[1])


def fit(
    split: Split, features: int, settings: TrainingSettings, seed: int, progress: Progress
) -> TrainedLinear:
    """Fit on `split.training`. Nothing is left to chance, so the seed changes nothing.

    Args:
        features: how many columns of the windows are to be reconstructed.
    """
    own = cut_to(split, settings.sequence_length)
    model = fit_parts(own.training, features, settings.linear)
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
        found = read_arrays(BytesIO(read_plain(path, LARGEST_FILE)), _ARRAYS, (_OWN,))
        features, length, lags = (int(value) for value in found["shape"])
        model = Linear(
            features,
            length,
            found["mean"],
            found["directions"],
            found["coefficients"],
            lags,
            found["usual"],
            found.get(_OWN),
        )
        if not _is_consistent(model):
            raise ValueError("its arrays do not match")
    return model


def _is_consistent(model: Linear) -> bool:
    """Whether the shapes and signs are those of one model."""
    width = model.mean.size // max(model.length, 1)
    own = (1 + model.lags + width - model.features, model.features)
    known = 1 + model.lags * width + width - model.features
    return (
        min(model.features, model.length, model.lags, width) > 0
        and model.lags < model.length
        and model.features <= width
        and model.directions.ndim == 2
        and model.mean.shape == (model.length * width,)
        and model.directions.shape[:1] == model.mean.shape
        and model.coefficients.shape == (known, model.features)
        and model.baselines.shape == (2 if model.own is None else 3,)
        and (model.own is None or model.own.shape == own)
        and bool((model.baselines > 0).all())
    )


def _mean_error(model: Linear, windows: Windows) -> float:
    """The mean squared residual of the first part over whole windows, as networks report theirs."""
    total = sum(float(model.apply(batch).window_errors.sum()) for batch in batches(windows))
    return total / (len(windows) * model.features)

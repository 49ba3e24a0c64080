"""The two plots in a bundle; they need matplotlib, which only an extra installs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from promad.models import TrainingHistory

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_history(history: TrainingHistory, path: Path) -> None:
    """Write training and validation loss per epoch as PNG, with the best epoch marked."""
    figure = _open_figure()
    axes = figure.subplots()
    epochs = np.arange(1, len(history.training_loss) + 1)
    axes.plot(epochs, history.training_loss, label="training")
    axes.plot(epochs, history.validation_loss, label="validation")
    axes.axvline(history.best_epoch, color="gray", linestyle=":", label="best epoch")
    axes.set(
        title="Loss per epoch", xlabel="epoch", ylabel="mean squared error (scaled)", yscale="log"
    )
    axes.legend(loc="upper right")
    figure.savefig(path, dpi=120)


def draw_histogram(scores: NDArray[np.float64], threshold: float, path: Path) -> None:
    """Write a histogram of scores as PNG, with the threshold marked."""
    figure = _open_figure()
    axes = figure.subplots()
    edges = _edges(scores, threshold)
    axes.hist(np.maximum(scores, edges[0]), bins=edges.tolist(), color="tab:blue")
    axes.axvline(threshold, color="tab:red", label=f"threshold {threshold:.4g}")
    axes.set(
        title="Scores of the training and validation windows",
        xlabel="score",
        ylabel="windows",
        xscale="log",
        yscale="log",
    )
    axes.legend(loc="upper right")
    figure.savefig(path, dpi=120)


def _open_figure() -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(8, 4.5), layout="constrained")


def _edges(scores: NDArray[np.float64], threshold: float) -> NDArray[np.float64]:
    """Bins of equal width on a logarithmic axis, up to the threshold or the highest score.

    The first bin includes all scores six decades or more below the highest one.
    """
    highest = max(float(scores.max()), threshold)
    positive = scores[scores > scores.max() * 1e-6]
    lowest = float(positive.min()) if len(positive) else highest
    return np.geomspace(lowest / 1.1, highest * 1.1, 80)

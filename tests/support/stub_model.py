"""A model in a few lines of numpy: it draws each feature as its mean over the window.

It stands in for a real one where a test is about what happens around the model.
"""

from dataclasses import dataclass

import numpy as np

from promad.models import Outcome, SingleScoringMode, TrainingHistory


@dataclass(frozen=True)
class MeanOfWindow(SingleScoringMode):
    features: int

    def apply(self, windows):
        values = windows[:, :, : self.features].astype(np.float64)
        expected = values.mean(axis=1)
        squares = np.square(values - expected[:, np.newaxis])
        return Outcome(squares[:, -1].copy(), expected, squares.mean(axis=1))


@dataclass(frozen=True)
class Trained:
    model: MeanOfWindow
    history: TrainingHistory
    versions = {"stub": "1"}  # noqa: RUF012

    def save(self, directory, native_file_name):
        (directory / "stub.txt").write_text(str(self.model.features))
        (directory / native_file_name).write_text("for the training library")

    def refitted(self, windows):
        return self


def fit(split, features, settings, seed, progress):
    progress(1, settings.epochs, 0.5, 0.25)
    return Trained(MeanOfWindow(features), TrainingHistory((0.5,), (0.25,), 1))


def load(directory):
    return MeanOfWindow(int((directory / "stub.txt").read_text()))

"""A model in a few lines of numpy: it expects each feature's mean over the window.

It stands in for a real one where a test is about what happens around the model.
"""

from dataclasses import dataclass

import numpy as np

from promad.models import Outcome, SingleScoringMode, TrainingHistory

CODE_FREE_FILE = "stub.txt"


@dataclass(frozen=True)
class MeanOfWindow(SingleScoringMode):
    features: int
    length: int

    def apply(self, windows):
        values = windows[:, -self.length :, : self.features].astype(np.float64)
        expected = values.mean(axis=1)
        squares = np.square(values - expected[:, np.newaxis])
        return Outcome(squares[:, -1].copy(), expected, squares.mean(axis=1))


@dataclass(frozen=True)
class Trained:
    model: MeanOfWindow
    history: TrainingHistory
    versions = {"stub": "1"}  # noqa: RUF012

    def save(self, directory, native_file_name):
        (directory / CODE_FREE_FILE).write_text(f"{self.model.features} {self.model.length}")
        (directory / native_file_name).write_text("for the training library")

    def refit(self, windows):
        return self


def fit(split, features, settings, seed, progress):
    progress(1, settings.epochs, 0.5, 0.25)
    model = MeanOfWindow(features, split.training.length)
    return Trained(model, TrainingHistory((0.5,), (0.25,), 1))


def load(directory):
    return MeanOfWindow(*map(int, (directory / CODE_FREE_FILE).read_text().split()))

"""Several models as one: each judges the same windows, and scoring puts their scores together.

Good at: not depending on one model's blind spot; what one of them sees clearly stands out, and what
none sees much of stays low. Bad at: nothing that its members are all bad at; and it costs what they
cost together.

The score is the mean over the members of log(1 + s), with s the member's own score in units of
its baseline in training. The logarithm keeps a member that sees one thing enormously large
from deciding alone. (Aggarwal and Sathe 2015, "Theoretical foundations and algorithms for outlier
ensembles", SIGKDD Explorations 17(1), section 4, on averaging normalised scores.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np

from promad.config import TrainingSettings
from promad.data.windows import Split, TailWindows, Windows, cut_to
from promad.errors import BundleError
from promad.models.base import (
    Inputs,
    Model,
    Outcome,
    Progress,
    SingleScoringMode,
    Trained,
    TrainingHistory,
)

MODULES: Mapping[str, str] = {
    "linear": "promad.models.linear",
    "lstm_autoencoder": "promad.models.lstm_autoencoder",
    "lstm_forecaster": "promad.models.lstm_forecaster",
    "tranad": "promad.models.tranad",
}
"""The models that may be members."""


@dataclass(frozen=True)
class Fusion(SingleScoringMode):
    """Fitted members, by name."""

    members: Mapping[str, Model]

    @property
    def length(self) -> int:
        return max(model.length for model in self.members.values())

    def apply(self, windows: Inputs) -> Outcome:
        """The members' errors side by side, (windows, members * features); of the rest the mean."""
        outcomes = [model.apply(windows) for model in self.members.values()]
        return Outcome(
            errors=np.concatenate([outcome.errors for outcome in outcomes], axis=1),
            expected=np.mean([outcome.expected for outcome in outcomes], axis=0),
            window_errors=np.mean([outcome.window_errors for outcome in outcomes], axis=0),
        )


@dataclass(frozen=True)
class TrainedFusion:
    """Trained members, by name; the history is that of the one that trained longest."""

    members: Mapping[str, Trained]

    @property
    def model(self) -> Fusion:
        return Fusion({name: trained.model for name, trained in self.members.items()})

    @property
    def history(self) -> TrainingHistory:
        histories = [trained.history for trained in self.members.values()]
        return max(histories, key=lambda history: len(history.training_loss))

    @property
    def versions(self) -> dict[str, str]:
        merged: dict[str, str] = {}
        for trained in self.members.values():
            merged.update(trained.versions)
        return merged

    def save(self, directory: Path, native_file_name: str) -> None:
        """Each member into a folder of its own name."""
        for name, trained in self.members.items():
            (directory / name).mkdir()
            trained.save(directory / name, native_file_name)

    def refit(self, windows: Windows) -> TrainedFusion:
        return TrainedFusion(
            {
                name: trained.refit(TailWindows(windows, trained.model.length))
                for name, trained in self.members.items()
            }
        )


def fit(
    split: Split, features: int, settings: TrainingSettings, seed: int, progress: Progress
) -> TrainedFusion:
    """Fit every member on the tails of the windows that are as long as its own windows are."""
    return TrainedFusion(
        {
            name: _fit_member(name, split, features, settings, seed, progress)
            for name in MODULES
            if name in settings.fusion.members
        }
    )


def _fit_member(
    name: str,
    split: Split,
    features: int,
    settings: TrainingSettings,
    seed: int,
    progress: Progress,
) -> Trained:
    own = settings.of_member(name)
    tails = cut_to(split, min(own.sequence_length, settings.sequence_length))
    trained: Trained = import_module(MODULES[name]).fit(tails, features, own, seed, progress)
    return trained


def load(directory: Path) -> Fusion:
    """The fusion in a bundle's directory, which has a folder for each member.

    Raises:
        BundleError: if a member's file is no such model, or there is no member.
    """
    names = [name for name in MODULES if (directory / name).is_dir()]
    if not names:
        raise BundleError(
            f"{directory}: not a readable model (no member has a folder there) — train again or "
            "roll back"
        )
    return Fusion({name: import_module(MODULES[name]).load(directory / name) for name in names})

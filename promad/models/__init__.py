"""Models: what normal windows look like.

A model is a module with `fit(split, features, settings, seed, progress) -> Trained` and
`load(directory) -> Model`. Adding one is a file, a line in MODELS, and the contract tests passing.
Keras and TensorFlow are imported by `fit` alone; a loaded model needs neither.
"""

from collections.abc import Mapping
from importlib import import_module
from types import ModuleType

from promad.models import fusion
from promad.models.base import (
    Model,
    Outcome,
    Progress,
    SingleScoringMode,
    Trained,
    TrainingHistory,
)

MODELS: Mapping[str, str] = {**fusion.MODULES, "fusion": "promad.models.fusion"}


def model_named(name: str) -> ModuleType:
    """The module of a model, imported when it is first asked for.

    Raises:
        KeyError: if MODELS has no such name.
    """
    return import_module(MODELS[name])


__all__ = [
    "MODELS",
    "Model",
    "Outcome",
    "Progress",
    "SingleScoringMode",
    "Trained",
    "TrainingHistory",
    "model_named",
]

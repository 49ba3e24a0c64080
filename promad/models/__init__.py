"""Models: what normal windows look like.

    Windows ─► fit ─► Trained ─► save ─► a bundle's directory ─► load ─► Model ─► apply ─► Outcome

    base                the protocols Model and Trained, Outcome and TrainingHistory
    linear              projection and autoregression, in numpy
    lstm_autoencoder    reconstructs whole windows; autoencoder_training, lstm_onnx
    lstm_forecaster     predicts the newest sample; forecaster_training, lstm_onnx
    tranad              reconstructs the newest sample twice; tranad_design, tranad_network,
                        tranad_onnx
    fusion              several of them as one
    training            the loop in which Keras fits every network
    trained_network     a network with its Keras original, and the check that its ONNX form is equal
    onnx_graph          writes ONNX
    onnx_session        runs it

A model is a module with `fit(split, features, settings, seed, progress) -> Trained` and
`load(directory) -> Model`. Adding one is a file, a line in `fusion.MODULES`, and the contract
tests passing. Keras, TensorFlow and ONNX are imported by `fit` alone; a loaded network needs ONNX
Runtime, a loaded linear model nothing but numpy.
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


def find_model(name: str) -> ModuleType:
    """The module of a model, imported when first asked for.

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
    "find_model",
]

"""Models: what normal windows look like.

    Windows ─► fit ─► Trained ─► save ─► a bundle's directory ─► load ─► Model ─► apply ─► Outcome

    base                the protocols Model and Trained, Outcome and TrainingHistory
    linear              projection and autoregression, in numpy
    linear_groups       the same with weights of each group's own
    lstm_autoencoder    reconstructs whole windows; autoencoder, residual_autoencoder,
                        autoencoder_training, lstm_onnx
    lstm_forecaster     predicts the newest sample; forecaster_training, lstm_onnx
    tranad              reconstructs the newest sample twice; tranad_design, tranad_network,
                        tranad_onnx
    fusion              several of them as one
    training            the loop in which Keras fits every network
    trained_network     a network with its Keras original, and the check that its ONNX form is equal
    loading             refuses what is damaged or does not fit
    onnx_graph          writes ONNX
    onnx_session        runs it

A model is a module with `fit(split, features, settings, seed, progress) -> Trained` and
`load(directory) -> Model`. Adding one is a file, a line in `fusion.MODULES`, and the contract
tests passing. Keras, TensorFlow and ONNX are imported by `fit` alone; a loaded network needs ONNX
Runtime, a loaded linear model nothing but numpy.
"""

from collections.abc import Collection, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType

from promad.models import fusion, linear
from promad.models.base import (
    Completed,
    CrossFitted,
    GroupedModel,
    Model,
    Outcome,
    Progress,
    SingleScoringMode,
    Trained,
    TrainingHistory,
)
from promad.models.linear_groups import GROUPS_FILE
from promad.models.loading import refuse_unreadable, require_fit

MODELS: Mapping[str, str] = {**fusion.MODULES, "fusion": "promad.models.fusion"}


def find_model(name: str) -> ModuleType:
    """The module of a model, imported when first asked for.

    Raises:
        KeyError: if MODELS has no such name.
    """
    return import_module(MODELS[name])


def load_model(
    name: str, directory: Path, shape: tuple[int, int], features: int, members: int | None
) -> Model:
    """The model in a bundle's directory, once it has worked on a window of zeros.

    Args:
        shape: of a window, (length, width).
        features: how many columns it must reconstruct.
        members: how many models' errors it must return side by side; None if they are not used.

    Raises:
        BundleError: if its files are damaged, or it does not fit.
    """
    model: Model = find_model(name).load(directory)
    with refuse_unreadable(directory):
        require_fit(model, shape, features, members)
    return model


def list_model_files(name: str, names: Collection[str]) -> set[str]:
    """The files in a bundle that a model is loaded from, relative names.

    Args:
        names: the files of the bundle. A fusion has the members that have a folder there.
    """
    if name != "fusion":
        return _list_own_files(MODELS[name], name, names)
    members = {member for member in fusion.MODULES if _has_folder(member, names)}
    found = set()
    for member in members:
        inside = {each.removeprefix(f"{member}/") for each in names}
        files = _list_own_files(fusion.MODULES[member], member, inside)
        found |= {f"{member}/{file}" for file in files}
    return found


def _list_own_files(module: str, name: str, names: Collection[str]) -> set[str]:
    own, others = import_module(module).CODE_FREE_FILE, set(names)
    if name == "lstm_autoencoder":  # a linear model, a network, or both
        return ({own, linear.CODE_FREE_FILE} & others) or {own}
    return {own} | ({GROUPS_FILE} & others if name == "linear" else set())


def _has_folder(member: str, names: Collection[str]) -> bool:
    return any(name.startswith(f"{member}/") for name in names)


__all__ = [
    "MODELS",
    "Completed",
    "CrossFitted",
    "GroupedModel",
    "Model",
    "Outcome",
    "Progress",
    "SingleScoringMode",
    "Trained",
    "TrainingHistory",
    "find_model",
    "list_model_files",
    "load_model",
]

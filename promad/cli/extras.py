"""The libraries that a command needs beyond the base installation, and the extra they are in."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from importlib.util import find_spec

from promad.errors import PromadError

NETWORK_LIBRARIES: Mapping[str, str] = {
    "keras": "Keras",
    "tensorflow": "TensorFlow",
    "onnx": "ONNX",
}
"""What training needs for any model but `linear`, by module."""

JAX_LIBRARIES: Mapping[str, str] = {"keras": "Keras", "jax": "JAX", "onnx": "ONNX"}
"""The same with `KERAS_BACKEND=jax`."""

DOWNLOAD_LIBRARIES: Mapping[str, str] = {"pooch": "pooch"}
"""What `datasets` needs."""


_OF_BACKENDS = {"tensorflow": (NETWORK_LIBRARIES, "train"), "jax": (JAX_LIBRARIES, "jax")}
"""By backend of Keras the libraries, and the extra that they are in."""


def require_training(command: str, models: Iterable[str]) -> None:
    """Refuse to train models whose libraries are not installed; nothing is imported.

    Raises:
        PromadError: naming the libraries and the extra.
    """
    networks = sorted(set(models) - {"linear"})
    if not networks:
        return
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    if backend not in _OF_BACKENDS:
        raise PromadError(
            f"{command}: KERAS_BACKEND is {backend}; promad trains with tensorflow or jax — set "
            "one of them, or unset it"
        )
    _require(f"{command} with model {', '.join(networks)}", *_OF_BACKENDS[backend])


def require_downloads(command: str) -> None:
    """Refuse to download data without the library that this needs."""
    _require(command, DOWNLOAD_LIBRARIES, "train")


def _require(what: str, libraries: Mapping[str, str], extra: str) -> None:
    missing = [name for module, name in libraries.items() if find_spec(module) is None]
    if missing:
        raise PromadError(
            f"{what} needs {', '.join(missing)} (not installed) "
            f"— pip install 'promad-exporter[{extra}]'"
        )

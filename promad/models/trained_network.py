"""A network as it comes from training: its Keras original beside its code-free form."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promad.data.windows import Windows
from promad.errors import BundleError
from promad.models.base import Model, TrainingHistory
from promad.models.onnx_session import CODE_FREE_FILE

_EQUAL_ON = 8
"""How many windows the two forms of a network are compared on."""


@dataclass(frozen=True)
class TrainedNetwork[M: Model]:
    """A fitted network with its Keras original."""

    model: M
    history: TrainingHistory
    keras_model: Any
    onnx_bytes: bytes

    @property
    def versions(self) -> dict[str, str]:
        import keras

        return {name: version(name) for name in (keras.backend.backend(), "keras", "onnx")}

    def save(self, directory: Path, native_file_name: str) -> None:
        (directory / CODE_FREE_FILE).write_bytes(self.onnx_bytes)
        self.keras_model.save(directory / native_file_name)

    def refit(self, windows: Windows) -> TrainedNetwork[M]:
        """Itself: fitting takes minutes, and to know when to stop takes windows held out."""
        return self


def run_native(network: Any, windows: NDArray[np.float32]) -> Any:
    """What the Keras original makes of windows, in full single precision: arrays as it has outputs.

    Without that, JAX rounds products on a GPU to fewer digits.
    """
    import keras

    if keras.backend.backend() == "jax":
        import jax

        with jax.default_matmul_precision("float32"):
            found = network(windows)
    else:
        found = network(windows)
    return keras.tree.map_structure(keras.ops.convert_to_numpy, found)


def take_few(windows: Windows) -> NDArray[np.float32]:
    """The windows to compare two forms of a network on: float32 (at most 8, length, width)."""
    return windows.take(np.arange(min(_EQUAL_ON, len(windows))))


def check_equality(code_free: NDArray[np.float32], native: NDArray[np.float32]) -> None:
    """Refuse two forms of one network whose outputs differ by more than 1e-5, or by that share of
    the largest output: single precision cannot do better where outputs are far from 1.

    Raises:
        BundleError: if they do.
    """
    difference = np.abs(code_free - native).max()
    allowed = 1e-5 * max(1.0, float(np.abs(native).max()))
    if not difference < allowed:
        raise BundleError(
            f"the ONNX model differs from the Keras model by {difference:.2g} ({allowed:.2g} is "
            "allowed) — train again with a smaller learning_rate"
        )


@contextmanager
def silence_native_messages() -> Iterator[None]:
    """Keep what TensorFlow's libraries write at import, past Python, off standard error."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(nowhere)
        os.close(kept)

"""A network in its code-free form, ONNX: kept beside its Keras original, run without TensorFlow."""

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

CODE_FREE_FILE = "model.onnx"

_BATCH = 256


@dataclass(frozen=True)
class TrainedNetwork[M: Model]:
    """A fitted network with its Keras original."""

    model: M
    history: TrainingHistory
    keras_model: Any
    onnx_bytes: bytes

    @property
    def versions(self) -> dict[str, str]:
        return {name: version(name) for name in ("tensorflow", "keras", "onnx")}

    def save(self, directory: Path, native_file_name: str) -> None:
        (directory / CODE_FREE_FILE).write_bytes(self.onnx_bytes)
        self.keras_model.save(directory / native_file_name)

    def refitted(self, windows: Windows) -> TrainedNetwork[M]:
        """Itself: fitting takes minutes, and to know when to stop takes windows held out."""
        return self


def open_session(onnx_bytes: bytes) -> Any:
    """An ONNX Runtime session on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False
    return onnxruntime.InferenceSession(onnx_bytes, options, providers=["CPUExecutionProvider"])


def load_session(path: Path) -> Any:
    """The session of a file in a bundle.

    Raises:
        BundleError: if the file is no such model.
    """
    from onnxruntime.capi import onnxruntime_pybind11_state as refusal

    try:
        return open_session(path.read_bytes())
    except (
        OSError,
        refusal.Fail,
        refusal.InvalidArgument,
        refusal.InvalidGraph,
        refusal.InvalidProtobuf,
        refusal.NotImplemented,
        refusal.RuntimeException,
    ) as error:
        raise BundleError(f"{path}: is no model ({error}) — train again or roll back") from error


def run_in_batches(session: Any, windows: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Every output of the session for all windows, float32 (windows, ...), in its own order."""
    if len(windows) == 0:
        shapes = [output.shape[1:] for output in session.get_outputs()]
        return [np.empty((0, *shape), np.float32) for shape in shapes]
    parts = [
        session.run(None, {"window": windows[first : first + _BATCH]})
        for first in range(0, len(windows), _BATCH)
    ]
    return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]


def insist_on_equality(drawn: NDArray[np.float32], natively: NDArray[np.float32]) -> None:
    """Refuse two forms of one model that disagree by more than 1e-5, or that share of the values.

    Single precision cannot do better where values far from 1 are drawn.

    Raises:
        BundleError: if they do.
    """
    difference = np.abs(drawn - natively).max()
    allowed = 1e-5 * max(1.0, float(np.abs(natively).max()))
    if not difference < allowed:
        raise BundleError(
            f"the code-free model differs from Keras by {difference:.2g} ({allowed:.2g} is "
            "allowed) — train again with a smaller learning_rate"
        )


@contextmanager
def native_messages_silenced() -> Iterator[None]:
    """Keep TensorFlow's greetings, which its libraries write past Python, off standard error."""
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

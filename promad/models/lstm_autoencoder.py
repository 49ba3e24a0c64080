"""LSTM autoencoder: squeezes a window through a narrow state and draws it again.

Good at: features that move together, daily shapes, a relation that breaks while each value stays
in its usual range. Bad at: anomalies that are merely rare values of a smooth feature, and short
spikes in long windows, which the mean over the window dilutes.

Malhotra et al. 2016, "LSTM-based Encoder-Decoder for Multi-sensor Anomaly Detection", section 2,
with these departures: two layers on each side, the decoder fed with the repeated latent state
rather than its own output, tanh throughout and a linear output, which can follow a feature beyond
what training saw.
"""

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

from promad.config import TrainingSettings
from promad.errors import BundleError
from promad.models.base import Inputs, Outcome, Progress, TrainingHistory
from promad.windows import Split

CODE_FREE_FILE = "model.onnx"
_BATCH = 256


@dataclass(frozen=True)
class LstmAutoencoder:
    """A fitted autoencoder, run by ONNX Runtime on one thread.

    `features` columns of the input are reproduced; the rest only condition the model.
    """

    session: Any
    features: int

    def reconstruct(self, windows: Inputs) -> NDArray[np.float32]:
        """The windows as the model draws them: float32 (windows, length, features)."""
        parts = [
            self.session.run(None, {"window": windows[first : first + _BATCH]})[0]
            for first in range(0, len(windows), _BATCH)
        ]
        return np.concatenate(parts) if parts else np.empty((0, 1, self.features), np.float32)

    def apply(self, windows: Inputs) -> Outcome:
        """Per feature the mean squared error over the window, and the drawn last sample."""
        drawn = self.reconstruct(windows)
        errors = np.square(windows[:, :, : self.features] - drawn, dtype=np.float64).mean(axis=1)
        return Outcome(errors, drawn[:, -1].astype(np.float64))


@dataclass(frozen=True)
class TrainedLstmAutoencoder:
    """The fitted autoencoder with its Keras original."""

    model: LstmAutoencoder
    history: TrainingHistory
    keras_model: Any
    onnx_bytes: bytes

    @property
    def versions(self) -> dict[str, str]:
        return {name: version(name) for name in ("tensorflow", "keras", "onnx")}

    def save(self, directory: Path, native_file_name: str) -> None:
        (directory / CODE_FREE_FILE).write_bytes(self.onnx_bytes)
        self.keras_model.save(directory / native_file_name)


def fit(
    split: Split, features: int, settings: TrainingSettings, seed: int, progress: Progress
) -> TrainedLstmAutoencoder:
    """Fit on `split.training`, stop by `split.validation`; the same seed gives the same model.

    Args:
        features: how many columns of the windows are to be reproduced.
    """
    from promad.models.lstm_onnx import to_onnx

    with _native_messages_silenced():
        from promad.models.training import build_network, train_network

    windows = split.training
    network = build_network(windows.length, windows.width, features, settings, seed)
    history = train_network(network, split, features, settings, seed, progress)
    onnx_bytes = to_onnx(network.get_weights(), windows.length, features)
    model = LstmAutoencoder(_session(onnx_bytes), features)
    _insist_on_equality(
        model, network, split.validation.take(np.arange(min(8, len(split.validation))))
    )
    return TrainedLstmAutoencoder(model, history, network, onnx_bytes)


@contextmanager
def _native_messages_silenced() -> Iterator[None]:
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


def load(directory: Path) -> LstmAutoencoder:
    """The model in a bundle's directory, from its code-free form.

    Raises:
        BundleError: if the file is no such model.
    """
    from onnxruntime.capi import onnxruntime_pybind11_state as refusal

    path = directory / CODE_FREE_FILE
    try:
        session = _session(path.read_bytes())
        features = session.get_outputs()[0].shape[-1]
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
    return LstmAutoencoder(session, int(features))


def _session(onnx_bytes: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False
    return onnxruntime.InferenceSession(onnx_bytes, options, providers=["CPUExecutionProvider"])


def _insist_on_equality(model: LstmAutoencoder, network: Any, windows: Inputs) -> None:
    """Refuse a model whose two forms disagree by more than 1e-5, or that share of what they draw.

    Single precision cannot do better where values far from 1 are drawn.
    """
    drawn = network(windows).numpy()
    difference = np.abs(model.reconstruct(windows) - drawn).max()
    allowed = 1e-5 * max(1.0, float(np.abs(drawn).max()))
    if not difference < allowed:
        raise BundleError(
            f"the code-free model differs from Keras by {difference:.2g} ({allowed:.2g} is "
            "allowed) — train again with a smaller learning_rate"
        )

"""The autoencoder's networks, one for each preset, and the losses they are trained on, in Keras."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from promad.config import TrainingSettings
from promad.models.compiled_steps import Loss
from promad.models.linear_parts import Linear
from promad.models.lstm_onnx import improved_autoencoder_to_onnx, original_autoencoder_to_onnx
from promad.models.onnx_graph import Weights
from promad.models.residual_autoencoder import find_shown
from promad.models.training import Course

LARGEST_INPUT = 10.0
"""How many units from 0 an improved network can see."""
_NOISE, _DROPOUT = 0.1, 0.1


def build_original(
    length: int, width: int, features: int, settings: TrainingSettings, seed: int
) -> keras.Model:
    """The network (batch, length, width) → (batch, length, features), first weights by `seed`."""
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.layers.Input((length, width)),
            keras.layers.LSTM(settings.lstm_units_encoder1, return_sequences=True),
            keras.layers.LSTM(settings.lstm_units_encoder2_latent),
            keras.layers.RepeatVector(length),
            keras.layers.LSTM(settings.lstm_units_decoder1, return_sequences=True),
            keras.layers.LSTM(settings.lstm_units_decoder2, return_sequences=True),
            keras.layers.TimeDistributed(keras.layers.Dense(features)),
        ]
    )


def build_improved(
    length: int, width: int, features: int, settings: TrainingSettings, seed: int
) -> keras.Model:
    """As `build_original`, with one LSTM layer on each side and a dense latent state.

    Inputs are clipped to `LARGEST_INPUT`. Training adds noise to the inputs and drops out some of
    the decoder's states. The decoder sees the conditions itself: the latent state need not carry
    them.
    """
    return _build_narrow(length, width, features, settings, seed, None)


def build_residual(
    length: int, width: int, features: int, settings: TrainingSettings, seed: int
) -> keras.Model:
    """As `build_improved`; the newest samples are hidden, and the first reconstruction is 0."""
    shown = find_shown(length, width, features)
    return _build_narrow(length, width, features, settings, seed, shown)


def _build_narrow(
    length: int,
    width: int,
    features: int,
    settings: TrainingSettings,
    seed: int,
    shown: NDArray[np.float32] | None,
) -> keras.Model:
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    window = layers.Input((length, width))
    read = keras.ops.clip(window, -LARGEST_INPUT, LARGEST_INPUT)
    if shown is not None:
        read = keras.ops.multiply(read, shown)
    state = layers.LSTM(settings.lstm_units_encoder1)(layers.GaussianNoise(_NOISE)(read))
    state = layers.Dense(settings.lstm_units_encoder2_latent)(state)
    state = layers.RepeatVector(length)(state)
    if width > features:
        state = layers.Concatenate()([state, read[:, :, features:]])
    state = layers.LSTM(settings.lstm_units_decoder2, return_sequences=True)(state)
    first = "glorot_uniform" if shown is None else "zeros"
    output = layers.Dense(features, kernel_initializer=first)
    return keras.Model(window, output(layers.Dropout(_DROPOUT)(state)))


def scale_output(network: keras.Model, shares: NDArray[np.float32]) -> None:
    """Multiply what the last layer gives for each feature by its share, (features,)."""
    kernel, bias = network.layers[-1].get_weights()
    network.layers[-1].set_weights([kernel * shares, bias * shares])


def squared_loss(network: keras.Model, features: int, base: Linear | None) -> Loss:
    """The mean squared error of the reconstruction, over whole windows."""

    def loss(windows: Any, training: bool) -> Any:
        reconstruction = network(windows, training=training)
        return ops.mean(ops.square(windows[:, :, :features] - reconstruction))

    return loss


def huber_loss(network: keras.Model, features: int, base: Linear | None) -> Loss:
    """Huber's error: squared up to one unit away, beyond it linear, so that bursts pull less."""

    def loss(windows: Any, training: bool) -> Any:
        return _huber(windows[:, :, :features] - network(windows, training=training))

    return loss


def residual_loss(network: keras.Model, features: int, base: Linear | None) -> Loss:
    """Huber's error of what the linear model's first part leaves; the newest sample counts twice.

    Once among the others, and once as much as all of them: it is the one that is judged.
    """
    if base is None:
        raise ValueError("there is no linear model")
    plane = ops.convert_to_tensor(base.directions, "float32")
    mean = ops.convert_to_tensor(base.mean, "float32")

    def loss(windows: Any, training: bool) -> Any:
        flat = ops.reshape(windows, [-1, len(base.mean)]) - mean
        left = flat - ops.matmul(ops.matmul(flat, plane), ops.transpose(plane))
        left = ops.reshape(left, ops.shape(windows))[:, :, :features]
        away = left - network(windows, training=training)
        return _huber(away) + _huber(away[:, -1])

    return loss


def _huber(away: Any) -> Any:
    away = ops.abs(away)
    return ops.mean(ops.where(away < 1.0, ops.square(away), 2.0 * away - 1.0))


@dataclass(frozen=True)
class Preset:
    """What sets a preset apart.

    Attributes:
        build: length, width, features, settings and seed to a network.
        loss: the network, features and the linear model beside it to what training lowers.
        course: which windows an epoch trains on.
        to_onnx: weights, length and features to the code-free form.
    """

    build: Callable[[int, int, int, TrainingSettings, int], keras.Model]
    loss: Callable[[keras.Model, int, Linear | None], Loss]
    course: Course
    to_onnx: Callable[[Weights, int, int], bytes]


def _residual_to_onnx(weights: Weights, length: int, features: int) -> bytes:
    shown = find_shown(length, int(weights[0].shape[0]), features)
    return improved_autoencoder_to_onnx(weights, length, features, LARGEST_INPUT, shown)


PRESETS: Mapping[str, Preset] = {
    "residual": Preset(
        build_residual,
        residual_loss,
        Course(stride=3, least_improvement=1e-3),
        _residual_to_onnx,
    ),
    "improved": Preset(
        build_improved,
        huber_loss,
        Course(stride=3),
        partial(improved_autoencoder_to_onnx, largest=LARGEST_INPUT),
    ),
    "original": Preset(build_original, squared_loss, Course(), original_autoencoder_to_onnx),
}

"""The autoencoder's networks, one for each preset, and the losses they are trained on, in Keras."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from promad.config import TrainingSettings
from promad.models.lstm_onnx import improved_autoencoder_to_onnx, original_autoencoder_to_onnx
from promad.models.onnx_graph import Weights
from promad.models.training import Course, Loss

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
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    window = layers.Input((length, width))
    read = keras.ops.clip(window, -LARGEST_INPUT, LARGEST_INPUT)
    state = layers.LSTM(settings.lstm_units_encoder1)(layers.GaussianNoise(_NOISE)(read))
    state = layers.Dense(settings.lstm_units_encoder2_latent)(state)
    state = layers.RepeatVector(length)(state)
    if width > features:
        state = layers.Concatenate()([state, read[:, :, features:]])
    state = layers.LSTM(settings.lstm_units_decoder2, return_sequences=True)(state)
    return keras.Model(window, layers.Dense(features)(layers.Dropout(_DROPOUT)(state)))


def squared_loss(network: keras.Model, features: int) -> Loss:
    """The mean squared error of the reconstruction, over whole windows."""

    def loss(windows: Any, training: bool) -> Any:
        reconstruction = network(windows, training=training)
        return tf.reduce_mean(tf.square(windows[:, :, :features] - reconstruction))

    return loss


def huber_loss(network: keras.Model, features: int) -> Loss:
    """Huber's error: squared up to one unit away, beyond it linear, so that bursts pull less."""

    def loss(windows: Any, training: bool) -> Any:
        away = tf.abs(windows[:, :, :features] - network(windows, training=training))
        return tf.reduce_mean(tf.where(away < 1.0, tf.square(away), 2.0 * away - 1.0))

    return loss


@dataclass(frozen=True)
class Preset:
    """What sets a preset apart.

    Attributes:
        build: length, width, features, settings and seed to a network.
        loss: the network and features to what training lowers.
        course: which windows an epoch trains on.
        to_onnx: weights, length and features to the code-free form.
    """

    build: Callable[[int, int, int, TrainingSettings, int], keras.Model]
    loss: Callable[[keras.Model, int], Loss]
    course: Course
    to_onnx: Callable[[Weights, int, int], bytes]


PRESETS: Mapping[str, Preset] = {
    "improved": Preset(
        build_improved,
        huber_loss,
        Course(stride=3),
        partial(improved_autoencoder_to_onnx, largest=LARGEST_INPUT),
    ),
    "original": Preset(build_original, squared_loss, Course(), original_autoencoder_to_onnx),
}

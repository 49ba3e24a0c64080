"""Building and fitting the network in Keras.

An epoch runs as a few calls into one compiled graph, each over a block of batches. That costs
less than a call per batch and lets the windows be gathered a block at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from promad.config import TrainingSettings
from promad.errors import DataError
from promad.models.base import Progress, TrainingHistory
from promad.windows import Split, Windows, batches, windows_per_batch

_BLOCK_WINDOWS = 2048
_FORWARD_BATCH = 256


def build_network(
    length: int, width: int, features: int, settings: TrainingSettings, seed: int
) -> keras.Model:
    """The network (batch, length, width) → (batch, length, features), weights drawn by `seed`."""
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


def train_network(
    network: keras.Model,
    split: Split,
    features: int,
    settings: TrainingSettings,
    seed: int,
    progress: Progress,
) -> TrainingHistory:
    """Fit in place until validation stops improving, and leave the best weights in the network.

    Raises:
        DataError: if the loss stops being a number.
    """
    train_block, error_of = _steps(network, features, settings.learning_rate)
    shuffle = np.random.default_rng(seed)
    training, validation = [], []
    best_loss, best_weights = np.inf, network.get_weights()
    for epoch in range(1, settings.epochs + 1):
        order = shuffle.permutation(len(split.training))
        training.append(_epoch(train_block, split.training, order, settings.batch_size))
        validation.append(_mean_error(error_of, split.validation))
        progress(epoch, settings.epochs, training[-1], validation[-1])
        if not np.isfinite([training[-1], validation[-1]]).all():
            raise DataError(
                f"the loss is no number in epoch {epoch} — use a smaller learning_rate "
                f"(now {settings.learning_rate:g}) or StandardScaler"
            )
        if validation[-1] < best_loss:
            best_loss, best_weights = validation[-1], network.get_weights()
        elif epoch - int(np.argmin(validation)) > settings.early_stopping_patience:
            break
    network.set_weights(best_weights)
    return TrainingHistory(tuple(training), tuple(validation), int(np.argmin(validation)) + 1)


Step = Callable[[tf.Tensor], tf.Tensor]


def _steps(network: keras.Model, features: int, learning_rate: float) -> tuple[Step, Step]:
    """The compiled steps: (steps, batch, length, width) → summed loss, and a batch's error."""
    optimizer = keras.optimizers.Adam(learning_rate)
    optimizer.build(network.trainable_variables)
    shape = [None, network.input_shape[1], network.input_shape[2]]

    def loss_of(windows: Any, training: bool) -> Any:
        drawn = network(windows, training=training)
        return tf.reduce_mean(tf.square(windows[:, :, :features] - drawn))

    @tf.function(input_signature=[tf.TensorSpec([None, *shape])])  # type: ignore[untyped-decorator]
    def train_block(block: Any) -> Any:
        total = tf.constant(0.0)
        for step in tf.range(tf.shape(block)[0]):
            with tf.GradientTape() as tape:
                loss = loss_of(block[step], training=True)
            gradients = tape.gradient(loss, network.trainable_variables)
            optimizer.apply_gradients(zip(gradients, network.trainable_variables, strict=True))
            total += loss
        return total

    error_of = tf.function(
        lambda windows: loss_of(windows, training=False), input_signature=[tf.TensorSpec(shape)]
    )
    return train_block, error_of


def _epoch(step: Step, windows: Windows, order: NDArray[np.int64], batch_size: int) -> float:
    """Train once on every window in `order`; the mean loss per batch."""
    total, steps = 0.0, 0
    for block in _blocks(windows, order, batch_size):
        total += float(step(tf.constant(block)))
        steps += len(block)
    return total / steps


def _blocks(
    windows: Windows, order: NDArray[np.int64], batch_size: int
) -> Iterator[NDArray[np.float32]]:
    """Float32 (steps, batch, length, width), every window once; the last batch may be small."""
    whole = len(order) // batch_size * batch_size
    per_block = max(1, windows_per_batch(windows, _BLOCK_WINDOWS) // batch_size) * batch_size
    for first in range(0, whole, per_block):
        chosen = order[first : min(first + per_block, whole)]
        gathered = windows.take(chosen)
        yield gathered.reshape(-1, batch_size, *gathered.shape[1:])
    if whole < len(order):
        yield windows.take(order[whole:])[np.newaxis]


def _mean_error(error_of: Step, windows: Windows) -> float:
    """The mean squared error over all windows."""
    total = 0.0
    for batch in batches(windows, _FORWARD_BATCH):
        total += float(error_of(tf.constant(batch))) * len(batch)
    return total / len(windows)

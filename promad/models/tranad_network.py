"""Building and fitting the TranAD network in Keras; `tranad` says what it is for.

All heads attend at once. A head has two numbers per row, so the numbers of all heads are kept as
two planes (batch, rows, heads), and the products of a query's row with a key's row are a broadcast
(batch, query rows, key rows, heads) with the heads innermost. A small matrix product per head, as
in Keras's own layer, takes many times as long.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from promad.config import TrainingSettings
from promad.models.compiled_steps import Loss
from promad.models.training import Course, TrainingPlan
from promad.models.tranad_design import Design, Measure, first_phase_weight, positional_encoding

_HIDDEN_UNITS = 16
_DROPOUT = 0.1
_WEIGHT_DECAY = 1e-5
_LARGEST_GRADIENT = 1.0
_EPOCHS_PER_DECAY, _DECAY = 5, 0.9


def build_network(design: Design, measure: Measure, length: int, seed: int) -> keras.Model:
    """Windows (batch, length, width) in outer units → both phases' outputs in the model's units.

    Each of the two outputs is (batch, features). `seed` decides the first weights.
    """
    keras.utils.set_random_seed(seed)
    window = layers.Input((length, measure.width))
    rows = layers.Normalization(mean=measure.low, variance=np.square(measure.span))(window)
    return keras.Model(window, _add_phases(ops.clip(rows, *design.limits), design, measure))


def _add_phases(rows: Any, design: Design, measure: Measure) -> list[Any]:
    """The network from normalised rows (batch, length, width) on."""
    features = measure.features
    seen = rows[:, :-1, :features]
    query = ops.concatenate([seen[:, -1], seen[:, -1]], axis=-1)
    offsets = ops.convert_to_tensor(positional_encoding(seen.shape[1], 2 * features)[np.newaxis])
    if measure.width > features:
        dense = layers.Dense(2 * features, use_bias=False, name="conditions")
        conditions = dense(rows[:, :, features:])
        offsets = ops.add(conditions[:, :-1], offsets)
        query = ops.add(query, conditions[:, design.judged])
    encoder = _Encoder(design, features, offsets)
    decoders = _Decoder("decoder1", design, features), _Decoder("decoder2", design, features)
    output = layers.Dense(features, activation="sigmoid", name="output")

    first = output(decoders[0](query, encoder(seen, ops.zeros_like(seen))))
    focus = ops.square(ops.subtract(ops.expand_dims(first, 1), seen))
    second = output(decoders[1](query, encoder(seen, focus)))
    return [first, second]


class _Encoder:
    """Rows and focus, both (batch, rows, features) → memory (batch, rows, 2 features)."""

    def __init__(self, design: Design, features: int, offsets: Any) -> None:
        self.offsets, self.root = offsets, features**0.5
        self.heads = layers.Dense(6 * features, name="encoder_heads")
        self.attended = layers.Dense(2 * features, name="encoder_attended")
        self.feed = _Feed("encoder", design, features)

    def __call__(self, seen: Any, focus: Any) -> Any:
        rows = ops.multiply(ops.concatenate([seen, focus], axis=-1), self.root)
        rows = _drop(ops.add(rows, self.offsets))
        planes = ops.split(self.heads(rows), 6, axis=-1)
        queries = [ops.expand_dims(plane, 2) for plane in planes[:2]]
        keys, values = _split_pairs([ops.expand_dims(plane, 1) for plane in planes[2:]])
        attended = self.attended(attend(queries, keys, values, axis=2))
        return self.feed(ops.add(rows, _drop(attended)))


class _Decoder:
    """A query (batch, 2 features) and a memory of rows → (batch, 2 features).

    A single row that attends to itself gets its own value, so that step has no queries and keys.
    """

    def __init__(self, name: str, design: Design, features: int) -> None:
        width = 2 * features
        self.value = layers.Dense(width, name=f"{name}_value")
        self.itself = layers.Dense(width, name=f"{name}_itself")
        self.query = layers.Dense(width, name=f"{name}_query")
        self.memory = layers.Dense(2 * width, name=f"{name}_memory")
        self.attended = layers.Dense(width, name=f"{name}_attended")
        self.feed = _Feed(name, design, features)

    def __call__(self, query: Any, memory: Any) -> Any:
        row = ops.add(query, _drop(self.itself(self.value(query))))
        planes = ops.split(self.query(row), 2, axis=-1)
        queries = [ops.expand_dims(plane, 1) for plane in planes]
        keys, values = _split_pairs(ops.split(self.memory(memory), 4, axis=-1))
        attended = self.attended(attend(queries, keys, values, axis=1))
        return self.feed(ops.add(row, _drop(attended)))


class _Feed:
    """The two dense layers after each attention, added to what they are given."""

    def __init__(self, name: str, design: Design, features: int) -> None:
        activation = "relu" if design.rectified else "linear"
        self.hidden = layers.Dense(_HIDDEN_UNITS, activation=activation, name=f"{name}_hidden")
        self.fed = layers.Dense(2 * features, name=f"{name}_fed")

    def __call__(self, rows: Any) -> Any:
        return ops.add(rows, _drop(self.fed(self.hidden(rows))))


def _drop(values: Any) -> Any:
    return layers.Dropout(_DROPOUT)(values)


def _split_pairs(planes: list[Any]) -> tuple[list[Any], list[Any]]:
    return planes[:2], planes[2:]


def attend(queries: list[Any], keys: list[Any], values: list[Any], axis: int) -> Any:
    """What each head of size 2 takes from the rows of memory: (..., 2 heads).

    Args:
        queries, keys, values: two planes each, the heads' first and second number, (..., heads);
            keys and values have the rows of memory along `axis`, queries a single one.
    """
    products = [ops.multiply(query, key) for query, key in zip(queries, keys, strict=True)]
    logits = ops.multiply(ops.add(*products), 0.5**0.5)
    powers = ops.exp(ops.subtract(logits, ops.max(logits, axis=axis, keepdims=True)))
    total = ops.sum(powers, axis=axis)
    sums = [ops.sum(ops.multiply(powers, value), axis=axis) for value in values]
    return ops.concatenate([ops.divide(each, total) for each in sums], axis=-1)


def collect_weights(network: keras.Model) -> dict[str, list[Any]]:
    """Kernel and bias of each dense layer, by its name."""
    return {
        layer.name: layer.get_weights()
        for layer in network.layers
        if isinstance(layer, keras.layers.Dense)
    }


def plan_training(
    network: keras.Model, design: Design, measure: Measure, settings: TrainingSettings
) -> TrainingPlan:
    """Every window in each epoch, a learning rate that falls in steps, the best weights kept.

    The training loss is the sum of both phases' mean squared errors with their weights of the
    epoch, the validation loss the second phase's alone; both in the model's units.
    """
    optimizer = keras.optimizers.AdamW(settings.learning_rate, weight_decay=_WEIGHT_DECAY)
    weight = keras.Variable(1.0, trainable=False, dtype="float32")

    def start_epoch(epoch: int) -> None:
        weight.assign(first_phase_weight(settings.tranad.loss_weighting, epoch))
        decay = _DECAY ** ((epoch - 1) // _EPOCHS_PER_DECAY)
        optimizer.learning_rate.assign(settings.learning_rate * decay)

    loss = _phase_loss(network, design, measure, weight)
    return TrainingPlan(loss, optimizer, Course(), start_epoch, _LARGEST_GRADIENT, (weight,))


def _phase_loss(network: keras.Model, design: Design, measure: Measure, weight: Any) -> Loss:
    """The loss of batches, with `weight` for the first phase in training and 0 in validation."""
    features = slice(measure.features)
    low, span = (
        ops.convert_to_tensor(each[features], "float32") for each in (measure.low, measure.span)
    )

    def loss(windows: Any, training: bool) -> Any:
        target = (windows[:, design.judged, features] - low) / span
        phases = network(windows, training=training)
        first, second = (ops.mean(ops.square(target - each)) for each in phases)
        return weight * first + (1.0 - weight) * second if training else second

    return loss

"""Steps that TensorFlow compiles."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from promad.models.compiled_steps import Objective, Steps


def compile_steps(network: keras.Model, objective: Objective, shape: tuple[int, int]) -> Steps:
    """The steps of a network for windows of this length and width."""
    variables, optimizer = network.trainable_variables, objective.optimizer
    optimizer.build(variables)

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[tf.TensorSpec([None, None, *shape])]
    )
    def train_block(block: Any) -> Any:
        total = tf.constant(0.0)
        for step in tf.range(tf.shape(block)[0]):
            with tf.GradientTape() as tape:
                value = objective.loss(block[step], True)
            gradients = tape.gradient(value, variables)
            if objective.largest_gradient is not None:
                gradients, _ = tf.clip_by_global_norm(gradients, objective.largest_gradient)
            optimizer.apply_gradients(zip(gradients, variables, strict=True))
            total += value
        return total

    measure_batch = tf.function(
        lambda windows: objective.loss(windows, False),
        input_signature=[tf.TensorSpec([None, *shape])],
    )
    return Steps(
        lambda block: float(train_block(tf.constant(block))),
        lambda batch: float(measure_batch(tf.constant(batch))),
    )

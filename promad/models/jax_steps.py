"""Steps that JAX compiles, for the processor or a GPU: wherever it puts arrays by default.

Its functions have no state, so the values of all variables go in and come out.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from promad.models.compiled_steps import Objective, Steps

Values = list[Any]


def compile_steps(network: keras.Model, objective: Objective, shape: tuple[int, int]) -> Steps:
    """The steps of a network; `shape` is not needed, as each shape is compiled when it is met."""
    import jax

    optimizer = objective.optimizer
    trained = network.trainable_variables
    fixed = [*network.non_trainable_variables, *objective.variables]
    optimizer.build(trained)

    def find_loss(weights: Values, others: Values, windows: Any, training: bool) -> Any:
        known = [*zip(trained, weights, strict=True), *zip(fixed, others, strict=True)]
        with keras.StatelessScope(state_mapping=known) as scope:
            value = objective.loss(windows, training)
        return value, [scope.get_current_value(each) for each in fixed]

    find_gradients = jax.value_and_grad(find_loss, has_aux=True)

    def train_step(state: tuple[Values, Values, Values], windows: Any) -> Any:
        weights, others, momenta = state
        (value, others), gradients = find_gradients(weights, others, windows, True)
        if objective.largest_gradient is not None:
            gradients = _clip(gradients, objective.largest_gradient)
        weights, momenta = optimizer.stateless_apply(momenta, gradients, weights)
        return (list(weights), others, list(momenta)), value

    @jax.jit  # type: ignore[untyped-decorator]
    def run_block(state: Any, block: Any) -> Any:
        state, losses = jax.lax.scan(train_step, state, block)
        return state, losses.sum()

    @jax.jit  # type: ignore[untyped-decorator]
    def measure(weights: Values, others: Values, windows: Any) -> Any:
        return find_loss(weights, others, windows, False)[0]

    def train_block(block: NDArray[np.float32]) -> float:
        parts = trained, fixed, optimizer.variables
        state, total = run_block(tuple(map(_read, parts)), block)
        for variables, values in zip(parts, state, strict=True):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
        return float(total)

    def measure_batch(batch: NDArray[np.float32]) -> float:
        return float(measure(_read(trained), _read(fixed), batch))

    return Steps(train_block, measure_batch)


def _read(variables: list[keras.Variable]) -> Values:
    return [variable.value for variable in variables]


def _clip(gradients: Values, largest: float) -> Values:
    """The gradients, scaled down to a global norm."""
    from jax import numpy as jnp

    norm = jnp.sqrt(sum(jnp.sum(jnp.square(each)) for each in gradients))
    return [each * (largest / jnp.maximum(norm, largest)) for each in gradients]

"""Fitting a network in Keras until validation stops improving: the one training loop.

An epoch runs as a few calls into one compiled graph, each over a block of batches. That costs
less than a call per batch and lets the windows be gathered a block at a time. What is compiled is
the business of `tensorflow_steps` or `jax_steps`, by the backend of Keras.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

from promad.config import TrainingSettings
from promad.data.windows import (
    ChosenWindows,
    Split,
    Windows,
    batches,
    windows_per_batch,
)
from promad.errors import DataError
from promad.models.base import Progress, TrainingHistory
from promad.models.compiled_steps import Loss, Objective, Step, Steps

_BLOCK_WINDOWS = 2048
_FORWARD_BATCH = 256


@dataclass(frozen=True)
class Course:
    """How often windows are visited, what counts as better, and which weights are kept.

    Attributes:
        stride: an epoch trains on every `stride`-th window from a random first one, in random
            order, and validation looks at every `stride`-th. Neighbours share most samples.
        least_improvement: the share by which validation must fall to count as better.
        best_kept: keep the weights of the best epoch; otherwise those of the last.
    """

    stride: int = 1
    least_improvement: float = 0.0
    best_kept: bool = True

    def order_epoch(self, windows: int, chance: np.random.Generator) -> NDArray[np.int64]:
        """The windows that an epoch trains on, in their order."""
        if self.stride == 1:
            return chance.permutation(windows)
        first = chance.integers(min(self.stride, windows))
        return chance.permutation(np.arange(first, windows, self.stride))

    def choose_validation(self, windows: Windows) -> Windows:
        """The windows that validation looks at."""
        return ChosenWindows(windows, np.arange(0, len(windows), self.stride))


@dataclass(frozen=True)
class TrainingPlan:
    """What is lowered, and how.

    Attributes:
        start_epoch: called before each epoch with its number, from 1.
        largest_gradient: the global norm that gradients are clipped to, if they are.
        variables: what the loss reads beside the network, and `start_epoch` changes.
    """

    loss: Loss
    optimizer: keras.optimizers.Optimizer
    course: Course
    start_epoch: Callable[[int], None] | None = None
    largest_gradient: float | None = None
    variables: tuple[keras.Variable, ...] = ()


def plan_with_adam(loss: Loss, learning_rate: float, course: Course) -> TrainingPlan:
    """Adam at one learning rate (Kingma and Ba 2015)."""
    return TrainingPlan(loss, keras.optimizers.Adam(learning_rate), course)


def train_network(
    network: keras.Model,
    plan: TrainingPlan,
    split: Split,
    settings: TrainingSettings,
    seed: int,
    progress: Progress,
) -> TrainingHistory:
    """Fit in place until validation stops improving; the history's best epoch is the one kept.

    Raises:
        DataError: if the loss stops being a number.
    """
    train_block, measure_batch = _compile_steps(network, plan, split.training)
    chance, course = np.random.default_rng(seed), plan.course
    held_out = course.choose_validation(split.validation)
    training, validation = [], []
    best_epoch, best_loss, best_weights = 0, np.inf, network.get_weights()
    for epoch in range(1, settings.epochs + 1):
        if plan.start_epoch is not None:
            plan.start_epoch(epoch)
        order = course.order_epoch(len(split.training), chance)
        training.append(_train_epoch(train_block, split.training, order, settings.batch_size))
        validation.append(_mean_loss(measure_batch, held_out))
        progress(epoch, settings.epochs, training[-1], validation[-1])
        _check_finite(training[-1], validation[-1], epoch, settings.learning_rate)
        if validation[-1] < best_loss * (1 - course.least_improvement):
            best_epoch, best_loss, best_weights = epoch, validation[-1], network.get_weights()
        elif epoch - best_epoch >= settings.early_stopping_patience:
            break
    if not course.best_kept:
        return TrainingHistory(tuple(training), tuple(validation), len(training))
    network.set_weights(best_weights)
    return TrainingHistory(tuple(training), tuple(validation), best_epoch)


def _check_finite(training: float, validation: float, epoch: int, learning_rate: float) -> None:
    if not np.isfinite([training, validation]).all():
        raise DataError(
            f"training failed: the loss is not a finite number in epoch {epoch} — use a smaller "
            f"learning_rate (now {learning_rate:g}) or scaler StandardScaler"
        )


def _compile_steps(network: keras.Model, plan: TrainingPlan, windows: Windows) -> Steps:
    """The compiled steps of Keras's backend."""
    if keras.backend.backend() == "jax":
        from promad.models.jax_steps import compile_steps
    else:
        from promad.models.tensorflow_steps import compile_steps
    objective = Objective(plan.loss, plan.optimizer, plan.largest_gradient, plan.variables)
    return compile_steps(network, objective, (windows.length, windows.width))


def _train_epoch(
    train_block: Step, windows: Windows, order: NDArray[np.int64], batch_size: int
) -> float:
    """Train once on every window in `order`; the mean loss per batch."""
    total, steps = 0.0, 0
    for block in _gather_blocks(windows, order, batch_size):
        total += train_block(block)
        steps += len(block)
    return total / steps


def _gather_blocks(
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


def _mean_loss(measure_batch: Step, windows: Windows) -> float:
    """The mean loss over all windows."""
    total = 0.0
    for batch in batches(windows, _FORWARD_BATCH):
        total += measure_batch(batch) * len(batch)
    return total / len(windows)

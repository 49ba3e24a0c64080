"""What the backends of Keras compile for the training loop, and from what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

Loss = Callable[[Any, bool], Any]
"""A batch (batch, length, width), and whether it is trained on, to what training lowers or else
validation measures."""

Step = Callable[[NDArray[np.float32]], float]


@dataclass(frozen=True)
class Objective:
    """What is lowered, and how.

    Attributes:
        largest_gradient: the global norm that gradients are clipped to, if they are.
        variables: what the loss reads beside the network.
    """

    loss: Loss
    optimizer: keras.optimizers.Optimizer
    largest_gradient: float | None = None
    variables: tuple[keras.Variable, ...] = ()


class Steps(NamedTuple):
    """The compiled steps, which change the network and the optimizer in place.

    Attributes:
        train_block: trains on batches (steps, batch, length, width), and gives their summed loss.
        measure_batch: gives the loss of a batch (batch, length, width).
    """

    train_block: Step
    measure_batch: Step

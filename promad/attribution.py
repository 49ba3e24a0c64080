"""Attribution: which features an error is made of."""

import numpy as np
from numpy.typing import NDArray


def shares(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each feature's share of the error: (..., features) to the same shape, summing to 1.

    Where there is no error at all every share is 0.

    >>> shares(np.array([3.0, 1.0]))
    array([0.75, 0.25])
    """
    total = errors.sum(axis=-1, keepdims=True)
    return np.divide(errors, total, out=np.zeros_like(errors), where=total > 0)

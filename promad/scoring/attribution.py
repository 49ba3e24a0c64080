"""Attribution: which features an error is made of."""

import numpy as np
from numpy.typing import NDArray


def shares(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each feature's share of the error: (..., features) to the same shape, summing to 1.

    Where there is no error at all every share is 0.

    >>> shares(np.array([3.0, 1.0]))
    array([0.75, 0.25])
    """
    return _divide(errors, errors.sum(axis=-1, keepdims=True))


def _divide(errors: NDArray[np.float64], total: NDArray[np.float64]) -> NDArray[np.float64]:
    if (total > 0).all():
        return np.asarray(errors / total)
    return np.divide(errors, total, out=np.zeros_like(errors), where=total > 0)


def share_excess(errors: NDArray[np.float64], baseline: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each feature's share of what lies above the baselines: (..., features), summing to 1.

    A feature within its baseline has no part in it. Where all are within theirs, it is each
    feature's share of the whole error instead. A feature that is NaN has the share 0.

    >>> share_excess(np.array([3.0, 1.0, 2.0]), np.array([1.0, 1.0, 1.0]))
    array([0.66666667, 0.        , 0.33333333])
    """
    excess = errors - baseline
    np.fmax(excess, 0.0, out=excess)
    total = excess.sum(axis=-1, keepdims=True)
    within = total[..., 0] <= 0
    if within.any():
        excess[within] = np.nan_to_num(errors[within])
        total[within] = excess[within].sum(axis=-1, keepdims=True)
    return _divide(excess, total)

"""Times and values of one series, as a server's numbers become them."""

import numpy as np
from numpy.typing import NDArray

Numbers = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Times and values of one series, float64 (samples,) each."""


def check_numbers(times: NDArray[np.float64], values: NDArray[np.float64]) -> Numbers:
    """The numbers with what is not finite missing.

    Raises:
        ValueError: if a time is not finite.
    """
    if not np.isfinite(times).all():
        raise ValueError("a sample has no time")
    return times, np.where(np.isfinite(values), values, np.nan)

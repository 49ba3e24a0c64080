"""A limit that a person chose."""

import numpy as np
from numpy.typing import NDArray

from promad.errors import DataError
from promad.thresholds.base import Threshold, ThresholdSettings


def fit(scores: NDArray[np.float64], settings: ThresholdSettings) -> Threshold:
    """The limit in `settings.value`, whatever the scores are.

    Raises:
        DataError: if there is no such value.
    """
    if settings.value is None:
        raise DataError("a fixed threshold needs its value — set anomaly_threshold_mse")
    return Threshold("fixed", settings.value, None, "given in the configuration")

"""Numbers as Prometheus writes them."""

from __future__ import annotations

import numpy as np

from promad.simulation.noise import Floats


def format_numbers(numbers: Floats) -> list[str]:
    """All numbers, row by row, in the shortest exact form: no exponent, no trailing `.0`.

    They are written in one go, because a fleet has many.

    >>> format_numbers(np.array([[0.1, 2.0], [1e-7, 3e17]]))
    ['0.1', '2', '0.0000001', '300000000000000000']
    """
    if not numbers.size:
        return []
    text = f"{numbers.ravel().tolist()!r}"[1:-1]
    texts = f"{text}, ".replace(".0, ", ", ").split(", ")[:-1]
    return [_remove_exponent(each) for each in texts] if "e" in text else texts


def _remove_exponent(text: str) -> str:
    return np.format_float_positional(float(text), trim="-") if "e" in text else text

"""Markdown tables, and figures with their spread."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np


def format_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table.

    >>> print(format_table(["what", "took"], [["collect", "1.2 s"]]))
    | what | took |
    |---|---|
    | collect | 1.2 s |
    """
    lines = [header, *rows]
    texts = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([texts[0], "|" + "---|" * len(header), *texts[1:]])


def format_spread(values: Iterable[float], unit: str = "", digits: int = 2) -> str:
    """The median, and the smallest and largest in parentheses.

    >>> format_spread([1.0, 2.0, 4.0], "s", 1)
    '2.0 s (1.0 to 4.0)'
    """
    low, middle, high = (f"{value:.{digits}f}" for value in np.quantile(list(values), [0, 0.5, 1]))
    return f"{' '.join(filter(None, [middle, unit]))} ({low} to {high})"

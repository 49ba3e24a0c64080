"""Parts of one series put together: several answers, and label sets that a server sends twice.

Replicas and stores behind one query layer can send a series in parts, or twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from promad.data.groups import Labels
from promad.prometheus.parsing import Answer, Series


def join_answers(answers: Sequence[Answer]) -> Answer:
    """One answer with each label set once, and each warning and info once.

    Raises:
        ValueError: if a series has different values at one time.
    """
    return Answer(
        series=_join_series([series for answer in answers for series in answer.series]),
        warnings=_list_once(text for answer in answers for text in answer.warnings),
        infos=_list_once(text for answer in answers for text in answer.infos),
    )


def _list_once(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))


def _join_series(parts: Sequence[Series]) -> tuple[Series, ...]:
    by_labels: dict[Labels, list[Series]] = {}
    for part in parts:
        by_labels.setdefault(part.labels, []).append(part)
    return tuple(_join_parts(same) for same in by_labels.values())


def _join_parts(parts: Sequence[Series]) -> Series:
    """The samples of all parts in order of time, each time once; a value beats a missing one."""
    whole = parts[0]
    if len(parts) > 1:
        times = np.concatenate([part.times for part in parts])
        values = np.concatenate([part.values for part in parts])
        whole = replace(whole, times=times, values=values)
    if (np.diff(whole.times) > 0).all():
        return whole
    order = np.lexsort((np.isnan(whole.values), whole.times))
    times, values = whole.times[order], whole.values[order]
    repeats = np.r_[False, np.diff(times) == 0]
    check_repeats(times, values, repeats)
    return replace(whole, times=times[~repeats], values=values[~repeats])


def check_repeats(
    times: NDArray[np.float64], values: NDArray[np.float64], repeats: NDArray[np.bool_]
) -> None:
    """Raise ValueError if a sample marked as a repetition differs from the one before it.

    All are (samples,); missing values differ from nothing.
    """
    differs = repeats.copy()
    differs[1:] &= ~np.isnan(values[1:]) & (values[1:] != values[:-1])
    if differs.any():
        at = int(np.flatnonzero(differs)[0])
        raise ValueError(
            f"two values of one series at {times[at]:.3f} ({values[at - 1]:g} and {values[at]:g}) "
            "— query one replica, or deduplicate on the server"
        )

"""How events follow injected shifts, whose beginning and end are known to the sample."""

from __future__ import annotations

import numpy as np

from promad.errors import DataError
from promad.evaluation.episodes import episode_figures
from promad.evaluation.extents import find_extents
from promad.evaluation.figures import Figures, Judged
from promad.evaluation.injected_shifts import inject_shifts
from promad.evaluation.labelled import LabelledData

HELD_OUT_SAMPLES = 20_000
"""At most so many of the newest samples are used."""


def shift_held_out(data: LabelledData, scored: int, first: int, seed: int) -> LabelledData | None:
    """The training part from sample `first` on as a test part, with shifts; None if too short."""
    first = max(first, len(data.train) - HELD_OUT_SAMPLES)
    values = data.train[first:].copy()
    spread = np.zeros(values.shape[1])
    spread[:scored] = np.nan_to_num(np.nanstd(data.train[:first, :scored], axis=0))
    try:
        injected = inject_shifts(values, spread, seed)
    except DataError:
        return None
    times = None if data.train_times is None else data.train_times[first:]
    return LabelledData(
        entity=data.entity,
        features=data.features,
        train=data.train[:first],
        test=injected.values,
        labels=injected.labels,
        known_anomalies=(),
        counting="segments",
        causes=None,
        train_times=None,
        test_times=times,
    )


def describe_injected(judged: Judged, shifted: LabelledData) -> Figures:
    """How many shifts were found, and how their events cover them."""
    found = judged.episodes
    scored = int((~np.isnan(judged.scores)).sum())
    seen = episode_figures(found, shifted.labels, scored, judged.step)
    return {
        "shifts": float(seen.segments),
        "event_recall": seen.event_recall,
        "delay_median_seconds": seen.median_delay_seconds,
        **find_extents(found, shifted.labels).summarise(judged.step),
    }

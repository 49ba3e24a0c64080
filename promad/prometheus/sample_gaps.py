"""What is wrong with when a query has samples: too old when they are used, or too few."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from promad.config import format_duration
from promad.data.gaps import find_long_gaps, find_runs

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]

ACCEPTED_SHARE = 0.1
"""The share of samples that may be missing or too old."""


@dataclass(frozen=True)
class CheckLimits:
    """What the samples of a query are compared with.

    Attributes:
        stale_after: the age in seconds from which `detect` takes a sample for missing.
        max_fill_steps: how many missing samples in a row are filled.
        length: samples per window.
        latency_offset: how many seconds behind the clock the newest sample asked for is.
    """

    stale_after: float
    max_fill_steps: int
    length: int
    latency_offset: float


def find_gap_problem(values: Values, ages: Values, step: float, limits: CheckLimits) -> str | None:
    """What is wrong and what to do, from the first sample to the last; None if nothing is.

    Args:
        values: float64 (samples,), NaN where there is no sample.
        ages: seconds since the scrape at each sample, float64 (samples,), NaN where unknown.
    """
    known = np.flatnonzero(~np.isnan(values))
    if not known.size:
        return None
    within = slice(known[0], known[-1] + 1)
    missing, age = np.isnan(values[within]), ages[within]
    stale = ~missing & (age > limits.stale_after)
    if stale.mean() > ACCEPTED_SHARE:
        return _describe_stale(stale, float(np.nanmax(age[~missing])), limits)
    if missing.mean() > ACCEPTED_SHARE:
        return (
            f"{missing.mean():.0%} of the samples of the last hour are missing — append "
            "`or vector(0)` to the expression if no sample means 0, or raise data_settings.step "
            "above the scrape interval"
        )
    return _find_short_stretches(missing | stale, step, limits)


def _describe_stale(stale: Flags, oldest: float, limits: CheckLimits) -> str:
    enough = format_duration(ceil(oldest / 60) * 60)
    return (
        f"{stale.mean():.0%} of the samples of the last hour were older than stale_after "
        f"({format_duration(limits.stale_after)}) when used, up to {format_duration(round(oldest))}"
        f" — set stale_after to at least {enough}, and data_settings.step to no less than the "
        "scrape interval"
    )


def _find_short_stretches(missing: Flags, step: float, limits: CheckLimits) -> str | None:
    """That windows never become complete, as far as two gaps too long to fill show it."""
    long = find_long_gaps(missing[:, np.newaxis], limits.max_fill_steps)[:, 0]
    gaps, stretches = find_runs(long), find_runs(~long)
    longest = max(last - first for first, last in stretches)
    if len(gaps) < 2 or longest >= limits.length:
        return None
    return (
        f"{len(gaps)} gaps of the last hour are longer than max_fill_steps "
        f"({limits.max_fill_steps}), with at most {longest} samples between them, fewer than "
        f"sequence_length ({limits.length}) — raise max_fill_steps, or raise data_settings.step "
        f"(now {format_duration(step)}) above the scrape interval"
    )

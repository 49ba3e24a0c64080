"""How events cover the labelled segments that they found: when they end, peak, and break up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from promad.evaluation.agreement import Flags, Reals, segments
from promad.evaluation.episodes import Episodes

QUANTILES: Mapping[str, float] = {"median": 0.5, "p90": 0.9}


@dataclass(frozen=True)
class Extents:
    """One value for each labelled segment that was found; the first two in samples.

    Attributes:
        overhang: from the segment's end to when its last event was over, or to the next segment if
            that begins first; below 0 if the event was over before the segment.
        peak_lag: from the segment's last sample to the event's peak; 0 if the peak lies earlier,
            or in a later segment.
        fragments: events that share a sample with the segment.
        coverage: the share of the segment's samples that lie in an event.
    """

    overhang: Reals
    peak_lag: Reals
    fragments: Reals
    coverage: Reals

    def summarise(self, step: float) -> dict[str, float]:
        """Median and 90th percentile, and of shares and counts the mean; NaN if none was found.

        Args:
            step: seconds between samples.
        """
        figures = {}
        for name, values in (("overhang", self.overhang), ("peak_lag", self.peak_lag)):
            for unit, size in (("samples", 1.0), ("seconds", step)):
                for how, value in _find_quantiles(values * size).items():
                    figures[f"{name}_{how}_{unit}"] = value
        for name, values in (("fragments", self.fragments), ("coverage", self.coverage)):
            figures[f"{name}_mean"] = float(values.mean()) if len(values) else float("nan")
            for how, value in _find_quantiles(values).items():
                figures[f"{name}_{how}"] = value
        return figures


def find_extents(found: Episodes, labels: Flags) -> Extents:
    """Compare events with the labelled segments that they found, as `episode_figures` does."""
    starts, ends = segments(labels)
    following = np.append(starts[1:], len(labels) if len(starts) else [])[: len(starts)]
    rows = [
        _compare(found, int(start), int(end), int(limit))
        for start, end, limit in zip(starts, ends, following, strict=True)
        if _find_raised(found, int(start), int(end))
    ]
    return Extents(*np.asarray(rows, np.float64).reshape(-1, 4).T)


def _find_raised(found: Episodes, start: int, end: int) -> bool:
    return bool(((found.raised < end) & (found.ends > start)).any())


def _compare(found: Episodes, start: int, end: int, following: int) -> tuple[float, ...]:
    own = np.flatnonzero((found.starts < end) & (found.ends > start))
    covered = np.zeros(end - start, np.bool_)
    for event in own:
        covered[max(found.starts[event] - start, 0) : found.ends[event] - start] = True
    last = own[-1]
    overhang = min(int(found.over[last]), following) - end
    peak = int(found.peaks[last])
    lag = max(peak - (end - 1), 0) if peak < following else 0
    return overhang, lag, len(own), float(covered.mean())


def _find_quantiles(values: NDArray[np.float64]) -> dict[str, float]:
    if not len(values):
        return dict.fromkeys(QUANTILES, float("nan"))
    return {name: float(np.quantile(values, level)) for name, level in QUANTILES.items()}

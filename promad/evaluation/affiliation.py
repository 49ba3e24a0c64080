"""Affiliation precision and recall: how near alarms lie to segments, against chance.

Huet, Navarro and Rossi 2022, "Local evaluation of time series anomaly detection algorithms", KDD,
sections 3 and 4. Low contrast: alarms spread at random already get a precision of about 0.5.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from promad.evaluation.agreement import Agreement, Flags, Reals, segments

_PARTS = 4


def affiliation(alarming: Flags, labels: Flags) -> Agreement:
    """Mean over the zones of the segments of the individual precisions and recalls.

    A sample is the stretch of time [row, row + 1). The zone of a segment is the time nearer to it
    than to any other. An alarm's precision is the chance that a moment drawn from the zone lies
    at least as far from the segment; a labelled moment's recall is the chance that a moment drawn
    from the zone lies at least as far from it as the nearest alarm of the zone. Zones without
    alarms have no precision and a recall of 0.

    Both chances are piecewise linear in time and bend at quarters of a sample at most, so their
    mean over the middles of all quarters is the integral of the paper, exactly.

    NaN: all of it without labels, the precision without alarms.
    """
    if not labels.any():
        return Agreement(float("nan"), float("nan"))
    starts, ends = segments(labels)
    borders = np.concatenate([[0.0], (ends[:-1] + starts[1:]) / 2, [float(len(labels))]])
    moments = (np.arange(_PARTS * len(labels)) + 0.5) / _PARTS
    zone = np.searchsorted(borders, moments) - 1
    alarm, label = np.repeat(alarming, _PARTS), np.repeat(labels, _PARTS)
    low, high = borders[:-1], borders[1:]
    precision = _means(_precisions(moments, starts, ends, low, high, zone), alarm, zone, len(low))
    recall = _means(_recalls(moments, alarm, low[zone], high[zone]), label, zone, len(low))
    judged = precision[~np.isnan(precision)]
    mean = float(judged.mean()) if len(judged) else float("nan")
    return Agreement(mean, float(recall.mean()))


def _precisions(
    moments: Reals,
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    low: Reals,
    high: Reals,
    zone: NDArray[np.int64],
) -> Reals:
    """The precision of an alarm at each moment: float64 (moments,)."""
    start, end = starts[zone], ends[zone]
    away = np.maximum(np.maximum(start - moments, moments - end), 0)
    left = np.maximum(start - away - low[zone], 0)
    right = np.maximum(high[zone] - end - away, 0)
    return np.where(away > 0, (left + right) / (high - low)[zone], 1.0)


def _recalls(moments: Reals, alarm: Flags, low: Reals, high: Reals) -> Reals:
    """How well each moment is recalled by the nearest alarm of its zone: float64 (moments,)."""
    half = 0.5 / _PARTS
    before = np.maximum.accumulate(np.where(alarm, moments + half, -np.inf))
    after = np.minimum.accumulate(np.where(alarm, moments - half, np.inf)[::-1])[::-1]
    to_left = np.where(before > low, moments - before, np.inf)
    to_right = np.where(after < high, after - moments, np.inf)
    away = np.where(alarm, 0.0, np.minimum(to_left, to_right))
    farther = np.maximum(moments - away - low, 0) + np.maximum(high - moments - away, 0)
    return np.asarray(farther / (high - low), np.float64)


def _means(values: Reals, chosen: Flags, zone: NDArray[np.int64], zones: int) -> Reals:
    """The mean of the chosen values of each zone, NaN where there are none: float64 (zones,)."""
    total = np.bincount(zone[chosen], values[chosen], zones)
    count = np.bincount(zone[chosen], minlength=zones)
    return np.asarray(np.divide(total, count, out=np.full(zones, np.nan), where=count > 0))

"""How well scores rank labelled samples above others, whatever the threshold.

VUS-PR and VUS-ROC are those of Paparrizos et al. 2022, "Volume under the surface", PVLDB 15(11),
sections 3.2 and 3.3, as the TSB-AD benchmark computes them (Liu and Paparrizos, NeurIPS 2024): 250
thresholds at evenly spaced ranks, buffers of every width from 0 to a largest one. The largest
width must stand beside every figure, because the figure rises with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from promad.evaluation.agreement import Flags, Reals, segments

THRESHOLDS = 250
VUS_WINDOW = 100
"""The widest buffer, in samples, of the figures that promad publishes."""
VUS_NARROW_WINDOW = 10
"""The same for those that forgive less."""


@dataclass(frozen=True)
class Volume:
    """Volume under the PR and the ROC surface, and the widest buffer that they were taken to.

    Attributes:
        pr: 0 to 1; NaN if no sample is labelled.
        roc: 0 to 1; NaN if no sample, or every sample, is labelled.
        window: samples.
    """

    pr: float
    roc: float
    window: int


@dataclass(frozen=True)
class _Ranked:
    """Scores held to falling thresholds.

    Attributes:
        filled: float64 (samples,), -inf where unknown.
        levels: the thresholds, float64 (thresholds,).
        alarming: how many samples each makes alarm, int64 (thresholds,).
        entry: which threshold is the first to make a sample alarm, int64 (samples,);
            `thresholds` for a sample that never does.
    """

    filled: Reals
    levels: Reals
    alarming: NDArray[np.int64]
    entry: NDArray[np.int64]

    def cumulated(self, weights: Reals) -> Reals:
        """The weight of the samples that alarm at each threshold: float64 (thresholds,)."""
        count = len(self.levels)
        return np.cumsum(np.bincount(self.entry, weights, count + 1)[:count])


def vus(scores: Reals, labels: Flags, window: int = VUS_WINDOW) -> Volume:
    """The mean, over buffers of 0 to `window` samples, of the range-aware areas under the curves.

    A buffer of width w gives the samples within w // 2 of a segment a label that falls with their
    distance d as sqrt(1 - d / w), and segments whose buffers overlap count as one. At a threshold
    the true positives are the labels of the samples that alarm, the positives are the labelled
    samples and half the soft labels that alarm, and recall is scaled by the share of segments, each
    with its buffers, in which anything alarms.

    Departure: an unknown score never alarms, and thresholds are spaced over the known scores, so
    what lies in unknown samples is lost to the PR curve. The ROC curve still ends at (1, 1).
    """
    if not labels.any():
        return Volume(float("nan"), float("nan"), window)
    if np.isnan(scores).all():
        return Volume(0.0, float("nan") if labels.all() else 0.5, window)
    ranked = _rank(scores)
    areas = [_areas(ranked, labels, width) for width in range(window + 1)]
    pr, roc = np.mean(areas, axis=0).tolist()
    return Volume(pr, roc, window)


def _rank(scores: Reals) -> _Ranked:
    unknown = np.isnan(scores)
    falling = -np.sort(-scores[~unknown])
    ranks = np.linspace(0, len(falling) - 1, THRESHOLDS).astype(np.int64)
    levels = falling[ranks]
    filled = np.where(unknown, -np.inf, scores)
    entry = np.where(unknown, THRESHOLDS, np.searchsorted(-levels, -filled))
    return _Ranked(filled, levels, np.searchsorted(-falling, -levels, side="right"), entry)


def _areas(ranked: _Ranked, labels: Flags, width: int) -> tuple[float, float]:
    """The areas under the PR and the ROC curve with one width of buffer."""
    soft = ranked.cumulated(soft_labels(labels, width))
    found = ranked.cumulated(labels.astype(np.float64)) + soft
    positives = labels.sum() + soft / 2
    share = _segments_found(ranked, labels, width // 2)
    recall = np.minimum(found / positives, 1) * share
    precision = found / ranked.alarming
    pr = float(np.diff(recall, prepend=0) @ precision)
    if labels.all():
        return pr, float("nan")
    false_rate = (ranked.alarming - found) / (len(labels) - positives)
    across, up = (np.concatenate([[0], part, [1]]) for part in (false_rate, recall))
    return pr, float(np.trapezoid(up, across))


def soft_labels(labels: Flags, width: int) -> Reals:
    """What a buffer of `width` samples adds around the segments: float64 (samples,), 0 to 1.

    Buffers of several segments add up, to 1 at most; labelled samples themselves get 0.

    >>> soft_labels(np.array([False, False, True, False]), 2).round(3)
    array([0.   , 0.707, 0.   , 0.707])
    """
    away = np.arange(1, width // 2 + 1)
    starts, ends = segments(labels)
    rows = np.concatenate([starts[:, np.newaxis] - away, ends[:, np.newaxis] - 1 + away])
    heights = np.broadcast_to(np.sqrt(1 - away / max(width, 1)), rows.shape)
    inside = (rows >= 0) & (rows < len(labels))
    total = np.bincount(rows[inside], heights[inside], len(labels))
    return np.where(labels, 0.0, np.minimum(total, 1.0))


def _segments_found(ranked: _Ranked, labels: Flags, reach: int) -> Reals:
    """The share of segments, widened by `reach`, that alarm anywhere: float64 (thresholds,)."""
    starts, ends = segments(labels)
    apart = starts[1:] - reach >= ends[:-1] + reach
    first = np.maximum(starts[np.append(True, apart)] - reach, 0)
    last = np.minimum(ends[np.append(apart, True)] + reach, len(labels))
    bounds = np.column_stack([first, last]).ravel()
    peaks = np.maximum.reduceat(np.append(ranked.filled, -np.inf), bounds)[::2]
    found = np.searchsorted(np.sort(-peaks), -ranked.levels, side="right")
    return np.asarray(found / len(first), np.float64)


def auc_pr(scores: Reals, labels: Flags) -> float:
    """Average precision: precision at each distinct score, weighted by the recall that it adds.

    0 to 1; NaN if no sample is labelled. Labelled samples without a score are never recalled.

    >>> auc_pr(np.array([3.0, 2.0, 1.0]), np.array([True, False, True]))
    0.8333333333333333
    """
    if not labels.any():
        return float("nan")
    found, alarming = _counts(scores, labels)
    return float(np.diff(found, prepend=0) @ (found / alarming) / labels.sum())


def best_f1(scores: Reals, labels: Flags) -> float:
    """The F1 over samples at the best threshold, which only somebody who knows the labels can pick.

    0 to 1; NaN if no sample is labelled, 0 if no score is known.
    """
    if not labels.any():
        return float("nan")
    found, alarming = _counts(scores, labels)
    return float(np.max(2 * found / (alarming + labels.sum()), initial=0.0))


def _counts(scores: Reals, labels: Flags) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many labelled samples, and how many at all, reach each distinct score, highest first."""
    known = ~np.isnan(scores)
    order = np.argsort(-scores[known], kind="stable")
    falling, hits = scores[known][order], labels[known][order]
    last_of_level = np.append(falling[1:] != falling[:-1], True)[: len(falling)]
    rows = np.flatnonzero(last_of_level)
    return np.cumsum(hits, dtype=np.int64)[rows], rows + 1

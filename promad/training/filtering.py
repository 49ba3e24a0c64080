"""Filtering: every window of the history scored, and the windows that stand out described."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from promad.data.windows import SampleWindows, sample_numbers
from promad.scoring.attribution import share_excess, shares
from promad.scoring.detector import Detector, apply_model, count_errors, select_errors
from promad.thresholds import Threshold
from promad.training.trimming import TrimLimits, Trimmed, trim

Values = NDArray[np.float64]
Share = tuple[str, float]
"""A feature and its share, 0 to 1."""

_WORST = 5
_TOP = 3


@dataclass(frozen=True)
class ScoredWindows:
    """All windows, and their scores by a detector.

    Attributes:
        windows: in order of time.
        scores: float64 (windows,).
        errors: what each feature adds to the score, float64 (windows, features).
        contributions: each feature's share of the excess over its baseline, (windows, features).
        features: the names of the scored features.
        threshold: that of the detector.
        step: seconds between samples.
    """

    windows: SampleWindows
    scores: Values
    errors: Values
    contributions: Values
    features: tuple[str, ...]
    threshold: Threshold
    step: float

    @property
    def anomalous(self) -> NDArray[np.bool_]:
        """Which windows are above the threshold: bool (windows,)."""
        return self.scores > self.threshold.limit(self.scores)


@dataclass(frozen=True)
class WorstWindow:
    """A window far above the threshold: its end, its score over the threshold, and the causes."""

    end: float
    ratio: float
    top_features: tuple[Share, ...]


@dataclass(frozen=True)
class TrimmedStretch:
    """Windows that stand out: the ends of the first and the last one, how many, and the causes.

    `ratio` is the highest score over the threshold; the features have their mean contributions.
    """

    first: float
    last: float
    windows: int
    ratio: float
    top_features: tuple[Share, ...]


@dataclass(frozen=True)
class TrimReport:
    """What trimming drops of the training part, and what it keeps because it recurs."""

    dropped: tuple[TrimmedStretch, ...]
    recurring: tuple[TrimmedStretch, ...]


def score_windows(detector: Detector, windows: SampleWindows, unit: float = 1.0) -> ScoredWindows:
    """Every window of complete samples with its score, in this unit."""
    scoring, preparation = detector.scoring, detector.preparation
    outcome = apply_model(detector.model, windows)
    errors = select_errors(outcome, scoring.method)
    smoothed = scoring.smooth(
        count_errors(errors, outcome, windows, preparation),
        sample_numbers(windows.times, preparation.step),
    )
    errors = scoring.by_feature(smoothed)
    return ScoredWindows(
        windows,
        scoring.score(smoothed) / unit,
        errors,
        share_excess(errors, scoring.baseline),
        preparation.features[: preparation.scored],
        detector.threshold,
        preparation.step,
    )


def trim_training_part(
    scored: ScoredWindows, training_ends_at: float, share: float, dropped_before: Values
) -> Trimmed:
    """What trimming drops and keeps of the windows up to `training_ends_at`, unix seconds.

    `share` is how much of them it may drop, 0 to 1; `dropped_before` are the times of the last
    samples of the windows that an earlier round has dropped.
    """
    windows, step = scored.windows, scored.step
    count = int((windows.times <= training_ends_at + step / 2).sum())
    return trim(
        scored.scores[:count],
        scored.contributions[:count],
        windows.times[:count],
        TrimLimits(scored.threshold.value, share, windows.length * step),
        np.flatnonzero(np.isin(windows.times[:count], dropped_before)),
    )


def list_worst(scored: ScoredWindows) -> Iterator[WorstWindow]:
    """The worst anomalous windows that share no sample, worst first."""
    windows = scored.windows
    scores = np.where(scored.anomalous, scored.scores, -np.inf)
    for _ in range(_WORST):
        worst = int(np.argmax(scores)) if len(scores) else 0
        if len(scores) == 0 or scores[worst] == -np.inf:
            return
        yield WorstWindow(
            float(windows.times[worst]),
            float(scores[worst]) / scored.threshold.value,
            _top(scored.features, shares(scored.errors[worst])),
        )
        near = np.abs(windows.starts - windows.starts[worst]) < windows.length
        scores = np.where(near, -np.inf, scores)


def report_trimmed(scored: ScoredWindows, trimmed: Trimmed) -> TrimReport:
    """The trimmed stretches with their times and causes."""
    return TrimReport(
        tuple(_report_stretch(scored, rows) for rows in trimmed.dropped),
        tuple(_report_stretch(scored, rows) for rows in trimmed.recurring),
    )


def _report_stretch(scored: ScoredWindows, rows: NDArray[np.int64]) -> TrimmedStretch:
    times, highest = scored.windows.times[rows], float(scored.scores[rows].max())
    return TrimmedStretch(
        float(times[0]),
        float(times[-1]),
        len(rows),
        highest / scored.threshold.value,
        _top(scored.features, scored.contributions[rows].mean(axis=0)),
    )


def _top(features: Sequence[str], share: Values) -> tuple[Share, ...]:
    """The features with the largest shares."""
    return tuple((features[i], float(share[i])) for i in np.argsort(-share)[:_TOP])

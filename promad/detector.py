"""`Detector`: preparation, model and threshold put together. Scoring and judging change nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from promad.attribution import shares
from promad.frame import MetricFrame
from promad.models import Model
from promad.preparation import Preparation
from promad.thresholds import Threshold
from promad.verdict import FeatureView, Scores, State, Verdict
from promad.windows import SampleWindows, Windows, batches


@dataclass(frozen=True)
class Detector:
    """What a bundle comes to once it is opened."""

    preparation: Preparation
    model: Model
    threshold: Threshold
    length: int

    @property
    def samples_needed(self) -> int:
        """How many of the newest samples decide the newest score."""
        return self.length + self.preparation.context

    def score(self, frame: MetricFrame, since: float = -np.inf) -> Scores:
        """Score every complete window of the frame's first group that ends after `since`.

        Args:
            frame: measured values in natural units, NaN where missing. Each score depends on the
                `samples_needed` samples up to its own time.
            since: unix seconds.
        """
        windows = self.preparation.windows([self.preparation.scale(frame)], self.length)
        newest = SampleWindows(
            windows.rows,
            windows.row_times,
            windows.starts[windows.times > since + frame.step / 2],
            self.length,
        )
        rows = newest.starts + self.length - 1
        return self._scores(newest, frame.values[0][rows])

    def _scores(self, windows: SampleWindows, observed: np.ndarray) -> Scores:
        errors, expected = errors_and_expected(self.model, windows, observed.shape[1])
        return Scores(
            times=windows.times,
            score=errors.mean(axis=1),
            errors=errors,
            observed=observed,
            expected=self.preparation.scaler.inverse(expected),
        )

    def judge(self, scores: Scores) -> list[Verdict]:
        """Hold each score to the threshold: one verdict per window, OK or ANOMALOUS."""
        limits = self.threshold.limit(scores.score)
        contributions = shares(scores.errors)
        return [
            Verdict(
                at=float(scores.times[row]),
                state=State.ANOMALOUS if scores.score[row] > limits[row] else State.OK,
                threshold_mse=float(limits[row]),
                score_mse=float(scores.score[row]),
                features=self._features(scores, contributions, row),
            )
            for row in range(len(scores.times))
        ]

    def _features(
        self, scores: Scores, contributions: np.ndarray, row: int
    ) -> tuple[FeatureView, ...]:
        return tuple(
            FeatureView(
                name,
                float(scores.errors[row, column]),
                float(contributions[row, column]),
                float(scores.observed[row, column]),
                float(scores.expected[row, column]),
            )
            for column, name in enumerate(self.preparation.features)
        )


def errors_and_expected(
    model: Model, windows: Windows, features: int
) -> tuple[np.ndarray, np.ndarray]:
    """The model's outcome for all windows, a batch at a time: both float64 (windows, features)."""
    outcomes = [model.apply(batch) for batch in batches(windows)]
    if not outcomes:
        return np.empty((0, features)), np.empty((0, features))
    return (
        np.concatenate([outcome.errors for outcome in outcomes]),
        np.concatenate([outcome.expected for outcome in outcomes]),
    )

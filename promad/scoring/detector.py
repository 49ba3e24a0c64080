"""`Detector`: preparation, model, scoring and threshold put together. Using it changes nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from promad.data.frame import MetricFrame
from promad.data.preparation import Preparation
from promad.data.windows import SampleWindows, Windows, batches
from promad.events.verdict import FeatureView, State, Verdict
from promad.models import Model, Outcome
from promad.scoring.attribution import shares_of_excess
from promad.scoring.scores import Scores
from promad.scoring.scoring import Scoring
from promad.thresholds import Threshold

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Detector:
    """What a bundle comes to once it is opened."""

    preparation: Preparation
    model: Model
    scoring: Scoring
    threshold: Threshold
    length: int

    @property
    def samples_needed(self) -> int:
        """How many of the newest samples decide the newest score."""
        return self.length + self.scoring.memory - 1 + self.preparation.context

    def complete_samples(self, frame: MetricFrame) -> int:
        """Usable samples in a row at the end of the frame, at most a window's length."""
        return int(self.complete_runs(frame)[-1])

    def complete_runs(self, frame: MetricFrame) -> NDArray[np.int64]:
        """Usable samples in a row up to each sample, at most a window's length: (samples,)."""
        scaled, _ = self.preparation.scale_with_gaps(frame, self.scoring.required_share)
        unusable = np.isnan(scaled.values[0]).any(axis=1)
        rows = np.arange(len(unusable))
        broken = np.maximum.accumulate(np.where(unusable, rows, -1))
        return np.minimum(rows - broken, self.length)

    def score(self, frame: MetricFrame, since: float = -np.inf) -> Scores:
        """Score every window of the frame's first group that ends after `since`.

        A feature that is missing beyond what is filled is left out of the scores of all windows
        that reach into its gap, as long as `scoring.required_share` of the features are known.

        Args:
            frame: measured values in natural units, NaN where missing. Each score depends on the
                `samples_needed` samples up to its own time.
            since: unix seconds.
        """
        share = self.scoring.required_share
        scaled, missing = self.preparation.scale_with_gaps(frame, share)
        windows = self.preparation.windows([scaled], self.length)
        remembered = since - (self.scoring.memory - 1) * frame.step
        newest = _ending_after(windows, remembered + frame.step / 2)
        rows = newest.starts + self.length - 1
        errors, outcome = self._errors(newest, missing)
        first = int((newest.times <= since + frame.step / 2).sum())
        smoothed = self.scoring.smoothed(errors, rows, first)
        return Scores(
            times=newest.times[first:],
            score=self.scoring.score(smoothed),
            errors=self.scoring.by_feature(smoothed),
            window_errors=outcome.window_errors[first:],
            observed=frame.values[0][rows[first:], : self.preparation.scored],
            expected=self.preparation.natural(outcome.expected[first:]),
        )

    def _errors(self, windows: SampleWindows, missing: NDArray[np.bool_]) -> tuple[Values, Outcome]:
        """What is scored, and the whole outcome; NaN for features that a window lacks."""
        outcome = applied(self.model, windows)
        if missing.any():
            outcome = _without(outcome, _lacking(missing[:, : self.preparation.scored], windows))
        return scored_errors(outcome, self.scoring.method), outcome

    def judge(self, scores: Scores, limits: Values | None = None) -> list[Verdict]:
        """Hold each known score to its limit: one verdict per score, OK or ANOMALOUS.

        Args:
            limits: float64 (windows,); by default those of the threshold.
        """
        held_to = self.threshold.limit(scores.score) if limits is None else limits
        contributions = shares_of_excess(scores.errors, self.scoring.baseline)
        mse = mean_known(scores.window_errors)
        return [
            Verdict(
                at=float(scores.times[row]),
                state=State.ANOMALOUS if scores.score[row] > held_to[row] else State.OK,
                threshold=float(held_to[row]),
                score=float(scores.score[row]),
                mse=float(mse[row]),
                plain=self.scoring.method == "mse",
                features=self._features(scores, contributions, row),
            )
            for row in range(len(scores.times))
            if not np.isnan(scores.score[row])
        ]

    def _features(self, scores: Scores, contributions: Values, row: int) -> tuple[FeatureView, ...]:
        elevations = scores.errors[row] / self.scoring.baseline
        return tuple(
            FeatureView(
                name=name,
                error=float(scores.window_errors[row, column]),
                contribution=float(contributions[row, column]),
                observed=float(scores.observed[row, column]),
                expected=float(scores.expected[row, column]),
                elevation=float(elevations[column]),
            )
            for column, name in enumerate(self.preparation.features[: self.preparation.scored])
            if not np.isnan(scores.errors[row, column])
        )


def scored_errors(outcome: Outcome, method: str) -> Values:
    """The errors that the scoring method starts from: (windows, members * features)."""
    return outcome.window_errors if method == "mse" else outcome.errors


def applied(model: Model, windows: Windows) -> Outcome:
    """The model's outcome for all windows, a batch at a time."""
    outcomes = [model.apply(batch) for batch in batches(windows)]
    if not outcomes:
        empty = windows.take(np.empty(0, np.int64))
        outcomes = [model.apply(empty)]
    return Outcome(
        np.concatenate([outcome.errors for outcome in outcomes]),
        np.concatenate([outcome.expected for outcome in outcomes]),
        np.concatenate([outcome.window_errors for outcome in outcomes]),
    )


def _ending_after(windows: SampleWindows, time: float) -> SampleWindows:
    return replace(windows, starts=windows.starts[windows.times > time])


def _lacking(missing: NDArray[np.bool_], windows: SampleWindows) -> NDArray[np.bool_]:
    """Which features are missing anywhere within each window: bool (windows, features)."""
    before = np.cumsum(np.vstack([np.zeros_like(missing[:1]), missing]), axis=0)
    counts = before[windows.starts + windows.length] - before[windows.starts]
    return np.asarray(counts > 0, np.bool_)


def _without(outcome: Outcome, lacking: NDArray[np.bool_]) -> Outcome:
    members = outcome.errors.shape[1] // lacking.shape[1]
    return Outcome(
        np.where(np.tile(lacking, (1, members)), np.nan, outcome.errors),
        outcome.expected,
        np.where(lacking, np.nan, outcome.window_errors),
    )


def mean_known(errors: Values) -> Values:
    """The mean of the known features' errors: (windows, features) to (windows,)."""
    known = ~np.isnan(errors)
    total = np.where(known, errors, 0.0).sum(axis=1)
    return np.asarray(total / np.maximum(known.sum(axis=1), 1), np.float64)

"""Scoring: from a model's errors to one number per sample. Every model goes this way.

    error of each feature at a window's last sample
      ÷ what is usual for that feature in training     (so that no feature drowns the others)
      smoothed over the samples before                  (a causal moving average)
      aggregated over the features                      (mean, or mean of the largest)
      = score

`scoring: mse` is the original's instead: the mean squared error over the whole window and all
features, neither normalised nor smoothed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promad.config import ScoringSettings

Values = NDArray[np.float64]
Rows = NDArray[np.int64]

_SPANS_KEPT = 5
"""A moving average of span s forgets: after 5 s samples what is left of one is 1 / e^10."""

_FEW = 16
"""So many rows, as a tick adds, are averaged one by one."""

_BASELINE = 0.95
_SMALLEST = 1e-6
"""No feature counts as reproduced better than to a thousandth of a scaled unit."""


@dataclass(frozen=True)
class Scoring:
    """How errors become a score; fitted on the training part.

    Attributes:
        method: `normalised` or `mse`.
        normaliser: what each feature's error is divided by, float64 (features,).
        baseline: the smoothed, normalised error that a feature stayed below for 95 % of training.
        top_k: how many of the largest features the score is the mean of; None means all.
        span: of the moving average, in samples; 1 means none.
        required_share: of the features that must be known for a score, above 0 to 1.
        members: how many models' errors stand side by side; more than one in a fusion alone.
    """

    method: str
    normaliser: Values
    baseline: Values
    top_k: int | None
    span: int
    required_share: float
    members: int = 1

    @property
    def memory(self) -> int:
        """How many of the newest windows decide a score."""
        return 1 if self.span == 1 else _SPANS_KEPT * self.span

    def smoothed(self, errors: Values, at: Rows, first: int = 0) -> Values:
        """Errors of windows, (windows, members * features), normalised and smoothed.

        Each row is a weighted mean of those of the `memory` samples up to its own, with weights
        that fall by the factor 1 - 2 / (span + 1) a sample. Samples without a window and features
        that are NaN are left out of it, and NaN stays NaN.

        Args:
            at: the number of the sample at which each window ends, int64 (windows,), rising.
            first: the first row that is wanted; those before it only count in its means.
        """
        return moving_average(errors / self.normaliser, at, self.span, self.memory, first)

    def score(self, smoothed: Values) -> Values:
        """The score of each row: (samples, members * features) to (samples,).

        NaN where too little is known: known features stand in for missing ones, as long as they
        are `required_share` of all. Several members' scores come to the mean of their log(1 + s).
        """
        each = [self._aggregated(block) for block in self._blocks(smoothed)]
        return each[0] if self.members == 1 else np.mean(np.log1p(each), axis=0)

    def by_feature(self, smoothed: Values) -> Values:
        """What each feature adds to the score: (samples, members * features) to (..., features).

        A member counts by what it adds to the score.
        """
        if self.members == 1:
            return smoothed
        total = np.zeros((len(smoothed), smoothed.shape[1] // self.members))
        for block in self._blocks(smoothed):
            score = self._aggregated(block)
            weight = np.divide(np.log1p(score), score, out=np.ones_like(score), where=score > 0)
            total += block * weight[:, np.newaxis] / self.members
        return total

    def _blocks(self, smoothed: Values) -> list[Values]:
        return np.split(smoothed, self.members, axis=1)

    def _aggregated(self, smoothed: Values) -> Values:
        known = ~np.isnan(smoothed)
        count = known.sum(axis=1)
        enough = (count > 0) & (count >= self.required_share * smoothed.shape[1] - 1e-9)
        largest = np.where(known, smoothed, 0.0)
        if self.top_k and self.top_k < smoothed.shape[1]:
            largest = -np.partition(-largest, self.top_k - 1, axis=1)[:, : self.top_k]
            count = np.minimum(count, self.top_k)
        return np.where(enough, largest.sum(axis=1) / np.maximum(count, 1), np.nan)

    def to_json(self) -> dict[str, Any]:
        """Plain values, from which `from_json` makes the same scoring to the last bit."""
        return {
            "method": self.method,
            "normaliser": self.normaliser.tolist(),
            "baseline": self.baseline.tolist(),
            "top_k": self.top_k,
            "span_samples": self.span,
            "required_share": self.required_share,
            "members": self.members,
        }

    @staticmethod
    def from_json(content: dict[str, Any]) -> Scoring:
        """The scoring that `to_json` described.

        Raises:
            KeyError, TypeError, ValueError: if `content` is not such a description.
        """
        normaliser = np.asarray(content["normaliser"], np.float64)
        baseline = np.asarray(content["baseline"], np.float64)
        if not (normaliser > 0).all() or not (baseline > 0).all():
            raise ValueError("normaliser or baseline is not above zero")
        top_k = content["top_k"]
        return Scoring(
            method=str(content["method"]),
            normaliser=normaliser,
            baseline=baseline,
            top_k=None if top_k is None else int(top_k),
            span=int(content["span_samples"]),
            required_share=float(content["required_share"]),
            members=int(content["members"]),
        )


def fit_scoring(errors: Values, at: Rows, members: int, settings: ScoringSettings) -> Scoring:
    """Learn what is usual from errors of the training part.

    `normalise_by: feature` divides each feature's error by its own quantile plus the mean of all
    features' quantiles. The second term keeps a feature that was reproduced almost perfectly in
    training, as one that hardly moved, from deciding every score by itself. `normalise_by: model`
    divides all features by that mean alone.

    Args:
        errors: float64 (windows, members * features).
        at: the number of the sample at which each window ends, int64 (windows,), rising.
    """
    mse = settings.method == "mse"
    usual = np.quantile(errors, settings.quantile, axis=0)
    fitted = Scoring(
        method=settings.method,
        normaliser=np.ones_like(usual) if mse else _normaliser(usual, members, settings),
        baseline=np.ones_like(usual),
        top_k=settings.top_k if settings.aggregate == "top_k" and not mse else None,
        span=1 if mse else settings.smoothing_samples,
        required_share=settings.required_share,
        members=members,
    )
    smoothed = fitted.by_feature(fitted.smoothed(errors, at))
    baseline = np.quantile(smoothed, _BASELINE, axis=0)
    return replace(fitted, baseline=np.maximum(baseline, _SMALLEST))


def _normaliser(usual: Values, members: int, settings: ScoringSettings) -> Values:
    own = usual if settings.normalise_by == "feature" else np.zeros_like(usual)
    shared = [np.full_like(part, part.mean()) for part in np.split(usual, members)]
    return own + np.maximum(np.concatenate(shared), _SMALLEST)


def moving_average(values: Values, at: Rows, span: int, memory: int, first: int = 0) -> Values:
    """The exponentially weighted mean of each row and those up to `memory` - 1 samples before.

    NaN is left out, and stays NaN. Where less than half of the weight is known, as just after a
    gap, the mean is over half of it: one sample does not yet speak for many. A row is summed in the
    same order whatever came before, so it has the same value in whatever longer array it stands.

    Returns:
        The rows from `first` on.
    """
    if span == 1 or len(values) <= first:
        return values[first:].copy()
    weights = np.multiply.accumulate(np.append(1.0, np.full(memory - 1, 1.0 - 2.0 / (span + 1))))
    result = np.empty_like(values)
    starts = np.flatnonzero(np.diff(at, prepend=at[0] - memory) >= memory)
    for start, end in zip(starts, [*starts[1:], len(at)], strict=True):
        places = at[start:end] - at[start]
        grid = np.full((places[-1] + 1, values.shape[1]), np.nan)
        grid[places] = values[start:end]
        wanted = places[max(first - start, 0) :]
        few = len(wanted) <= _FEW and values.shape[1] > 1
        mean = _of_rows(grid, weights, wanted) if few else _of_all(grid, weights)[wanted]
        result[end - len(wanted) : end] = mean
    return result[first:]


def _of_all(values: Values, weights: Values) -> Values:
    """The mean of every row of a regular grid; NaN rows are samples without a window."""
    known = ~np.isnan(values)
    filled = np.where(known, values, 0.0)
    alike = bool((known == known[:, :1]).all())
    counted = known[:, :1] if alike else known
    total, weight = np.zeros_like(values), np.zeros(counted.shape)
    for back in range(min(len(weights), len(values))):
        total[back:] += weights[back] * filled[: len(values) - back]
        weight[back:] += weights[back] * counted[: len(values) - back]
    return np.where(known, total / np.maximum(weight, weights.sum() / 2), np.nan)


def _of_rows(values: Values, weights: Values, rows: Rows) -> Values:
    """The same for a few rows alone, to the last bit."""
    means = np.empty((len(rows), values.shape[1]))
    for place, row in enumerate(rows):
        seen = values[max(row + 1 - len(weights), 0) : row + 1][::-1]
        known = ~np.isnan(seen)
        own = weights[: len(seen), np.newaxis]
        total = np.add.reduce(own * np.where(known, seen, 0.0), axis=0)
        weight = np.add.reduce(own * known, axis=0)
        mean = total / np.maximum(weight, weights.sum() / 2)
        means[place] = np.where(known[0], mean, np.nan)
    return means

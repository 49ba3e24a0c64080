"""Scoring: from a model's errors to one number per sample, the same way for every model.

    error of each feature at a window's last sample
      ÷ its 99 % quantile in training      (so that no feature drowns the others)
      smoothed over the samples before     (a causal moving average)
      compressed where it is large         (so that none outvotes many that move together)
      aggregated over the features         (mean, or mean of the largest)
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
from promad.data.moving_average import SPANS_REMEMBERED, average_at

Values = NDArray[np.float64]
Rows = NDArray[np.int64]

RECURSIVE, TRUNCATED = "recursive", "truncated"

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
        weights: how much each feature counts, 1 on average, float64 (features,); None if alike.
        calm: the score that four fifths of the training scores are below; None in bundles made
            before it was measured.
        recent_samples: how many of the newest samples the short average is of, by which an event
            ends; None in bundles made before, and where nothing is smoothed.
        typical: the median score of training; 0 where events end by the score itself.
        smoothing: with which form of the moving average it was fitted: `recursive`, or `truncated`
            in bundles made before. At work it is always the former, see `moving_average`.
        compression: the multiple of the usual error beyond which a feature counts by the logarithm
            of its error; None, as in bundles made before, if it never does.
    """

    method: str
    normaliser: Values
    baseline: Values
    top_k: int | None
    span: int
    required_share: float
    members: int = 1
    smoothing: str = RECURSIVE
    compression: float | None = None
    calm: float | None = None
    weights: Values | None = None
    recent_samples: int | None = None
    typical: float = 0.0

    @property
    def memory(self) -> int:
        """How many of the newest windows decide a score, but for a share of e^-10."""
        return 1 if self.span == 1 else SPANS_REMEMBERED * self.span

    def normalise(self, errors: Values, normaliser: Values | None = None) -> Values:
        """Errors over what is usual: (..., members * features) to the same shape.

        Args:
            normaliser: in place of the scoring's own, broadcast against the errors.
        """
        return np.asarray(errors / (self.normaliser if normaliser is None else normaliser))

    def smooth(self, errors: Values, at: Rows) -> Values:
        """One group's errors, (windows, members * features), normalised and smoothed.

        Samples without a window and features that are NaN are left out, and NaN stays NaN.

        Args:
            at: the number of the sample at which each window ends, int64 (windows,), rising.

        Raises:
            ValueError: if the numbers do not rise.
        """
        return average_at(self.normalise(errors), at, self.span)

    def score(self, smoothed: Values) -> Values:
        """The score of each sample: (..., members * features) to (...,).

        NaN where too little is known: known features stand in for missing ones, as long as they
        are `required_share` of all. Several members' scores become the mean of their log(1 + s).
        """
        each = [self._aggregate(block) for block in self._split(smoothed)]
        return each[0] if self.members == 1 else np.mean(np.log1p(each), axis=0)

    def by_feature(self, smoothed: Values, errors: Values | None = None) -> Values:
        """What the score is made of, (..., members * features) to (..., features), not compressed.

        A member counts by what it adds to the score. Without compression the mean is the score.

        Args:
            errors: of the sample alone, normalised, in place of the smoothed ones; same shape.
        """
        errors = smoothed if errors is None else errors
        if self.members == 1:
            return self._weigh(errors)
        total = np.zeros((*smoothed.shape[:-1], smoothed.shape[-1] // self.members))
        for block, added in zip(self._split(smoothed), self._split(errors), strict=True):
            score = self._aggregate(block)
            weight = np.divide(np.log1p(score), score, out=np.ones_like(score), where=score > 0)
            total += added * weight[..., np.newaxis] / self.members
        return self._weigh(total)

    def _split(self, smoothed: Values) -> list[Values]:
        return np.split(smoothed, self.members, axis=-1)

    def _aggregate(self, smoothed: Values) -> Values:
        compressed = self._weigh(self._compress(smoothed))
        features, total = smoothed.shape[-1], compressed.sum(axis=-1)
        most = self.top_k if self.top_k and self.top_k < features else None
        if most is None and not np.isnan(total).any():  # nearly always
            return np.asarray(total / features)
        known = ~np.isnan(smoothed)
        count = known.sum(axis=-1)
        enough = (count > 0) & (count >= self.required_share * features - 1e-9)
        largest = np.where(known, compressed, 0.0)
        if self.weights is not None:
            count = (known * self.weights).sum(axis=-1)
        if most is not None:
            largest = -np.partition(-largest, most - 1, axis=-1)[..., :most]
            count = np.minimum(count, most)
        return np.where(enough, largest.sum(axis=-1) / np.where(enough, count, 1), np.nan)

    def _weigh(self, values: Values) -> Values:
        return values if self.weights is None else values * self.weights

    def _compress(self, smoothed: Values) -> Values:
        """Nearly the same below `compression`, and logarithmic above."""
        if self.compression is None:
            return smoothed
        return np.asarray(self.compression * np.log1p(smoothed / self.compression))

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
            "smoothing": self.smoothing,
            "compression": self.compression,
            **({} if self.weights is None else {"weights": self.weights.tolist()}),
            **({} if self.calm is None else {"calm": self.calm}),
            "recent_samples": self.recent_samples,
            "typical_score": self.typical,
        }

    @staticmethod
    def from_json(content: dict[str, Any]) -> Scoring:
        """The scoring that `to_json` described.

        Raises:
            KeyError, TypeError, ValueError: if `content` is not such a description.
        """
        normaliser = np.asarray(content["normaliser"], np.float64)
        baseline = np.asarray(content["baseline"], np.float64)
        for values in (normaliser, baseline):
            if values.ndim != 1 or not (np.isfinite(values) & (values > 0)).all():
                raise ValueError("normaliser or baseline is not above zero and finite")
        top_k, compression = content["top_k"], content.get("compression")
        scoring = Scoring(
            method=str(content["method"]),
            normaliser=normaliser,
            baseline=baseline,
            top_k=None if top_k is None else int(top_k),
            span=int(content["span_samples"]),
            required_share=float(content["required_share"]),
            members=int(content["members"]),
            smoothing=str(content.get("smoothing", TRUNCATED)),
            compression=None if compression is None else float(compression),
            calm=float(content["calm"]) if "calm" in content else None,
            weights=_read_weights(content.get("weights"), len(baseline)),
            recent_samples=_read_recent_samples(content.get("recent_samples")),
            typical=float(content.get("typical_score", 0.0)),
        )
        if not (
            scoring.method in {"normalised", "mse"}
            and (scoring.top_k is None or scoring.top_k > 0)
            and min(scoring.span, scoring.members) > 0
            and 0 <= scoring.typical < np.inf
            and 0 < scoring.required_share <= 1
            and (scoring.compression is None or 0 < scoring.compression < np.inf)
        ):
            raise ValueError("scoring is out of range")
        return scoring


def _read_recent_samples(value: Any) -> int | None:
    if value is not None and int(value) < 1:
        raise ValueError("recent_samples is below 1")
    return None if value is None else int(value)


def choose_recent_samples(settings: ScoringSettings) -> int | None:
    """Samples of the short average; None where the long one is no longer."""
    short = settings.recent_samples
    return short if short < settings.smoothing_samples else None


def _read_weights(content: object, features: int) -> Values | None:
    if content is None:
        return None
    weights = np.asarray(content, np.float64)
    if weights.shape != (features,) or not (np.isfinite(weights) & (weights > 0)).all():
        raise ValueError("weights are not those of the features")
    return weights


def fit_scoring(
    errors: Values,
    at: Rows,
    members: int,
    settings: ScoringSettings,
    weights: Values | None = None,
) -> Scoring:
    """Learn what is usual from errors of the training part.

    `normalise_by: feature` divides each feature's error by its own quantile plus the mean of all
    features' quantiles. The second term keeps a feature that was reproduced almost perfectly in
    training, as one that hardly moved, from deciding every score by itself. `normalise_by: model`
    divides all features by that mean alone.

    Args:
        errors: float64 (windows, members * features).
        at: the number of the sample at which each window ends, int64 (windows,), rising.
        weights: how much each feature counts, 1 on average; None if all count alike.
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
        compression=None if mse else settings.compression,
        weights=weights,
        recent_samples=None if mse else choose_recent_samples(settings),
    )
    smoothed = fitted.smooth(errors, at)
    baseline = np.quantile(fitted.by_feature(smoothed), _BASELINE, axis=0)
    typical = 0.0 if fitted.recent_samples is None else float(np.median(fitted.score(smoothed)))
    return replace(fitted, baseline=np.maximum(baseline, _SMALLEST), typical=typical)


def _normaliser(usual: Values, members: int, settings: ScoringSettings) -> Values:
    own = usual if settings.normalise_by == "feature" else np.zeros_like(usual)
    shared = [np.full_like(part, part.mean()) for part in np.split(usual, members)]
    return own + np.maximum(np.concatenate(shared), _SMALLEST)

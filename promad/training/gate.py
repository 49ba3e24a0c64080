"""The gate: a network that finds injected anomalies no better than scores that learn nothing.

Anomalies of known kinds are put into the newest stretch of the validation part, several times over,
and the trained detector and the naive scores are held to them on the same samples. Both know the
training part alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promad.data.frame import MetricFrame
from promad.data.preparation import REACH, Preparation, usable_parts
from promad.evaluation.injection import BLOCK, KINDS, Injected, inject
from promad.evaluation.naive import NAIVE
from promad.evaluation.ranking import vus
from promad.models import Model
from promad.scoring.detector import apply_model, select_errors
from promad.scoring.scoring import Scoring

Values = NDArray[np.float64]
Score = Callable[[Values], Values]
"""Scaled values of the scored features, (samples, features), to a score for each sample."""

FEWEST_WINDOWS = 200
_MOST_SAMPLES = 2000
_SAMPLES_IN_ALL = 10_000
_ROWS_IN_ALL = 300_000
"""Samples of all windows together: what takes a network a few seconds, however long they are."""
_FEWEST_SEEDS, _MOST_SEEDS = 2, 20
_LASTING = (10, 30)
"""An anomaly lasts one to two windows, of which this is the least and the most, in samples."""
_SMALLEST_SPREAD = 1e-6
_NAIVE = tuple(name for name in NAIVE if name != "random")
_MEAN = "mean"


@dataclass(frozen=True)
class Gate:
    """What the gate found.

    Attributes:
        model: the name of the model, whose row stands among the others.
        rows: by row and by kind the mean VUS-PR over the seeds, and as "mean" that of the kinds.
        samples: how many are in the stretch.
        seeds: how many times anomalies were put into it.
        window: the widest buffer of VUS-PR, in samples.
        skipped: why nothing was measured; empty if it was.
        forced: whether the model was promoted although it was to be refused.
    """

    model: str
    rows: Mapping[str, Mapping[str, float]]
    samples: int = 0
    seeds: int = 0
    window: int = 0
    skipped: str = ""
    forced: bool = False

    @property
    def own(self) -> float:
        """The model's own figure, 0 to 1."""
        return self.rows[self.model][_MEAN]

    @property
    def best_naive(self) -> tuple[str, float]:
        """The row that learns nothing and is best nevertheless, and its figure."""
        name = max(_NAIVE, key=lambda row: self.rows[row][_MEAN])
        return name, self.rows[name][_MEAN]

    @property
    def passed(self) -> bool:
        """Whether the model is better than every row that learns nothing, or none was measured."""
        return bool(self.skipped) or self.own > self.best_naive[1]

    def to_json(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        if self.skipped:
            return {"skipped": self.skipped}
        return {**asdict(self), "passed": self.passed}


def skipped(name: str, why: str) -> Gate:
    """The verdict where nothing was measured."""
    return Gate(name, {}, skipped=why)


def gate(
    name: str,
    model: Model,
    scoring: Scoring,
    preparation: Preparation,
    frames: Sequence[MetricFrame],
    boundary: float,
    length: int,
) -> Gate:
    """Hold a trained model to the naive scores on the newest stretch of the validation part.

    Args:
        name: of the model.
        frames: scaled, both parts, NaN where missing.
        boundary: unix seconds of the last sample of the training part.
    """
    training, stretch = _parts(preparation, frames, boundary, length)
    lasting = int(np.clip(length, *_LASTING))
    spread = training.std(axis=0)
    spread[spread < _SMALLEST_SPREAD] = 0.0
    if stretch.samples < max(FEWEST_WINDOWS + length - 1, BLOCK * lasting):
        why = f"{stretch.samples} samples in a row to validate on are too few to tell"
        return skipped(name, why)
    if not spread.any():
        return skipped(name, "no feature moves in the training part")
    scores = {name: _own_score(model, scoring, preparation, stretch, length)}
    scores |= {row: partial(_naive_score, row, training) for row in _NAIVE}
    values = stretch.values[0][:, : preparation.scored]
    rounds = [
        _figures(scores, inject(values, spread, seed, length=lasting), length, lasting)
        for seed in range(_seeds(stretch.samples, length))
    ]
    rows = {row: _means([each[row] for each in rounds]) for row in scores}
    return Gate(name, rows, stretch.samples, len(rounds), lasting)


def _seeds(samples: int, length: int) -> int:
    """How many times to measure: the more often, the fewer samples there are."""
    affordable = min(_SAMPLES_IN_ALL // samples, _ROWS_IN_ALL // (samples * length))
    return int(np.clip(affordable, _FEWEST_SEEDS, _MOST_SEEDS))


def _parts(
    preparation: Preparation, frames: Sequence[MetricFrame], boundary: float, length: int
) -> tuple[Values, MetricFrame]:
    """Scaled training rows of the scored features, and the longest stretch after the gap."""
    parts = [part for frame in frames for part in usable_parts(frame)]
    tolerance = parts[0].step / 2
    training = np.concatenate(
        [part.values[0][part.times <= boundary + tolerance] for part in parts]
    )
    begin = boundary + length * parts[0].step + tolerance
    held_out = [part.slice(int((part.times <= begin).sum()), part.samples) for part in parts]
    longest = max(held_out, key=lambda part: part.samples)
    newest = longest.slice(max(0, longest.samples - _MOST_SAMPLES), longest.samples)
    return training[:, : preparation.scored], newest


def _own_score(
    model: Model, scoring: Scoring, preparation: Preparation, stretch: MetricFrame, length: int
) -> Score:
    """The score of the trained detector; NaN before the first whole window."""

    def score(values: Values) -> Values:
        conditions = stretch.values[0][:, preparation.scored :]
        frame = stretch.with_values(np.hstack([values, conditions])[np.newaxis])
        windows = preparation.windows([frame], length)
        errors = select_errors(apply_model(model, windows), scoring.method)
        smoothed = scoring.smooth(errors, windows.starts + length - 1)
        return np.concatenate([np.full(length - 1, np.nan), scoring.score(smoothed)])

    return score


def _naive_score(row: str, training: Values, values: Values) -> Values:
    return NAIVE[row](training, values, 0)


def _figures(
    scores: Mapping[str, Score], injected: Injected, unknown: int, window: int
) -> dict[str, dict[str, float]]:
    """VUS-PR by row and kind, over the blocks of the kind; NaN for a kind that is not there.

    The first `unknown` samples, for which not every row has a score, do not count.
    """
    values, labels = np.clip(injected.values, -REACH, REACH), injected.labels
    counted = np.arange(len(values)) >= unknown
    parts = {kind: counted & (injected.kinds == kind) for kind in KINDS}
    scored = {row: score(values) for row, score in scores.items()}
    return {
        row: {kind: vus(found[part], labels[part], window).pr for kind, part in parts.items()}
        for row, found in scored.items()
    }


def _means(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each kind over the seeds that have it, after the mean of these."""
    by_kind = {kind: np.array([each[kind] for each in rounds]) for kind in KINDS}
    means = {
        kind: float(figures[~np.isnan(figures)].mean())
        for kind, figures in by_kind.items()
        if not np.isnan(figures).all()
    }
    return {_MEAN: float(np.mean(list(means.values()))), **means}

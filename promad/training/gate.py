"""The gate: whether a trained detector is better than an untrained baseline, and a network that
completes a linear model worth its cost.

Anomalies of known kinds are injected into the newest stretch of the validation part, several times
over. The detector and the untrained baselines score the same samples; both know the training part
alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promad.data.frame import MetricFrame
from promad.data.preparation import REACH, usable_parts
from promad.evaluation.injection import BLOCK, KINDS, Injected, inject
from promad.evaluation.naive import NAIVE
from promad.evaluation.ranking import vus
from promad.scoring.detector import Detector, apply_model, count_errors, select_errors

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
_AS_GOOD = 0.01
"""A network may have a VUS-PR that much below that of its linear model; seeds differ by as much."""
_USUAL_SHARE, _MORE_OFTEN = 0.01, 1.5
LINEAR = "linear"
_NETWORK = "network"
_NAIVE = tuple(name for name in NAIVE if name != "random")
_MEAN = "mean"


@dataclass(frozen=True)
class Gate:
    """What the gate has measured.

    Attributes:
        model: the name of the model, whose row is among the others.
        rows: by row and by kind the mean VUS-PR over the seeds, and as "mean" that of the kinds.
            The row of a linear model that a network completes is "linear".
        samples: how many are in the stretch.
        seeds: how many times anomalies were injected into it.
        window: the widest buffer of VUS-PR, in samples.
        skipped: why nothing was measured; empty if it was.
        forced: whether the model was promoted although it failed.
        left_out: why the network was left out, and its linear model promoted alone; the model's row
            is then that of the linear model, and the network's is "network".
    """

    model: str
    rows: Mapping[str, Mapping[str, float]]
    samples: int = 0
    seeds: int = 0
    window: int = 0
    skipped: str = ""
    forced: bool = False
    left_out: str = ""

    @property
    def own(self) -> float:
        """The model's own figure, 0 to 1."""
        return self.rows[self.model][_MEAN]

    @property
    def best_naive(self) -> tuple[str, float]:
        """The best untrained baseline, and its figure."""
        name = max(_NAIVE, key=lambda row: self.rows[row][_MEAN])
        return name, self.rows[name][_MEAN]

    @property
    def passed(self) -> bool:
        """Whether the model is better than every untrained baseline, or nothing was measured."""
        return bool(self.skipped) or self.own > self.best_naive[1]

    def to_json(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        if self.skipped:
            return {"skipped": self.skipped}
        return {**asdict(self), "passed": self.passed}


def is_calm(scores: Values, linear: Values, validation: int) -> bool:
    """Whether a network's scores keep a limit about as well as those of its linear model.

    The limit is what 99 % of the training part stay below; counted is the share of the validation
    part above it.

    Args:
        scores, linear: of the training and then the validation part, (windows,).
        validation: the number of windows of the latter.
    """
    own, other = (_find_share_above(each, validation) for each in (scores, linear))
    return own <= _MORE_OFTEN * max(other, _USUAL_SHARE)


def _find_share_above(scores: Values, validation: int) -> float:
    training, newest = np.split(scores, [len(scores) - validation])
    return float((newest > np.quantile(training, 1 - _USUAL_SHARE)).mean())


def weigh_network(gate: Gate, calm: bool) -> Gate:
    """The gate's outcome, with the network left out if it is not worth its cost.

    Args:
        gate: with a row of the linear model, if there was enough to measure on.
        calm: whether the network keeps a limit as well as the linear model.
    """
    if not calm:
        why = "its validation scores exceed the training limit more often than the linear model's"
    elif LINEAR in gate.rows and gate.own < gate.rows[LINEAR][_MEAN] - _AS_GOOD:
        why = (
            f"VUS-PR {gate.own:.3f} on injected anomalies, the linear model alone "
            f"{gate.rows[LINEAR][_MEAN]:.3f}"
        )
    else:
        return gate
    if LINEAR not in gate.rows:
        return replace(gate, left_out=why)
    rows = {name: row for name, row in gate.rows.items() if name != LINEAR}
    rows |= {gate.model: gate.rows[LINEAR], _NETWORK: gate.rows[gate.model]}
    return replace(gate, rows=rows, left_out=why)


def skip_gate(model: str, why: str) -> Gate:
    """The outcome where nothing was measured."""
    return Gate(model, {}, skipped=why)


def run_gate(
    model: str,
    detector: Detector,
    frames: Sequence[MetricFrame],
    training_ends_at: float,
    linear: Detector | None = None,
) -> Gate:
    """Compare a trained detector with the untrained baselines.

    Args:
        model: the name of its model.
        frames: scaled, both parts, NaN where missing.
        training_ends_at: unix seconds of the last sample of the training part.
        linear: the detector without the network that completes it, to be measured too.
    """
    length, scored = detector.length, detector.preparation.scored
    training, stretch = _parts(frames, training_ends_at, length)
    training = training[:, :scored]
    lasting = int(np.clip(length, *_LASTING))
    spread = training.std(axis=0)
    spread[spread < _SMALLEST_SPREAD] = 0.0
    fewest = max(FEWEST_WINDOWS + length - 1, BLOCK * lasting)
    if stretch.samples < fewest:
        why = f"{stretch.samples} consecutive validation samples, fewer than {fewest}"
        return skip_gate(model, why)
    if not spread.any():
        return skip_gate(model, "every feature is constant in the training part")
    scores = {model: _detector_score(detector, stretch)}
    if linear is not None:
        scores[LINEAR] = _detector_score(linear, stretch)
    scores |= {row: partial(_naive_score, row, training) for row in _NAIVE}
    values = stretch.values[0][:, :scored]
    rounds = [
        _measure(scores, inject(values, spread, seed, length=lasting), length, lasting)
        for seed in range(_count_seeds(stretch.samples, length))
    ]
    rows = {row: _average([each[row] for each in rounds]) for row in scores}
    return Gate(model, rows, stretch.samples, len(rounds), lasting)


def _count_seeds(samples: int, length: int) -> int:
    """How many times to measure: the more often, the fewer samples there are."""
    affordable = min(_SAMPLES_IN_ALL // samples, _ROWS_IN_ALL // (samples * length))
    return int(np.clip(affordable, _FEWEST_SEEDS, _MOST_SEEDS))


def _parts(
    frames: Sequence[MetricFrame], training_ends_at: float, length: int
) -> tuple[Values, MetricFrame]:
    """The training rows, and the newest samples of the longest stretch after the gap."""
    parts = [part for frame in frames for part in usable_parts(frame)]
    tolerance = parts[0].step / 2
    training = np.concatenate(
        [part.values[0][part.times <= training_ends_at + tolerance] for part in parts]
    )
    begin = training_ends_at + length * parts[0].step + tolerance
    held_out = [part.slice(int((part.times <= begin).sum()), part.samples) for part in parts]
    longest = max(held_out, key=lambda part: part.samples)
    return training, longest.slice(max(0, longest.samples - _MOST_SAMPLES), longest.samples)


def _detector_score(detector: Detector, stretch: MetricFrame) -> Score:
    """The score of the trained detector; NaN before the first whole window."""
    preparation, scoring, length = detector.preparation, detector.scoring, detector.length

    def score(values: Values) -> Values:
        conditions = stretch.values[0][:, preparation.scored :]
        frame = stretch.with_values(np.hstack([values, conditions])[np.newaxis])
        windows = preparation.windows([frame], length)
        outcome = apply_model(detector.model, windows)
        errors = select_errors(outcome, scoring.method)
        errors = count_errors(errors, outcome, windows, preparation)
        smoothed = scoring.smooth(errors, windows.starts + length - 1)
        return np.concatenate([np.full(length - 1, np.nan), scoring.score(smoothed)])

    return score


def _naive_score(row: str, training: Values, values: Values) -> Values:
    return NAIVE[row](training, values, 0)


def _measure(
    scores: Mapping[str, Score], injected: Injected, unknown: int, window: int
) -> dict[str, dict[str, float]]:
    """VUS-PR by row and kind, over the blocks of the kind; NaN for a kind that is absent.

    The first `unknown` samples, for which not every row has a score, are left out.
    """
    values, labels = np.clip(injected.values, -REACH, REACH), injected.labels
    counted = np.arange(len(values)) >= unknown
    parts = {kind: counted & (injected.kinds == kind) for kind in KINDS}
    scored = {row: score(values) for row, score in scores.items()}
    return {
        row: {kind: vus(found[part], labels[part], window).pr for kind, part in parts.items()}
        for row, found in scored.items()
    }


def _average(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each kind over the seeds that have it, after the mean of these."""
    by_kind = {kind: np.array([each[kind] for each in rounds]) for kind in KINDS}
    means = {
        kind: float(figures[~np.isnan(figures)].mean())
        for kind, figures in by_kind.items()
        if not np.isnan(figures).all()
    }
    return {_MEAN: float(np.mean(list(means.values()))), **means}


def average_gates(gates: Sequence[Gate]) -> Gate:
    """The mean of each figure over gates of one model; those that measured nothing are left out."""
    measured = [gate for gate in gates if not gate.skipped]
    if not measured:
        return gates[0]
    first = measured[0]
    rows = {
        row: {
            kind: float(
                np.mean([gate.rows[row][kind] for gate in measured if kind in gate.rows[row]])
            )
            for kind in sorted({kind for gate in measured for kind in gate.rows[row]})
        }
        for row in first.rows
    }
    return Gate(
        first.model,
        rows,
        sum(gate.samples for gate in measured),
        sum(gate.seeds for gate in measured),
        first.window,
    )

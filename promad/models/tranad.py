"""TranAD: a transformer that draws a sample twice, the second time knowing where it was wrong.

Good at: relations between features that break, and levels that training never saw, which its
bounded output cannot follow. Bad at: slow drifts within the usual range, and features whose
extremes in training were anomalies themselves, which set the range that it measures in.

Tuli et al. 2022, "TranAD: Deep transformer networks for anomaly detection in multivariate time
series data", PVLDB 15(6), sections 3.3 and 3.4. The first phase draws from the rows alone. The
squared difference between that and each row is the focus, with which the second phase reads the
same rows again. Both phases share the encoder and the output layer. Errors are those of the second
phase (`scoring_mode: phase2_only`), or the mean of both (`averaged`).

The presets:

- `strict` predicts the newest sample from those before it. It never sees what it is to draw, so it
  cannot pass an anomaly on. Inputs are held a little beyond the range of training, errors are not:
  an overshoot stays in the error. Hidden layers are rectified.
- `paper` follows the published code, with its two slips: the newest sample is left out, so the
  error at a window's last sample is that of the sample before; and the hidden layers are linear.
  The sample that is judged is also what the decoder starts from; only the bounded output and short
  training keep it from being copied. Inputs are unbounded (but for what overflows).

Departures in both: no meta-learning and no adversarial loss, as in the published code; the
decoder's self-attention has no queries and keys, which do nothing for a single row; attention
weights are not dropped out; the best epoch of validation is kept; the first samples of a history,
which fill no window, have no score rather than a padded one.

The network works in units of its own: per feature, the training windows span 0 to 1. Expectations
are in the caller's (scaled) units, and so are the errors of `strict`; those of `paper` are in its
own units squared, as published.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promad.config import TrainingSettings
from promad.data.windows import Split, Windows, batches, cut_to
from promad.errors import BundleError
from promad.models.base import Inputs, Outcome, Progress
from promad.models.onnx_running import (
    CODE_FREE_FILE,
    TrainedNetwork,
    insist_on_equality,
    load_session,
    native_messages_silenced,
    open_session,
    run_in_batches,
)

FACTS = "promad"
"""Under what name the facts that no graph holds stand in the file, as JSON."""
_EQUAL_ON = 8
"""How many windows the two forms of the model are compared on."""


@dataclass(frozen=True)
class Design:
    """What sets a preset apart. In each of them the network sees all rows but the newest.

    Attributes:
        judged: the row of a window that is to be drawn, counted from its end.
        limits: between which inputs are held, in the model's units.
        narrowest: the smallest range of a feature, in outer units, that is taken for its own.
        added: what is added to each range.
        rectified: whether hidden layers pass only what is positive.
        own_units: whether errors are in the model's units, not in the outer ones.
    """

    judged: int
    limits: tuple[float, float]
    narrowest: float
    added: float
    rectified: bool
    own_units: bool


DESIGNS: Mapping[str, Design] = {
    "strict": Design(
        judged=-1,
        limits=(-0.5, 1.5),
        narrowest=1.0,
        added=0.0,
        rectified=True,
        own_units=False,
    ),
    "paper": Design(
        judged=-2,
        limits=(-1e6, 1e6),
        narrowest=0.0,
        added=1e-4,
        rectified=False,
        own_units=True,
    ),
}
"""`narrowest` is one outer unit: what never moved in training is measured in the caller's units.
Beyond `limits` of a million, squares of squares would overflow single precision."""


@dataclass(frozen=True)
class Measure:
    """`normalised = (value - low) / span`, per column; float32 (width,). The first are features."""

    low: NDArray[np.float32]
    span: NDArray[np.float32]
    features: int

    @property
    def width(self) -> int:
        return len(self.low)

    def outer(self, normalised: NDArray[np.float32]) -> NDArray[np.float64]:
        """(..., features) in the model's units to outer units."""
        span, low = (each[: self.features].astype(np.float64) for each in (self.span, self.low))
        return normalised * span + low


def fit_measure(windows: Windows, features: int, design: Design) -> Measure:
    """The range of each column over windows without NaN; of conditions, no less than 1."""
    extremes = [(batch.min(axis=(0, 1)), batch.max(axis=(0, 1))) for batch in batches(windows)]
    lows, highs = zip(*extremes, strict=True)
    low = np.min(lows, axis=0)
    narrowest = np.where(np.arange(windows.width) < features, design.narrowest, 1.0)
    span = np.maximum(np.max(highs, axis=0) - low + design.added, narrowest)
    return Measure(low.astype(np.float32), span.astype(np.float32), features)


def positional_encoding(rows: int, columns: int) -> NDArray[np.float32]:
    """The sum of a sine and a cosine of each row's number, slower from column to column.

    The published code, unlike transformers before it, puts both into the same cell.
    """
    speeds = np.exp(-np.arange(columns) * np.log(10_000.0) / columns)
    angles = np.arange(rows)[:, np.newaxis] * speeds
    return np.asarray(np.sin(angles) + np.cos(angles), np.float32)


def first_phase_weight(weighting: str, epoch: int) -> float:
    """The first phase's share of the loss in an epoch, counted from 1; the second has the rest.

    >>> [round(first_phase_weight("epoch_inverse", epoch), 2) for epoch in (1, 2, 5)]
    [1.0, 0.5, 0.2]
    """
    return 1.0 / epoch if weighting == "epoch_inverse" else float(1.01**-epoch)


@dataclass(frozen=True)
class Tranad:
    """A fitted TranAD, run by ONNX Runtime on one thread.

    Attributes:
        length: how many of a window's last rows it looks at.
        judged: which of these rows is drawn, counted from the end.
        averaged: whether errors are the mean of both phases', or the second's.
        own_units: whether errors are in the model's units, not in the outer ones.
    """

    session: Any
    length: int
    judged: int
    averaged: bool
    own_units: bool
    measure: Measure

    @property
    def scoring_modes(self) -> tuple[str, ...]:
        return ("phase2_only", "averaged")

    @property
    def scoring_mode(self) -> str:
        return "averaged" if self.averaged else "phase2_only"

    def in_scoring_mode(self, mode: str) -> Tranad:
        return replace(self, averaged=mode == "averaged")

    def apply(self, windows: Inputs) -> Outcome:
        """Squared errors of the row that is judged, and what the second phase drew there.

        Both are in outer units, unless errors are in the model's own.
        """
        own, features = windows[:, -self.length :], self.measure.features
        observed = own[:, self.judged, :features].astype(np.float64)
        drawn = [self.measure.outer(each) for each in run_in_batches(self.session, own)]
        squares = [np.square(observed - each) for each in drawn]
        errors = (squares[0] + squares[1]) / 2 if self.averaged else squares[1]
        if self.own_units:
            errors = errors / np.square(self.measure.span[:features], dtype=np.float64)
        return Outcome(errors, drawn[1], errors)


def fit(
    split: Split, features: int, settings: TrainingSettings, seed: int, progress: Progress
) -> TrainedNetwork[Tranad]:
    """Fit on `split.training`, keep the best epoch by `split.validation`.

    The same seed gives the same model. Of windows longer than `settings.sequence_length` the last
    rows are used.

    Args:
        features: how many columns of the windows are to be drawn; the others only condition it.

    Raises:
        DataError: if the loss stops being a number.
    """
    from promad.models.tranad_onnx import to_onnx

    with native_messages_silenced():
        from promad.models.tranad_network import build_network, train_network, weights_of

    design = DESIGNS["paper" if settings.preset == "paper" else "strict"]
    own = cut_to(split, settings.sequence_length)
    length = own.training.length
    measure = fit_measure(own.training, features, design)
    network = build_network(design, measure, length, seed)
    history = train_network(network, own, design, measure, settings, seed, progress)
    facts = {
        "judged": design.judged,
        "averaged": settings.tranad.scoring_mode == "averaged",
        "own_units": design.own_units,
        "low": measure.low[:features].tolist(),
        "span": measure.span[:features].tolist(),
    }
    onnx_bytes = to_onnx(weights_of(network), design, measure, length, facts)
    model = _opened(open_session(onnx_bytes))
    _insist_on_one_model(model, network, own.training)
    return TrainedNetwork(model, history, network, onnx_bytes)


def _insist_on_one_model(model: Tranad, network: Any, windows: Windows) -> None:
    """Hold both forms together on training windows: far beyond them rounding is magnified."""
    few = windows.take(np.arange(min(_EQUAL_ON, len(windows))))
    for drawn, natively in zip(run_in_batches(model.session, few), network(few), strict=True):
        insist_on_equality(drawn, natively.numpy())


def load(directory: Path) -> Tranad:
    """The model in a bundle's directory, from its code-free form.

    Raises:
        BundleError: if the file is no such model.
    """
    path = directory / CODE_FREE_FILE
    session = load_session(path)
    try:
        return _opened(session)
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(
            f"{path}: is no model of this kind ({error!r}) — train again or roll back"
        ) from error


def _opened(session: Any) -> Tranad:
    """The model of a session, by the facts that stand beside the graph."""
    facts = json.loads(session.get_modelmeta().custom_metadata_map[FACTS])
    low, span = (np.asarray(facts[name], np.float32) for name in ("low", "span"))
    return Tranad(
        session,
        int(session.get_inputs()[0].shape[1]),
        int(facts["judged"]),
        bool(facts["averaged"]),
        bool(facts["own_units"]),
        Measure(low, span, int(session.get_outputs()[0].shape[1])),
    )

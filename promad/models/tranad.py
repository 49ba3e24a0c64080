"""TranAD: a transformer that reconstructs a sample twice, the second time from where it was wrong.

Good at: relations between features that break, and levels that training never saw, which its
bounded output cannot follow. Bad at: slow drifts within the usual range, and features whose
extremes in training were anomalies themselves, which set the range that it measures in.

Tuli et al. 2022, "TranAD: Deep transformer networks for anomaly detection in multivariate time
series data", PVLDB 15(6), sections 3.3 and 3.4. The first phase reads the rows alone. The
squared difference between that and each row is the focus, with which the second phase reads the
same rows again. Both phases share the encoder and the output layer. Errors are those of the second
phase (`scoring_mode: phase2_only`), or the mean of both (`averaged`).

The presets:

- `strict` predicts the newest sample from those before it. It never sees that sample, so it cannot
  pass an anomaly on. Inputs are held a little beyond the range of training, errors are not:
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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from promad.config import TrainingSettings
from promad.data.windows import Split, Windows, cut_to
from promad.models.base import Inputs, Outcome, Progress
from promad.models.loading import refuse_unreadable
from promad.models.onnx_session import (
    CODE_FREE_FILE,
    load_session,
    open_session,
    run_in_batches,
)
from promad.models.trained_network import (
    TrainedNetwork,
    check_equality,
    run_native,
    silence_native_messages,
    take_few,
)
from promad.models.tranad_design import DESIGNS, FACTS, Measure, fit_measure


@dataclass(frozen=True)
class Tranad:
    """A fitted TranAD, run by ONNX Runtime on one thread.

    Attributes:
        length: how many of a window's last rows it looks at.
        judged: which of these rows is reconstructed, counted from the end.
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
        """Squared errors of the row that is judged, and the second phase's reconstruction of it.

        Both are in outer units, unless errors are in the model's own.
        """
        own, features = windows[:, -self.length :], self.measure.features
        observed = own[:, self.judged, :features].astype(np.float64)
        phases = [self.measure.denormalise(each) for each in run_in_batches(self.session, own)]
        squares = [np.square(observed - each) for each in phases]
        errors = (squares[0] + squares[1]) / 2 if self.averaged else squares[1]
        if self.own_units:
            errors = errors / np.square(self.measure.span[:features], dtype=np.float64)
        return Outcome(errors, phases[1], errors)


def fit(
    split: Split, features: int, settings: TrainingSettings, seed: int, progress: Progress
) -> TrainedNetwork[Tranad]:
    """Fit on `split.training`, keep the best epoch by `split.validation`.

    The same seed gives the same model. Of windows longer than `settings.sequence_length` the last
    rows are used.

    Args:
        features: how many columns of the windows are to be reconstructed; the others only
            condition it.

    Raises:
        DataError: if the loss stops being a number.
    """
    from promad.models.tranad_onnx import to_onnx

    with silence_native_messages():
        from promad.models.training import train_network
        from promad.models.tranad_network import build_network, collect_weights, plan_training

    design = DESIGNS["paper" if settings.preset == "paper" else "strict"]
    own = cut_to(split, settings.sequence_length)
    length = own.training.length
    measure = fit_measure(own.training, features, design)
    network = build_network(design, measure, length, seed)
    plan = plan_training(network, design, measure, settings)
    history = train_network(network, plan, own, settings, seed, progress)
    facts = {
        "judged": design.judged,
        "averaged": settings.tranad.scoring_mode == "averaged",
        "own_units": design.own_units,
        "low": measure.low[:features].tolist(),
        "span": measure.span[:features].tolist(),
    }
    onnx_bytes = to_onnx(collect_weights(network), design, measure, length, facts)
    model = _open(open_session(onnx_bytes))
    _check_phases(model, network, own.training)
    return TrainedNetwork(model, history, network, onnx_bytes)


def _check_phases(model: Tranad, network: Any, windows: Windows) -> None:
    """Compare both forms on training windows: far beyond those, rounding is magnified."""
    few = take_few(windows)
    for code_free, native in zip(
        run_in_batches(model.session, few), run_native(network, few), strict=True
    ):
        check_equality(code_free, native)


def load(directory: Path) -> Tranad:
    """The model in a bundle's directory, from its code-free form.

    Raises:
        BundleError: if the file is no such model.
    """
    path = directory / CODE_FREE_FILE
    session = load_session(path)
    with refuse_unreadable(path, "TranAD model"):
        model = _open(session)
        _require_finite_range(model.measure)
        return model


def _require_finite_range(measure: Measure) -> None:
    """Refuse a range that is not one; it holds the features alone, without the conditions.

    Raises:
        ValueError: if it is not one.
    """
    shapes = (measure.low.shape, measure.span.shape)
    finite = np.isfinite(measure.low).all() and np.isfinite(measure.span).all()
    if shapes != ((measure.features,),) * 2 or not finite or not (measure.span > 0).all():
        raise ValueError("its range of a feature is not finite")


def _open(session: Any) -> Tranad:
    """The model of a session, by the facts that are kept beside the graph."""
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

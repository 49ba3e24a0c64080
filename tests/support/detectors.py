"""Detectors on a made-up host, by every way of scoring."""

from types import SimpleNamespace

import numpy as np

from promad.data.preparation import Preparation
from promad.data.scaling import Scaler
from promad.detection.state import begin_state
from promad.detection.step import run
from promad.events.hysteresis import Hysteresis
from promad.models import Outcome
from promad.models.fusion import Fusion
from promad.scoring.detector import Detector
from promad.scoring.scoring import Scoring
from promad.scoring.streaming import score_frame
from promad.thresholds import Threshold
from tests.support.simulated import LENGTH, NAMES, host_values
from tests.support.stub_model import MeanOfWindow

STEP = 30.0
SAMPLES = 70
SPAN = 3


class LastAgain:
    """A model that expects each sample to be as the one before."""

    length = LENGTH
    scoring_modes = ()
    scoring_mode = None

    def __init__(self, features):
        self.features = features

    def apply(self, windows):
        values = windows[:, :, : self.features].astype(np.float64)
        squares = np.square(values[:, -1] - values[:, -2])
        return Outcome(squares, values[:, -2], squares)


SCORINGS = {
    "mse": {"method": "mse", "span": 1},
    "by the last sample": {"span": 1},
    "smoothed": {},
    "of the largest": {"top_k": 1},
    "of two models": {"members": 2},
    "ending soon": {"span": 8, "recent_samples": 2},
    "of two models, ending soon": {"members": 2, "span": 8, "recent_samples": 2},
}


def scoring_of(scored, share, **keys):
    usual = np.linspace(0.5, 1.5, scored * keys.get("members", 1))
    plain = {
        "method": "normalised",
        "normaliser": usual,
        "baseline": np.linspace(0.1, 0.4, scored),
        "top_k": None,
        "span": SPAN,
        "required_share": share,
    }
    if keys.get("method") == "mse":
        plain["normaliser"] = np.ones(scored)
    return Scoring(**{**plain, **keys})


def detector_of(
    strategy="ffill_then_bfill",
    limit=3,
    length=LENGTH,
    threshold=1.0,
    how="smoothed",
    scored=3,
    share=0.3,
):
    """A detector on the host's features, of which those after the first `scored` are conditions."""
    values = host_values(SAMPLES)
    scaler = Scaler("StandardScaler", values.mean(axis=0), values.std(axis=0))
    preparation = Preparation(
        NAMES,
        scored,
        STEP,
        strategy,
        limit,
        values.mean(axis=0),
        scaler,
        ("hour_of_day",),
        "Europe/Berlin",
    )
    model = MeanOfWindow(scored, length)
    if how.startswith("of two models"):
        model = Fusion({"mean": model, "last": LastAgain(scored)})
    limit_ = Threshold("fixed", threshold, None, "a test")
    scoring = scoring_of(scored, share, **SCORINGS[how])
    return Detector(preparation, model, scoring, limit_, length)


def host_samples(samples, seed):
    """The made-up host's values, a little different for each seed."""
    values = host_values(samples)
    return values * (1 + 0.05 * np.random.default_rng(seed).standard_normal(values.shape))


def score_rows(detector, frame):
    """The scores of the samples at which a window ends, without the axis of groups."""
    scores = score_frame(detector, frame)
    ends = scores.in_window[0] == detector.length
    names = ("score", "errors", "sample_errors", "window_errors", "observed", "expected")
    rows = {name: getattr(scores, name)[0][ends] for name in names}
    return SimpleNamespace(times=scores.times[ends], **rows)


def judge_rows(detector, frame):
    """The verdicts of all samples that have a score; without hysteresis."""
    hysteresis = Hysteresis.begin(1, 1, 1)
    state = begin_state(detector, detector.threshold.begin(), "d", frame.groups, hysteresis)
    judged = run(detector, detector.calibrate(frame.groups), state, frame)
    verdicts = [judgements.verdict(0) for judgements in judged]
    return [verdict for verdict in verdicts if verdict.score is not None]

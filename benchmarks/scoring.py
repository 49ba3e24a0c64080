"""What fitting, scoring and the step of a tick cost, model by model, in CPU time.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.scoring [--samples 24000] [--features 38]
                                                        [--model linear ...] [--groups 1 1000]

Each model is fitted on as many samples as it then scores, with the settings that are its own. A
step judges the newest sample of each group: filling, scaling, model, moving average, threshold
under the controller, events. Polling and publishing are not in it. Medians over 200 steps (fewer
with many groups), with the 10 % and 90 % quantiles.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from numpy.typing import NDArray

from promad.config import Config
from promad.data.frame import MetricFrame, single_group
from promad.data.preparation import Preparation
from promad.data.scaling import PARETO, fit_scaler
from promad.data.windows import sample_numbers, split_at
from promad.detection.state import begin_hysteresis, begin_state, choose_rule
from promad.detection.step import step, warm
from promad.models import MODELS, find_model
from promad.scoring.detector import Detector, apply_model, select_errors
from promad.scoring.scoring import fit_scoring
from promad.scoring.streaming import score_frame
from promad.thresholds import Threshold, ThresholdSettings
from promad.thresholds.controller import control

STEP = 60.0
STEPS = 200


def main() -> None:
    arguments = parse_arguments()
    history, test = host_like(arguments.samples, arguments.features)
    print(f"{arguments.samples} samples to fit and to score, {arguments.features} features")
    for name in arguments.model:
        began = time.process_time()
        detector = fit_detector(name, history)
        fit_seconds = time.process_time() - began
        began = time.process_time()
        score_frame(detector, test)
        score_seconds = time.process_time() - began
        print(f"{name:18s} fit {fit_seconds:6.1f} s  score {score_seconds:6.1f} s")
        for groups in arguments.groups:
            low, middle, high = time_steps(detector, test, groups)
            print(f"  step, {groups} groups: {middle:.2f} ms ({low:.2f} to {high:.2f})")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--samples", type=int, default=24000)
    parser.add_argument("--features", type=int, default=38)
    parser.add_argument("--model", nargs="+", default=["linear"], choices=list(MODELS))
    parser.add_argument("--groups", type=int, nargs="+", default=[1, 1000])
    return parser.parse_args()


def host_like(samples: int, features: int) -> tuple[MetricFrame, MetricFrame]:
    """Two stretches of daily shapes, shared load and noise."""
    chance = np.random.default_rng(1)
    time_of_day = np.arange(2 * samples) * STEP / 86400 * 2 * np.pi
    shapes = np.stack([np.sin(time_of_day), np.cos(time_of_day), np.sin(2 * time_of_day)])
    load = chance.normal(size=(2 * samples, 5)).cumsum(axis=0) / 50
    values = shapes.T @ chance.normal(size=(3, features)) + load @ chance.normal(size=(5, features))
    values += 0.1 * chance.normal(size=values.shape)
    return _frame(values[:samples]), _frame(values[samples:])


def _frame(values: NDArray[np.float64]) -> MetricFrame:
    names = tuple(f"feature_{number:02d}" for number in range(values.shape[1]))
    return single_group(0.0, STEP, names, values)


def fit_detector(name: str, history: MetricFrame) -> Detector:
    """A detector as `train` would leave it, but for its threshold."""
    config = Config.model_validate({"queries": {"a": "up"}, "training_settings": {"model": name}})
    settings, values = config.training_settings, history.values[0]
    features = len(history.features)
    scaler, _ = fit_scaler(PARETO, values, history.features)
    preparation = Preparation(
        features=history.features,
        scored=features,
        step=STEP,
        fill_strategy="ffill_then_bfill",
        max_fill_steps=5,
        substitutes=values.mean(axis=0),
        scaler=scaler,
        time_features=(),
        time_zone="UTC",
    )
    windows = preparation.windows([preparation.scale(history)], settings.sequence_length)
    split = split_at(windows, windows.times[len(windows) * 4 // 5], STEP)
    trained = find_model(name).fit(split, features, settings, 1, lambda *epoch: None)
    trained = trained.refit(windows)
    errors = select_errors(apply_model(trained.model, windows), settings.scoring.method)
    members = errors.shape[1] // features
    at = sample_numbers(windows.times, STEP)
    scoring = fit_scoring(errors, at, members, settings.scoring)
    threshold = Threshold("fixed", 1.0, None, "of no matter here")
    return Detector(preparation, trained.model, scoring, threshold, settings.sequence_length)


def time_steps(detector: Detector, test: MetricFrame, groups: int) -> tuple[float, float, float]:
    """Quantiles of the milliseconds that a step over so many groups takes: 10 %, median, 90 %."""
    lead, steps = detector.samples_needed, max(20, STEPS // groups)
    labels = tuple((("instance", f"host-{group}"),) for group in range(groups))
    chance = np.random.default_rng(2)
    values = np.tile(test.values[:, : lead + steps], (groups, 1, 1))
    values += 0.01 * chance.normal(size=values.shape)
    frame = MetricFrame(test.start, STEP, test.features, labels, values)
    settings = ThresholdSettings(
        step=STEP, enter_after=2, leave_after=5, leave_below=0.3, hold_seconds=7200.0
    )
    how = choose_rule(detector, settings)
    limits = control(detector.threshold, how, groups)
    hysteresis = begin_hysteresis(how, groups)
    state = begin_state(detector, limits, "benchmark", labels, hysteresis)
    calibration = detector.calibrate(labels)
    warm(detector, calibration, state, frame.slice(0, lead))
    seen = []
    for samples in frame.slice(lead, frame.samples).split(1):
        began = time.process_time()
        step(detector, calibration, state, samples)
        seen.append((time.process_time() - began) * 1000)
    low, middle, high = np.quantile(seen, [0.1, 0.5, 0.9]).tolist()
    return low, middle, high


if __name__ == "__main__":
    main()

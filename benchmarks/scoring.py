"""What fitting and scoring cost, model by model: seconds for history, milliseconds per live sample.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.scoring [--samples 24000] [--features 38]
                                                        [--model linear ...]

Each model is fitted on as many samples as it then scores, with the settings that are its own. A
live sample is what a tick adds: the newest sample scored from those that decide its score.
Medians over repetitions, with the range.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
from numpy.typing import NDArray

from promad.config import Config
from promad.data.frame import MetricFrame, single_group
from promad.data.preparation import Preparation
from promad.data.scaling import PARETO, fit_scaler
from promad.data.windows import sample_numbers, split_at
from promad.models import MODELS, find_model
from promad.scoring.detector import Detector, apply_model, select_errors
from promad.scoring.scoring import fit_scoring
from promad.thresholds import Threshold

STEP = 60.0
LIVE_SAMPLES = 200


def main() -> None:
    arguments = parse_arguments()
    history, test = host_like(arguments.samples, arguments.features)
    print(f"{arguments.samples} samples to fit and to score, {arguments.features} features")
    for name in arguments.model:
        began = time.perf_counter()
        detector = fitted(name, history)
        fit_seconds = time.perf_counter() - began
        began = time.perf_counter()
        detector.score(test)
        score_seconds = time.perf_counter() - began
        low, middle, high = live_milliseconds(detector, test)
        print(
            f"{name:18s} fit {fit_seconds:6.1f} s  score {score_seconds:6.1f} s  "
            f"live sample {middle:.2f} ms ({low:.2f} to {high:.2f})"
        )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--samples", type=int, default=24000)
    parser.add_argument("--features", type=int, default=38)
    parser.add_argument("--model", nargs="+", default=["linear"], choices=list(MODELS))
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


def fitted(name: str, history: MetricFrame) -> Detector:
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


def live_milliseconds(detector: Detector, test: MetricFrame) -> tuple[float, float, float]:
    """The lowest, the median and the highest time that one more sample takes."""
    needed, seen = detector.samples_needed, []
    for last in range(test.samples - LIVE_SAMPLES, test.samples):
        newest = test.slice(last - needed, last)
        began = time.perf_counter()
        detector.score(newest, newest.end - STEP)
        seen.append((time.perf_counter() - began) * 1000)
    return min(seen), statistics.median(seen), max(seen)


if __name__ == "__main__":
    main()

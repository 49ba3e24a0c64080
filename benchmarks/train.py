"""What `promad train` costs beside a plain `model.fit` on materialised windows.

    python -m benchmarks.train [--days 7] [--features 38] [--step 15] [--length 60] [--rounds 3]

Both train the same network from the same seed on the same windows with batches of 64, each in a
process of its own, in turn. Compared are processor time per window and epoch, wall time until a
validation loss that both reach, and the peak of resident memory. Ratios are medians over rounds of
the ratios within a round, as other work on the machine slows both alike.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promad.config import TrainingSettings
from promad.data.frame import single_group
from promad.data.windows import Split, build_windows, split_at

SEED = 1


@dataclass
class Run:
    """One training: after each epoch the validation loss and the seconds so far."""

    windows: int
    cpu_seconds: float
    losses: list[float]
    seconds: list[float]
    peak_megabytes: float

    def cpu_per_window(self) -> float:
        """Processor microseconds per window and epoch, validation included."""
        return self.cpu_seconds / (self.windows * len(self.losses)) * 1e6

    def seconds_to(self, loss: float) -> float:
        """Wall seconds until the validation loss was first as low as `loss`."""
        return next(at for at, seen in zip(self.seconds, self.losses, strict=True) if seen <= loss)


def main() -> None:
    arguments = parse_arguments()
    if arguments.way:
        print(json.dumps(asdict(WAYS[arguments.way](arguments))))
        return
    rounds = []
    for number in range(arguments.rounds):
        rounds.append({way: in_own_process(way) for way in WAYS})
        print(f"round {number + 1} of {arguments.rounds} done", file=sys.stderr)
    report(rounds)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--days", type=float, default=7)
    parser.add_argument("--features", type=int, default=38)
    parser.add_argument("--step", type=float, default=15)
    parser.add_argument("--length", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--way", choices=sorted(WAYS), help=argparse.SUPPRESS)
    return parser.parse_args()


def history(arguments: argparse.Namespace) -> NDArray[np.float64]:
    """Scaled values (samples, features): daily and hourly shapes, shared causes, some noise."""
    chance = np.random.default_rng(SEED)
    times = np.arange(int(arguments.days * 86400 / arguments.step)) * arguments.step
    periods = chance.choice([86400.0, 43200.0, 3600.0, 1800.0, 600.0], 8)
    causes = np.sin(2 * np.pi * times[:, np.newaxis] / periods + chance.uniform(0, 6, 8))
    shapes = causes @ chance.normal(size=(8, arguments.features)) / 3
    return np.asarray(shapes + 0.1 * chance.normal(size=shapes.shape))


def windows_of(arguments: argparse.Namespace) -> Split:
    values = history(arguments)
    names = [f"f{number}" for number in range(arguments.features)]
    frame = single_group(0.0, arguments.step, names, values)
    boundary = float(frame.times[int(frame.samples * 0.8)])
    return split_at(build_windows([frame], 0, arguments.length), boundary, arguments.step)


def train_promad(arguments: argparse.Namespace) -> Run:
    """The package's own way."""
    from promad.models.autoencoder_training import PRESETS
    from promad.models.training import plan_with_adam, train_network

    settings, preset = settings_of(arguments), PRESETS["original"]
    split = windows_of(arguments)
    features = arguments.features
    network = preset.build(arguments.length, features, features, settings, SEED)
    loss = preset.loss(network, features)
    plan = plan_with_adam(loss, settings.learning_rate, preset.course)
    return timed(
        split,
        lambda note: train_network(
            network, plan, split, settings, SEED, lambda *epoch: note(epoch[3])
        ),
    )


def settings_of(arguments: argparse.Namespace) -> TrainingSettings:
    epochs = arguments.epochs
    return TrainingSettings.model_validate(
        {"preset": "original", "epochs": epochs, "early_stopping_patience": epochs}
    )


def train_plain(arguments: argparse.Namespace) -> Run:
    """`model.fit` on arrays of all windows, as most tutorials do it."""
    import keras

    from promad.models.autoencoder_training import build_original

    split = windows_of(arguments)
    training, validation = (
        part.take(np.arange(len(part))) for part in (split.training, split.validation)
    )
    features = arguments.features
    settings = settings_of(arguments)
    network = build_original(arguments.length, features, features, settings, SEED)
    network.compile(keras.optimizers.Adam(0.001), "mse")

    def fit(note: Callable[[float], None]) -> None:
        network.fit(
            training,
            training,
            batch_size=64,
            epochs=arguments.epochs,
            validation_data=(validation, validation),
            verbose=0,
            callbacks=[
                keras.callbacks.LambdaCallback(
                    on_epoch_end=lambda _, logs: note(float(logs["val_loss"]))
                )
            ],
        )

    return timed(split, fit)


def timed(split: Split, fit: Callable[[Callable[[float], None]], Any]) -> Run:
    run = Run(len(split.training), 0.0, [], [], 0.0)
    began, cpu = time.perf_counter(), time.process_time()

    def note(loss: float) -> None:
        run.losses.append(loss)
        run.seconds.append(time.perf_counter() - began)

    fit(note)
    run.cpu_seconds = time.process_time() - cpu
    run.peak_megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return run


WAYS: dict[str, Callable[[argparse.Namespace], Run]] = {
    "plain": train_plain,
    "promad": train_promad,
}


def in_own_process(way: str) -> Run:
    command = [sys.executable, "-m", "benchmarks.train", *sys.argv[1:], "--way", way]
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, env=quiet, stdout=subprocess.PIPE, check=True, text=True)
    return Run(**json.loads(done.stdout.splitlines()[-1]))


def report(rounds: list[dict[str, Run]]) -> None:
    """A line per measure: both ways' median, then the ratio's median and range."""
    common = [max(min(run.losses) for run in both.values()) for both in rounds]
    measures: dict[str, Callable[[Run, float], float]] = {
        "CPU us/window/epoch": lambda run, _: run.cpu_per_window(),
        "wall s to equal loss": lambda run, loss: run.seconds_to(loss),
        "wall s in all": lambda run, _: run.seconds[-1],
        "peak RSS MB": lambda run, _: run.peak_megabytes,
    }
    print(f"{'':22}{'plain':>10}{'promad':>10}{'ratio':>8}  (min .. max)")
    for name, measure in measures.items():
        both = [
            {way: measure(run, loss) for way, run in runs.items()}
            for runs, loss in zip(rounds, common, strict=True)
        ]
        plain, promad = (statistics.median(row[way] for row in both) for way in WAYS)
        ratios = [row["promad"] / row["plain"] for row in both]
        print(
            f"{name:22}{plain:10.1f}{promad:10.1f}{statistics.median(ratios):8.2f}"
            f"  ({min(ratios):.2f} .. {max(ratios):.2f})"
        )
    print(f"validation loss that both reach: {statistics.median(common):.4g}")


if __name__ == "__main__":
    main()

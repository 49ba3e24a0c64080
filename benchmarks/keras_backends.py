"""What an epoch of training costs by the backend of Keras, and that both export the same network.

    python -m benchmarks.keras_backends [--backends tensorflow jax] [--models lstm_autoencoder …]

Each training is in a process of its own, with one thread, on as many windows as `--samples` make.
The first epoch, in which a backend compiles, is apart. Where there is a GPU, JAX uses it; with
`JAX_PLATFORMS=cpu` it does not. The exported ONNX network is compared with the trained one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np

from promad.config import TrainingSettings
from promad.data.frame import single_group
from promad.data.windows import Split, build_windows, split_at
from promad.models import find_model

STEP, SEED = 15.0, 1
ONE_THREAD = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
MODELS = ("lstm_autoencoder", "tranad", "lstm_forecaster")


def main() -> None:
    arguments = parse_arguments()
    if arguments.one:
        print(json.dumps(measure(arguments)))
        return
    for model in arguments.models:
        for backend in arguments.backends:
            command = [sys.executable, "-m", "benchmarks.keras_backends", "--one"]
            for name in ("samples", "features", "length", "epochs"):
                command += [f"--{name}", str(getattr(arguments, name))]
            done = subprocess.run(
                [*command, "--models", model],
                env={**ONE_THREAD, **os.environ, "KERAS_BACKEND": backend},
                stdout=subprocess.PIPE,
                check=True,
                text=True,
            )
            print(describe(json.loads(done.stdout.splitlines()[-1])), flush=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--backends", nargs="+", default=["tensorflow", "jax"])
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--samples", type=int, default=24_000)
    parser.add_argument("--features", type=int, default=38)
    parser.add_argument("--length", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def make_split(samples: int, features: int, length: int) -> Split:
    """Windows of daily and hourly shapes with shared causes and some noise."""
    chance = np.random.default_rng(SEED)
    times = np.arange(samples) * STEP
    periods = chance.choice([86400.0, 43200.0, 3600.0, 1800.0, 600.0], 8)
    causes = np.sin(2 * np.pi * times[:, np.newaxis] / periods + chance.uniform(0, 6, 8))
    values = causes @ chance.normal(size=(8, features)) / 3
    values += 0.1 * chance.normal(size=values.shape)
    frame = single_group(0.0, STEP, [f"f{number}" for number in range(features)], values)
    boundary = float(frame.times[int(samples * 0.8)])
    return split_at(build_windows([frame], 0, length), boundary, STEP)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train one model with the backend of this process."""
    (model,) = arguments.models
    split = make_split(arguments.samples, arguments.features, arguments.length)
    settings = TrainingSettings.model_validate(
        {
            "model": model,
            "sequence_length": arguments.length,
            "epochs": arguments.epochs,
            "early_stopping_patience": arguments.epochs,
        }
    )
    ends: list[tuple[float, float]] = []
    losses: list[float] = []

    def note(epoch: int, epochs: int, loss: float, validation: float) -> None:
        ends.append((time.perf_counter(), time.process_time()))
        losses.append(validation)

    began = (time.perf_counter(), time.process_time())
    trained = find_model(model).fit(split, arguments.features, settings, SEED, note)
    network = getattr(trained, "network", trained)
    spent = np.diff([began, *ends], axis=0)
    later = spent[1:]
    return {
        "model": model,
        **describe_backend(),
        "windows": len(split.training),
        "epochs": len(ends),
        "first_wall": spent[0, 0],
        "first_cpu": spent[0, 1],
        "wall": statistics.median(later[:, 0]),
        "cpu": statistics.median(later[:, 1]),
        "loss": min(losses),
        "difference": compare(network, split),
    }


def describe_backend() -> dict[str, str]:
    import keras

    backend, device = keras.backend.backend(), "cpu"
    if backend == "jax":
        import jax

        device = str(jax.devices()[0])
    return {"backend": backend, "device": device}


def compare(network: Any, split: Split) -> float:
    """By how much the exported network differs from the trained one, over the largest output."""
    from promad.models.onnx_session import open_session, run_in_batches
    from promad.models.trained_network import run_native

    windows = split.validation.take(np.arange(0, len(split.validation), 16))
    inputs = windows
    if network.keras_model.input_shape[1] is None:  # the forecaster looks at all but the last row
        inputs = windows[:, :-1]
    native = run_native(network.keras_model, inputs)
    exported = run_in_batches(open_session(network.onnx_bytes), inputs)[0]
    first = native[0] if isinstance(native, list | tuple) else native
    if inputs is not windows:
        first = first[:, -1, : exported.shape[-1]]
    return float(np.abs(exported - first).max() / max(1.0, np.abs(first).max()))


def describe(found: dict[str, Any]) -> str:
    """One line."""
    return (
        f"{found['model']:17} {found['backend']:11} on {found['device']}: an epoch of "
        f"{found['windows']:,} windows {found['wall']:.2f} s, CPU {found['cpu']:.2f} s; the first "
        f"{found['first_wall']:.1f} s, CPU {found['first_cpu']:.1f} s; best validation loss "
        f"{found['loss']:.4g} in {found['epochs']}; ONNX differs by {found['difference']:.1g}"
    )


if __name__ == "__main__":
    main()

"""What incidents in the training part cost a model, and what trimming brings back.

    python -m benchmarks.contamination --data DIR [--entity NAME ...] [--model NAME ...]
                                       [--epochs N] [--seeds N]

DIR is what `promad datasets fetch` made. Of each entity the older half of the test part, incidents
and all, takes the place of the oldest rows of the training part. A model is trained on that mixture
without the rows that are labelled (clean), on all of it (contaminated), and once more after each
round of trimming (trimmed); each is measured by VUS-PR on the newer half of the test part. The rows
that a threshold is chosen on are clean in all of them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from promad.bundle import Bundle, load_detector
from promad.config import Config
from promad.config.settings import Exclusion
from promad.data.artifacts import end_times_path, read_array, write_frames
from promad.data.frame import MetricFrame, single_group
from promad.evaluation.agreement import segments
from promad.evaluation.labelled import LabelledData, read_labelled
from promad.evaluation.ranking import VUS_WINDOW, vus
from promad.stages.filter import filter_windows
from promad.stages.preprocess import preprocess
from promad.stages.train import train

STEP = 60.0
_GAP = 86400.0


@dataclass(frozen=True)
class Outcome:
    """VUS-PR of the three trainings, and what the last round of trimming dropped.

    Attributes:
        polluted: the share of the mixture's training rows that are labelled.
        dropped: the share of the training windows.
        caught: of the labelled rows, the share on which a window ends that was dropped.
        spared: the share in stretches that stand out but are kept, because they recur.
    """

    clean: float
    contaminated: float
    trimmed: float
    polluted: float
    dropped: float
    caught: float
    spared: float


def main() -> None:
    arguments = parse_arguments()
    folders = [arguments.data / name for name in arguments.entity or entities(arguments.data)]
    print(
        f"{'':28}{'clean':>8}{'contam.':>9}{'trimmed':>9}{'polluted':>10}{'dropped':>9}{'caught':>8}{'spared':>8}"
    )
    for model in arguments.model or ["lstm_autoencoder", "linear"]:
        found = []
        for folder in folders:
            for seed in range(42, 42 + arguments.seeds):
                found.append(outcome(read_labelled(folder), model, seed, arguments.epochs))
                print_row(f"{folder.name}, {model}", found[-1])
        fields = np.array([[*vars(each).values()] for each in found])
        print_row(f"mean, {model}", Outcome(*np.mean(fields, axis=0).tolist()))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--entity", action="append")
    parser.add_argument("--model", action="append")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seeds", type=int, default=1)
    return parser.parse_args()


def entities(data: Path) -> Sequence[str]:
    return sorted(path.parent.name for path in data.glob("*/train.parquet"))


def print_row(name: str, found: Outcome) -> None:
    print(
        f"{name:28}{found.clean:8.3f}{found.contaminated:9.3f}{found.trimmed:9.3f}"
        f"{found.polluted:10.2%}{found.dropped:9.2%}{found.caught:8.1%}{found.spared:8.1%}",
        flush=True,
    )


def outcome(data: LabelledData, model: str, seed: int, epochs: int | None) -> Outcome:
    """The three trainings of one model on one entity."""
    half = len(data.test) // 2
    rest, labels = data.test[half:], data.labels[half:]
    older = single_group(0.0, STEP, data.features, data.test[:half])
    newer = single_group(older.end + _GAP, STEP, data.features, data.train[half:])
    with tempfile.TemporaryDirectory(prefix="contamination-") as folder:
        mixed = configured(data, model, seed, epochs, Path(folder, "mixed"))
        clean = without(data.labels[:half], mixed, Path(folder, "clean"))
        best = measured(trained(clean, [older, newer]), rest, labels)
        before = measured(trained(mixed, [older, newer]), rest, labels)
        nothing = np.zeros(len(data.test), np.bool_)
        steps = [(before, nothing, nothing)]
        for bundle, gone, kept in rounds(mixed, len(data.test)):
            steps.append((measured(bundle, rest, labels), gone, kept))
    after, dropped, spared = steps[-1]
    training_rows = (half + len(newer.times)) * mixed.training_settings.train_split_ratio
    polluting = data.labels & (np.arange(len(data.labels)) < half)
    share = 1 / max(1, int(polluting.sum()))
    return Outcome(
        best,
        before,
        after,
        float(polluting.sum()) / training_rows,
        float(dropped.sum()) / training_rows,
        float((dropped & polluting).sum()) * share,
        float((spared & polluting).sum()) * share,
    )


def configured(
    data: LabelledData, model: str, seed: int, epochs: int | None, folder: Path
) -> Config:
    training = {"model": model, "seed": seed, "gate": False}
    return Config.model_validate(
        {
            "artifacts_dir": folder,
            "queries": dict.fromkeys(data.features, "up"),
            "data_settings": {"step": "60s"},
            "training_settings": training if epochs is None else {**training, "epochs": epochs},
        }
    )


def without(labels: NDArray[np.bool_], config: Config, folder: Path) -> Config:
    """The configuration that leaves the labelled rows out, with artifacts of its own."""
    first, last = segments(labels)
    periods = tuple(
        Exclusion(start=STEP * start - STEP / 4, end=STEP * (end - 1) + STEP / 4)
        for start, end in zip(first.tolist(), last.tolist(), strict=True)
    )
    data = config.data_settings.model_copy(update={"exclude": periods})
    return config.model_copy(update={"artifacts_dir": folder, "data_settings": data})


def trained(config: Config, frames: Sequence[MetricFrame]) -> Bundle:
    write_frames(config.artifacts_dir / config.data_settings.output_filename, frames, {})
    preprocess(config)
    return train(config, lambda *epoch: None, now=time.time).bundle


def rounds(
    config: Config, rows: int
) -> Iterator[tuple[Bundle, NDArray[np.bool_], NDArray[np.bool_]]]:
    """The bundle after each round of trimming, and where windows end that were dropped, or recur.

    Both are bool (rows,) over the rows of the mixture.
    """
    training = config.training_settings.model_copy(update={"train_on_filtered_sequences": True})
    again = config.model_copy(update={"training_settings": training})
    before: tuple[float, ...] = ()
    for _ in range(config.data_filtering_settings.trim_rounds):
        report = filter_windows(config, trimming=True, dropped_before=before)
        if len(report.dropped) == len(before) or report.trimmed is None:
            return
        before = report.dropped
        ends = read_array(end_times_path(report.anomalous_path), "filter")
        dropped = at_rows(ends.astype("datetime64[ms]").astype(np.float64) / 1000, rows)
        recurring = [
            np.arange(each.first, each.last + 1, STEP) for each in report.trimmed.recurring
        ]
        spared = at_rows(np.concatenate([np.empty(0), *recurring]), rows)
        yield train(again, lambda *epoch: None, now=time.time).bundle, dropped, spared


def at_rows(times: NDArray[np.float64], rows: int) -> NDArray[np.bool_]:
    """Which rows the times belong to; those of the newer frame come after the gap."""
    numbers = np.round(times / STEP).astype(np.int64)
    gap = round(_GAP / STEP) - 1
    flags = np.zeros(rows, np.bool_)
    found = np.where(numbers < rows // 2, numbers, numbers - gap)
    flags[found[found < rows]] = True
    return flags


def measured(bundle: Bundle, values: NDArray[np.float64], labels: NDArray[np.bool_]) -> float:
    """VUS-PR of a bundle's scores; rows before the first whole window are unknown to it."""
    detector = load_detector(bundle)
    frame = single_group(0.0, STEP, detector.preparation.features, values)
    known, scores = detector.score(frame), np.full(len(values), np.nan)
    scores[np.round(known.times / STEP).astype(np.int64)] = known.score
    return vus(scores, labels, VUS_WINDOW).pr


if __name__ == "__main__":
    main()

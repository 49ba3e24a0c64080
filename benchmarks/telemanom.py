"""The experiment of the Telemanom paper with promad's own forecaster and dynamic thresholding.

    python -m benchmarks.telemanom DIR [DIR ...] [--channels NAME ...] [--seeds 1] [--jobs 2]
                                   [--keep FOLDER] [--json OUT]

DIR holds the channels of a spacecraft and has its name, SMAP or MSL (`promad datasets fetch` makes
both). Of every channel `lstm_forecaster` learns the training part: raw telemetry, which is the
first column, given the commands, which are the others. It forecasts the test part, and dynamic
thresholding finds sequences in the smoothed errors, with the settings and at the rows of the
paper's code. Forecasts are kept in FOLDER, so an interrupted run resumes, and one with the
same settings trains nothing again; give another folder when the code has changed. A channel takes
10 to 60 seconds on one core.

Hundman et al. 2018, "Detecting spacecraft anomalies using LSTMs and nonparametric dynamic
thresholding", KDD, sections 3 and 4.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.sequences import MovingGate, Sequences, ignored, sequences, smooth
from promad.config import TrainingSettings
from promad.data.frame import single_group
from promad.data.windows import Split, build_windows, split_at
from promad.errors import DataError
from promad.evaluation.agreement import Reals
from promad.evaluation.labelled import ANOMALIES, LabelledData, entities_in, read_labelled
from promad.evaluation.sequences import SequenceCounts, count_sequences

HISTORY = 250
"""How many rows the paper's network looks back upon; errors begin after them."""

AHEAD = 10
"""How many rows it forecasts; as many are left out at the end."""

SPAN = 105
"""Over how many errors the paper smooths: a twentieth of 30 batches of 70."""

UNSETTLED = frozenset({"C-2"})
"""Channels of which the paper keeps the first errors as they are, for an anomaly is among them."""

_LEAST_WINDOWS = 12
"""A window of the training part is no longer than this share of it."""

RUNS = ("published 2018-05-19", "published 2019-11-14")
"""The files in `results/` of github.com/khundman/telemanom: the paper's, and its authors' last."""

_COUNTS = """
    A-1 100 100, A-2 102 101, A-3 100 101, A-4 100 100, A-5 100 100, A-6 100 100,
    A-7 100 100, A-8 100 100, A-9 010 010, B-1 100 100, C-1 110 110, C-2 110 110,
    D-1 100 100, D-2 100 100, D-3 100 100, D-4 100 100, D-5 100 100, D-6 100 100,
    D-7 100 100, D-8 010 100, D-9 100 100, D-11 100 100, D-12 100 100, D-13 100 100,
    D-14 110 110, D-15 100 100, D-16 100 100, E-1 201 201, E-2 100 100, E-3 100 100,
    E-4 100 100, E-5 100 101, E-6 100 100, E-7 100 100, E-8 100 010, E-9 100 010,
    E-10 201 202, E-11 201 201, E-12 201 201, E-13 210 121, F-1 011 011, F-2 100 100,
    F-3 010 010, F-4 100 100, F-5 100 100, F-7 211 211, F-8 100 100, G-1 011 011,
    G-2 100 010, G-3 101 011, G-4 100 100, G-6 100 100, G-7 300 302, M-1 010 010,
    M-2 010 010, M-3 100 010, M-4 100 100, M-5 100 100, M-6 100 100, M-7 100 100,
    P-1 301 300, P-2 200 200, P-3 100 100, P-4 300 300, P-7 100 101, P-10 100 100,
    P-11 200 200, P-14 100 100, P-15 100 010, R-1 100 100, S-1 100 100, S-2 100 100,
    T-1 112 112, T-2 100 010, T-3 200 200, T-4 010 011, T-5 100 100, T-8 200 200,
    T-9 020 020, T-12 100 100, T-13 020 020
"""
"""Of each channel the sequences found, missed and false, a digit each, in the one and the other.

P-2 is in both files twice, with labels that overlap.
"""


@dataclass(frozen=True)
class Task:
    """A channel's folder, how many seeds to train with, and where forecasts are kept, if at all."""

    folder: Path
    seeds: int
    keep: Path | None

    @property
    def spacecraft(self) -> str:
        return self.folder.resolve().parent.name

    @property
    def channel(self) -> str:
        return self.folder.resolve().name

    def kept(self, seed: int) -> Path | None:
        name = f"{self.spacecraft}_{self.channel}_{seed}.npz"
        return None if self.keep is None else self.keep / name


@dataclass(frozen=True)
class Outcome:
    """What was found of a channel with one seed; bounds are rows, ends those after the last."""

    spacecraft: str
    channel: str
    seed: int
    counts: SequenceCounts
    found: tuple[tuple[int, int], ...]
    known: tuple[tuple[int, int], ...]


def main() -> None:
    arguments = parse_arguments()
    try:
        outcomes = measured(arguments)
    except DataError as error:
        sys.exit(str(error))
    report(outcomes)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([asdict(each) for each in outcomes], indent=1) + "\n")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("directories", type=Path, nargs="+", metavar="DIR")
    parser.add_argument("--channels", nargs="+", default=(), metavar="NAME")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    parser.add_argument("--json", type=Path, metavar="OUT")
    return parser.parse_args()


def measured(arguments: argparse.Namespace) -> list[Outcome]:
    """All outcomes, in the order of the channels; each is reported on standard error at once."""
    wanted, outcomes = tasks(arguments), []
    for number, of_channel in enumerate(worked(wanted, arguments.jobs), 1):
        for each in of_channel:
            print(f"{number}/{len(wanted)} {line_of(each)}", file=sys.stderr, flush=True)
        outcomes += of_channel
    return outcomes


def tasks(arguments: argparse.Namespace) -> list[Task]:
    """The channels to work on.

    Raises:
        DataError: if a directory holds no channels, or none has a name that is asked for.
    """
    folders = [folder for each in arguments.directories for folder in entities_in(each)]
    names = {folder.resolve().name for folder in folders}
    if missing := [name for name in arguments.channels if name not in names]:
        raise DataError(f"{missing[0]}: no such channel; there are {', '.join(sorted(names))}")
    chosen = [each for each in folders if each.resolve().name in (arguments.channels or names)]
    return [Task(folder, arguments.seeds, arguments.keep) for folder in chosen]


def worked(wanted: Sequence[Task], jobs: int) -> Iterable[list[Outcome]]:
    from joblib import Parallel, delayed

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    done: Iterable[list[Outcome]] = Parallel(n_jobs=jobs, return_as="generator")(
        delayed(outcomes_of)(task) for task in wanted
    )
    return done


def outcomes_of(task: Task) -> list[Outcome]:
    """An outcome for each seed.

    Raises:
        DataError: if the folder holds no channel with known sequences.
    """
    data = read_labelled(task.folder)
    if data.counting != "sequences":
        raise DataError(f"{task.folder}: has no {ANOMALIES} with start and end — give SMAP or MSL")
    return [_outcome(task, data, seed) for seed in range(1, task.seeds + 1)]


def _outcome(task: Task, data: LabelledData, seed: int) -> Outcome:
    forecast = kept_forecast(task, data, seed)
    found = judged(data.test[:, 0], forecast, task.channel not in UNSETTLED)
    known = [(each.start, each.end) for each in data.known_anomalies]
    starts, ends = np.array(known, np.int64).reshape(-1, 2).T
    return Outcome(
        task.spacecraft,
        task.channel,
        seed,
        count_sequences(found.starts, found.ends, starts, ends),
        tuple(zip(found.starts.tolist(), found.ends.tolist(), strict=True)),
        tuple(known),
    )


# Forecasts


def kept_forecast(task: Task, data: LabelledData, seed: int) -> Reals:
    """The channel's forecast, from the folder if it was made with the same settings."""
    settings, path = settings_of(len(data.train)), task.kept(seed)
    said = settings.model_dump_json()
    if path is not None and path.exists():
        with np.load(path) as kept:
            if str(kept["settings"]) == said:
                return np.asarray(kept["forecast"], np.float64)
    forecast = forecast_of(data, settings, seed)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".part.npz")
        np.savez(aside, forecast=forecast, settings=said)
        aside.replace(path)
    return forecast


def settings_of(samples: int) -> TrainingSettings:
    """The model's own settings; windows are shorter where there are few samples."""
    own = TrainingSettings.model_validate({"model": "lstm_forecaster"})
    length = min(own.sequence_length, samples // _LEAST_WINDOWS)
    return own.model_copy(update={"sequence_length": length})


def forecast_of(data: LabelledData, settings: TrainingSettings, seed: int) -> Reals:
    """What the first column should hold, float64 (samples of test,).

    Each row is forecast from all rows of the test part before it; the first has none and is its
    own forecast.
    """
    from promad.models import lstm_forecaster

    split = split_of(data, settings)
    fitted = lstm_forecaster.fit(split, 1, settings, seed, lambda *_: None)
    before = data.test[np.newaxis, :-1].astype(np.float32)
    ahead = fitted.keras_model(before).numpy()[0, :, 0]
    return np.concatenate([data.test[:1, 0], ahead]).astype(np.float64)


def split_of(data: LabelledData, settings: TrainingSettings) -> Split:
    """Raw values, the newest fifth of the training part for validation."""
    frame = single_group(0.0, 1.0, data.features, data.train)
    windows = build_windows([frame], 0, settings.sequence_length)
    return split_at(windows, float(int(len(data.train) * settings.train_split_ratio)), 1.0)


# Sequences


def judged(target: Reals, forecast: Reals, settled: bool) -> Sequences:
    """The anomalous sequences of a test part, in its rows.

    Args:
        target, forecast: float64 (samples of test,).
        settled: whether the first errors are replaced by their mean.
    """
    rows = slice(HISTORY, len(target) - AHEAD)
    errors = smooth(np.abs(target - forecast)[rows], SPAN, HISTORY if settled else 0)
    found = sequences(errors, MovingGate(target[rows]), ignore=ignored(len(errors), HISTORY))
    return Sequences(found.starts + HISTORY, found.ends + HISTORY, found.scores)


# The report


def line_of(outcome: Outcome) -> str:
    counts = outcome.counts
    return (
        f"{outcome.spacecraft} {outcome.channel}, seed {outcome.seed}: "
        f"{counts.found} found, {counts.missed} missed, {counts.false} false"
    )


def report(outcomes: Sequence[Outcome]) -> None:
    """A table for each spacecraft and one for all, with what is published for these channels."""
    parts = [(name,) for name in dict.fromkeys(each.spacecraft for each in outcomes)]
    for part in [*parts, sum(parts, ())] if len(parts) > 1 else parts:
        own = [each for each in outcomes if each.spacecraft in part]
        channels = {each.channel for each in own}
        print(f"\n{' and '.join(part)}, {len(channels)} channels")
        titles = ("found", "missed", "false", "P", "R", "F0.5")
        print(f"{'':24}" + "".join(f"{title:>7}" for title in titles))
        for seed in sorted({each.seed for each in own}):
            counts = total(each.counts for each in own if each.seed == seed)
            print(row_of(f"promad, seed {seed}", counts))
        for run, counts in published(channels).items():
            print(row_of(run, counts))


def published(channels: Collection[str]) -> dict[str, SequenceCounts]:
    """What each published run counts for the channels that are published, together."""
    digits = {name: runs for name, *runs in (entry.split() for entry in _COUNTS.split(","))}
    return {
        run: total(
            SequenceCounts(*map(int, digits[name][number])) for name in channels if name in digits
        )
        for number, run in enumerate(RUNS)
    }


def total(counts: Iterable[SequenceCounts]) -> SequenceCounts:
    return sum(counts, SequenceCounts(0, 0, 0))


def row_of(name: str, counts: SequenceCounts) -> str:
    whole = (counts.found, counts.missed, counts.false)
    rates = (counts.precision, counts.recall, counts.f_beta(0.5))
    return (
        f"{name:24}"
        + "".join(f"{count:7.0f}" for count in whole)
        + "".join(f"{rate:7.3f}" for rate in rates)
    )


if __name__ == "__main__":
    main()
